"""The settings of a training run, and the recipes that give their defaults."""

import dataclasses

from inres_tf.config import config_field
from inres_tf.data.dataset import DataConfig
from inres_tf.data.images import AUGMENTATIONS
from inres_tf.distribution.config import StrategyConfig
from inres_tf.errors import UserError
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.schedules import SCHEDULES, LambdaSchedule

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


def _by_recipe(name, help, **accepted):
    """A setting whose default is its recipe's."""
    values = ", ".join(f"{recipe}: {v[name]}" for recipe, v in RECIPES.items())
    return config_field(None, f"{help} Default by recipe: {values}.", **accepted)


@dataclasses.dataclass(frozen=True)
class TrainConfig(DataConfig, StrategyConfig, ObjectiveConfig):
    """Settings of a training run; each is a flag of `train.train`.

    What is None takes the value of the recipe.
    """

    model: str = config_field("in_resnet20", "Model of the zoo to train.")
    recipe: str = config_field(
        "paper",
        "Defaults of the flags below that name it. paper: the protocol of the paper; "
        "fast: the best accuracy for little time.",
        choices=RECIPES,
    )
    epochs: int = _by_recipe(
        "epochs", "Passes over the training images.", bounds="[1, 1000000]"
    )
    batch_size: int = _by_recipe(
        "batch_size",
        "Images a step, over all devices together.",
        bounds="[1, inf)",
    )
    learning_rate: float = _by_recipe(
        "learning_rate", "The highest rate.", bounds="(0, inf)"
    )
    schedule: str = _by_recipe(
        "schedule",
        "step: a tenth after 1/2 of the epochs, a hundredth after 3/4; cosine: to 0.",
        choices=SCHEDULES,
    )
    warmup: float = _by_recipe(
        "warmup",
        "Part of the run in which the rate grows from 0, under cosine.",
        bounds="[0, 1)",
    )
    momentum: float = config_field(0.9, "Momentum of SGD.", bounds="[0, 1)")
    nesterov: bool = _by_recipe("nesterov", "Nesterov's momentum.")
    weight_decay: float = _by_recipe(
        "weight_decay",
        "L2 gradient on every trainable variable: coupled weight decay.",
        bounds="[0, inf)",
    )
    label_smoothing: float = _by_recipe(
        "label_smoothing",
        "Part of the target that is spread over all classes.",
        bounds="[0, 1)",
    )
    ema: float = _by_recipe(
        "ema",
        "Decay of the moving average of the weights that is evaluated and saved as the "
        "model; 0: the weights themselves.",
        bounds="[0, 1)",
    )
    lambda_schedule: str = config_field(
        "learn",
        "λ of all damped blocks: learn: trained; fixed:V; linear:A:B over the run; "
        "warm:P: 0, a ResNet, for the first part P of the run, then trained.",
    )
    precision: str = config_field(
        "float32",
        "Of activations and their gradients; weights stay float32. float16 scales the "
        "loss.",
        choices=PRECISIONS,
    )
    accumulate_steps: int = config_field(
        1,
        "Parts, one after the other, that each device divides its images of a step "
        "into: less memory. Batch statistics are those of a part.",
        bounds="[1, inf)",
    )
    rematerialize: bool = config_field(
        False,
        "Compute blocks again in the backward pass instead of keeping their "
        "activations: less memory, more time.",
    )
    steps_per_execution: int = config_field(
        1,
        "Steps that run on the devices before the host looks again.",
        bounds="[1, inf)",
    )
    sync_batch_norm: bool = config_field(
        True,
        "Batch statistics of the global batch. Without it each device has its own, and "
        "their moving averages are averaged before evaluating and saving.",
    )
    augmentation: str = config_field(
        "auto",
        "auto: crop_flip, or crop where mirrored images are other symbols (digits).",
        choices=("auto", *AUGMENTATIONS),
    )
    validation_fraction: float = config_field(
        0.0,
        "Part of the training images to validate on each epoch; 0: the test images are "
        "evaluated each epoch, as in the paper, and nothing is chosen by it.",
        bounds="[0, 1)",
    )
    early_stopping: int = config_field(
        0,
        "Stop after this many epochs without a lower validation loss; 0: never. Needs "
        "--validation_fraction.",
        bounds="[0, inf)",
    )
    seed: int = config_field(
        0,
        "Seed of the weights, the order and the augmentation.",
        bounds="[0, 2147483647]",
    )
    checkpoint_every: int = config_field(
        1, "Epochs between checkpoints.", bounds="[1, inf)"
    )
    output_dir: str = config_field(
        None,
        "Folder for all this run writes; runs/MODEL-DATASET-seedSEED by default.",
    )
    resume: bool = config_field(
        True,
        "Go on from the last checkpoint in --output_dir, if there is one of this run.",
    )
    verbose: int = config_field(
        -1,
        "0 silent, 1 progress bar, 2 lines for a log, -1: 1 on a terminal, else 2.",
        bounds="[-1, 2]",
    )

    def __post_init__(self):
        if self.recipe not in RECIPES:
            super().__post_init__()  # which says so
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
        super().__post_init__()
        self._check()

    def _check(self):
        LambdaSchedule(self.lambda_schedule)
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
PER_WORKER = ("worker_index", "output_dir", "data_dir", "download", "verbose")

# What may differ when a run is resumed: where it runs, not what it computes.
CHANGEABLE_ON_RESUME = (
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
