"""Settings of a training run, and the recipes that define their defaults."""

import dataclasses
from typing import Any

from inres_tf.config import config_field
from inres_tf.data.dataset import DataConfig
from inres_tf.data.images import AUGMENTATIONS
from inres_tf.distribution.config import StrategyConfig
from inres_tf.errors import UserError
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.schedules import SCHEDULES, LambdaSchedule

# The protocol of the paper (Yang et al. 2020), and the recipe with the highest accuracy
# after few epochs of those compared in docs/results.md.
RECIPES: dict[str, dict[str, Any]] = {
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
# Changes to a recipe for a dataset with its own protocol.
_RECIPE_CHANGES = {("paper", "cifar100"): {"epochs": 300}}

PRECISIONS = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


def _by_recipe(name: str, help: str, **limits: Any) -> Any:
    """A setting whose default depends on the recipe."""
    values = ", ".join(f"{recipe}: {v[name]}" for recipe, v in RECIPES.items())
    return config_field(None, f"{help} Default by recipe: {values}.", **limits)


@dataclasses.dataclass(frozen=True)
class TrainConfig(DataConfig, StrategyConfig, ObjectiveConfig):
    """Settings of a training run; each is a flag of `train.train`.

    Settings that are None take their value from the recipe.

    Raises:
        UserError: for a value that is out of range, or settings that contradict each
            other.

    Example:
        >>> from inres_tf import training
        >>> config = training.TrainConfig(recipe="fast", epochs=5)
        >>> config.epochs, config.schedule, config.output_dir
        (5, 'cosine', 'runs/in_resnet20-digits-seed0')
    """

    model: str = config_field("in_resnet20", "Model of the zoo to train.")
    weights: str | None = config_field(
        None,
        "Initial weights: a name of shipped weights of --model, a file, or a run's "
        "folder. If the number of classes differs, the classifier is random.",
        path=True,
    )
    recipe: str = config_field(
        "paper",
        "Sets the defaults of the flags that mention it. paper: the paper's protocol; "
        "fast: high accuracy in little time.",
        choices=RECIPES,
    )
    epochs: int = _by_recipe(
        "epochs", "Passes over the training images.", bounds="[1, 1000000]"
    )
    batch_size: int = _by_recipe(
        "batch_size",
        "Images per step, over all devices together.",
        bounds="[1, inf)",
    )
    learning_rate: float = _by_recipe(
        "learning_rate", "Highest learning rate.", bounds="(0, inf)"
    )
    schedule: str = _by_recipe(
        "schedule",
        "Schedule of the learning rate. step: divided by 10 after 1/2 and again after "
        "3/4 of the epochs; cosine: to 0.",
        choices=SCHEDULES,
    )
    warmup: float = _by_recipe(
        "warmup",
        "Fraction of the run in which the learning rate grows from 0; needs "
        "--schedule=cosine.",
        bounds="[0, 1)",
    )
    momentum: float = config_field(0.9, "Momentum of SGD.", bounds="[0, 1)")
    nesterov: bool = _by_recipe("nesterov", "Use Nesterov momentum.")
    weight_decay: float = _by_recipe(
        "weight_decay",
        "Coefficient of the L2 gradient on every trainable variable (coupled weight "
        "decay).",
        bounds="[0, inf)",
    )
    label_smoothing: float = _by_recipe(
        "label_smoothing",
        "Fraction of each label that is spread over all classes.",
        bounds="[0, 1)",
    )
    ema: float = _by_recipe(
        "ema",
        "Decay of the moving average of the weights that is evaluated and saved as the "
        "model; 0: no average.",
        bounds="[0, 1)",
    )
    lambda_schedule: str = config_field(
        "learn",
        "λ of all damped blocks. learn: trained; fixed:V: constant; linear:A:B: from A "
        "to B over the run; warm:P: 0 (a ResNet) for the first fraction P of the run, "
        "then trained.",
    )
    precision: str = config_field(
        "float32",
        "Precision of activations and their gradients; weights are float32. float16 "
        "uses loss scaling.",
        choices=PRECISIONS,
    )
    accumulate_steps: int = config_field(
        1,
        "Number of parts into which each device splits its batch, processed one after "
        "the other, to save memory. Batch statistics are those of a part.",
        bounds="[1, inf)",
    )
    rematerialize: bool = config_field(
        False,
        "Recompute blocks in the backward pass instead of keeping their activations: "
        "less memory, more time.",
    )
    steps_per_execution: int = config_field(
        1,
        "Steps that run on the devices before control returns to the host.",
        bounds="[1, inf)",
    )
    sync_batch_norm: bool = config_field(
        True,
        "Use the batch statistics of the global batch. Otherwise each device uses its "
        "own, and moving averages are averaged before evaluating and saving.",
    )
    augmentation: str = config_field(
        "auto",
        "Augmentation of the training images. auto: crop_flip, or crop for digits and "
        "the symbols of TensorFlow Datasets such as mnist, but not of folders. "
        "crop_alternating_flip: each image is mirrored in every other epoch instead of "
        "at random.",
        choices=("auto", *AUGMENTATIONS),
    )
    validation_fraction: float = config_field(
        0.0,
        "Fraction of the training images to hold out for validation after each epoch; "
        "0: validate on the test images, as in the paper, without choosing anything by "
        "the result.",
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
        "Seed of the initial weights, the order of the images, the augmentation and "
        "the objective.",
        bounds="[0, 2147483647]",
    )
    checkpoint_every: int = config_field(
        1, "Epochs between checkpoints.", bounds="[1, inf)"
    )
    output_dir: str = config_field(
        None,
        "Folder of the run; by default runs/MODEL-DATASET-seedSEED.",
        path=True,
    )
    resume: bool = config_field(
        True,
        "Resume from the last checkpoint if --output_dir already holds this run.",
    )
    verbose: int = config_field(
        -1,
        "0: silent; 1: progress bar; 2: lines for a log file; -1: 1 on a terminal, "
        "otherwise 2.",
        bounds="[-1, 2]",
    )

    def __post_init__(self) -> None:
        self._use_listed_choices()
        if self.recipe in RECIPES:
            self._set_defaults()
        super().__post_init__()
        self._check_combinations()

    def _set_defaults(self) -> None:
        dataset = self.dataset.split(":")[0]
        defaults = dict(RECIPES[self.recipe])
        defaults |= _RECIPE_CHANGES.get((self.recipe, dataset), {})
        # Defaults must not contradict the given flags.
        if self.schedule not in (None, "cosine"):
            defaults["warmup"] = 0.0
        if not self.momentum:
            defaults["nesterov"] = False
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if not self.output_dir:
            if dataset == "folder":
                dataset = self.dataset.rstrip("/").split("/")[-1].split(":")[-1]
            folder = f"runs/{self.model}-{dataset}-seed{self.seed}"
            object.__setattr__(self, "output_dir", folder)

    def _check_combinations(self) -> None:
        LambdaSchedule(self.lambda_schedule)
        if self.warmup and self.schedule != "cosine":
            raise UserError("--warmup needs --schedule=cosine")
        if self.nesterov and not self.momentum:
            raise UserError("--nesterov needs --momentum above 0")
        attacked = self.objective in ("pgd", "fgsm", "trades")
        if self.precision == "float16" and attacked:
            raise UserError(
                f"--objective={self.objective} needs --precision=float32 or bfloat16: "
                "in float16 the input gradients of confident networks are zero"
            )
        if self.early_stopping and not self.validation_fraction:
            raise UserError(
                "--early_stopping needs --validation_fraction, such as 0.1: stopping "
                "by the test images would bias the test accuracy"
            )


# Settings that may differ between workers.
PER_WORKER = ("worker_index", "output_dir", "data_dir", "download", "verbose")

# Settings that may change when a run resumes. They do not affect its results, but for
# the random numbers that layers and objectives draw on each device.
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
