"""The settings of a training run, and the recipes that give their defaults."""

import dataclasses
import math

from inres_tf import data, objectives, schedules, strategies
from inres_tf.config import setting
from inres_tf.errors import UserError
from inres_tf.pipeline import AUGMENTATIONS

# The protocol of the paper (Yang et al. 2020), and what of several others reached the
# highest accuracy in few epochs (docs/results.md).
RECIPES = {
    "paper": {
        "epochs": 160,
        "batch_size": 128,
        "learning_rate": 0.1,
        "schedule": "step",
        "warmup": 0.0,
        "nesterov": False,
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
        "ema": 0.0,
    },
    "fast": {
        "epochs": 16,
        "batch_size": 256,
        "learning_rate": 0.2,
        "schedule": "cosine",
        "warmup": 0.15,
        "nesterov": True,
        "weight_decay": 5e-4,
        "label_smoothing": 0.0,
        "ema": 0.0,
    },
}
# Where a data set has a protocol of its own.
_OF_DATASET = {("paper", "cifar100"): {"epochs": 300}}

PRECISIONS = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


def _by_recipe(name, help, choices=None):
    """A setting whose default is its recipe's."""
    values = ", ".join(f"{recipe}: {v[name]}" for recipe, v in RECIPES.items())
    return setting(None, f"{help} Default by recipe: {values}.", choices)


@dataclasses.dataclass(frozen=True)
class TrainConfig(
    data.DataConfig, strategies.StrategyConfig, objectives.ObjectiveConfig
):
    """Settings of a training run; each is a flag of `train.train`.

    What is None takes the value of the recipe.
    """

    model: str = setting("in_resnet20", "Model of the zoo to train.")
    recipe: str = setting(
        "paper",
        "Defaults of the flags below that name it. paper: the protocol of the paper; "
        "fast: the best accuracy for little time.",
        tuple(RECIPES),
    )
    epochs: int | None = _by_recipe("epochs", "Passes over the training images.")
    batch_size: int | None = _by_recipe(
        "batch_size", "Images a step, over all devices together."
    )
    learning_rate: float | None = _by_recipe("learning_rate", "The highest rate.")
    schedule: str | None = _by_recipe(
        "schedule",
        "step: a tenth after 1/2 of the epochs, a hundredth after 3/4; cosine: to 0.",
        schedules.SCHEDULES,
    )
    warmup: float | None = _by_recipe(
        "warmup", "Part of the run in which the rate grows from 0, under cosine."
    )
    momentum: float = setting(0.9, "Momentum of SGD.")
    nesterov: bool | None = _by_recipe("nesterov", "Nesterov's momentum.")
    weight_decay: float | None = _by_recipe(
        "weight_decay", "L2 gradient on every trainable variable: coupled weight decay."
    )
    label_smoothing: float | None = _by_recipe(
        "label_smoothing", "Part of the target that is spread over all classes."
    )
    ema: float | None = _by_recipe(
        "ema",
        "Decay of the moving average of the weights that is evaluated and saved as the "
        "model; 0: the weights themselves.",
    )
    lambda_schedule: str = setting(
        "learn",
        "λ of all damped blocks: learn: trained; fixed:V; linear:A:B over the run; "
        "warm:P: 0, a ResNet, for the first part P of the run, then trained.",
    )
    precision: str = setting(
        "float32",
        "Of activations and their gradients; weights stay float32. float16 scales the "
        "loss.",
        tuple(PRECISIONS),
    )
    accumulate_steps: int = setting(
        1,
        "Parts, one after the other, that each device divides its images of a step "
        "into: less memory. Batch statistics are those of a part.",
    )
    rematerialize: bool = setting(
        False,
        "Compute blocks again in the backward pass instead of keeping their "
        "activations: less memory, more time.",
    )
    steps_per_execution: int = setting(
        1, "Steps that run on the devices before the host looks again."
    )
    sync_batch_norm: bool = setting(
        True,
        "Batch statistics of the global batch. Without it each device has its own, and "
        "their moving averages are averaged before evaluating and saving.",
    )
    augmentation: str = setting(
        "auto",
        "auto: crop_flip, or crop where mirrored images are other symbols (digits).",
        ("auto", *AUGMENTATIONS),
    )
    validation_fraction: float = setting(
        0.0,
        "Part of the training images to validate on each epoch; 0: the test images are "
        "evaluated each epoch, as in the paper, and nothing is chosen by it.",
    )
    early_stopping: int = setting(
        0,
        "Stop after this many epochs without a lower validation loss; 0: never. Needs "
        "--validation_fraction.",
    )
    seed: int = setting(0, "Seed of the weights, the order and the augmentation.")
    checkpoint_every: int = setting(1, "Epochs between checkpoints.")
    output_dir: str | None = setting(
        None,
        "Folder for all this run writes; runs/MODEL-DATASET-seedSEED by default.",
    )
    resume: bool = setting(
        True,
        "Go on from the last checkpoint in --output_dir, if there is one of this run.",
    )
    verbose: int = setting(
        -1, "0 silent, 1 progress bar, 2 lines for a log, -1: 1 on a terminal, else 2."
    )

    def __post_init__(self):
        self._check_choice("recipe", RECIPES)
        dataset = self.dataset.split(":")[0]
        defaults = RECIPES[self.recipe] | _OF_DATASET.get((self.recipe, dataset), {})
        # Given flags leave no place for what hangs on others.
        if self.schedule not in (None, "cosine"):
            defaults |= {"warmup": 0.0}
        if not self.momentum:
            defaults |= {"nesterov": False}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if not self.output_dir:
            if dataset == "folder":
                dataset = self.dataset.rstrip("/").split("/")[-1].split(":")[-1]
            folder = f"runs/{self.model}-{dataset}-seed{self.seed}"
            object.__setattr__(self, "output_dir", folder)
        for base in TrainConfig.__bases__:
            base.__post_init__(self)
        self._check()

    def _check_choice(self, name, choices):
        if getattr(self, name) not in choices:
            raise UserError(
                f"--{name} must be one of {', '.join(choices)}; got "
                f"{getattr(self, name)!r}"
            )

    def _check(self):
        checks = (
            ("epochs", 1 <= self.epochs <= 10**6, "from 1 to 1000000"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "positive"),
            ("warmup", 0 <= self.warmup < 1, "in [0, 1)"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("ema", 0 <= self.ema < 1, "in [0, 1)"),
            ("accumulate_steps", self.accumulate_steps >= 1, "at least 1"),
            ("steps_per_execution", self.steps_per_execution >= 1, "at least 1"),
            ("validation_fraction", 0 <= self.validation_fraction < 1, "in [0, 1)"),
            ("early_stopping", self.early_stopping >= 0, "at least 0"),
            ("seed", 0 <= self.seed < 2**31, "in [0, 2^31)"),
            ("checkpoint_every", self.checkpoint_every >= 1, "at least 1"),
            ("verbose", self.verbose in (-1, 0, 1, 2), "-1, 0, 1 or 2"),
        )
        for name, passed, accepted in checks:
            if not passed:
                raise UserError(
                    f"--{name} must be {accepted}; got {getattr(self, name)}"
                )
        self._check_choice("schedule", schedules.SCHEDULES)
        self._check_choice("precision", PRECISIONS)
        schedules.LambdaSchedule(self.lambda_schedule)
        if self.warmup and self.schedule != "cosine":
            raise UserError("--warmup needs --schedule=cosine")
        if self.nesterov and not self.momentum:
            raise UserError("--nesterov needs --momentum above 0")
        if self.precision == "float16" and self.objective not in ("clean", "noise"):
            raise UserError(
                f"--objective={self.objective} needs --precision=float32 or bfloat16: "
                "float16 gives confident networks input gradients of zero"
            )
        if self.early_stopping and not self.validation_fraction:
            raise UserError(
                "--early_stopping needs --validation_fraction, such as 0.1: chosen on "
                "the test images, the last epoch's accuracy would be too good"
            )


# What may differ between workers.
OF_ONE_WORKER = ("worker_index", "output_dir", "data_dir", "download", "verbose")

# What may differ when a run is resumed: where it runs, not what it computes.
MAY_CHANGE = (
    "data_dir",
    "download",
    "resume",
    "verbose",
    "output_dir",
    "checkpoint_every",
    "steps_per_execution",
    "strategy",
    "logical_cpus",
    "workers",
    "worker_index",
    "tpu",
)
