"""A training run: from its settings to its folder, whole or resumed."""

import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable

import keras
import numpy as np

from inres_tf import checkpoints, plots, runs, strategies
from inres_tf import data as data_module
from inres_tf.config import setting
from inres_tf.errors import UserError
from inres_tf.layers import damping_rates
from inres_tf.loop import (
    Loop,
    ResumableEarlyStopping,
    TensorBoard,
    step_schedule,
    synchronize_batch_norm,
)
from inres_tf.pipeline import AUGMENTATIONS, TrainingPipeline


@dataclasses.dataclass(frozen=True)
class TrainConfig(data_module.DataConfig):
    """Settings of a training run; each is a flag of `train.train`.

    The defaults are the paper's protocol for CIFAR-10 (Yang et al. 2020).
    """

    model: str = setting("in_resnet20", "Model of the zoo to train.")
    epochs: int = setting(160, "Passes over the training images.")
    batch_size: int = setting(128, "Images a step, over all devices together.")
    learning_rate: float = setting(
        0.1, "Initial rate; a tenth after 1/2 of the epochs, a hundredth after 3/4."
    )
    momentum: float = setting(0.9, "Momentum of SGD (no Nesterov).")
    weight_decay: float = setting(
        1e-4, "L2 gradient on every trainable variable: coupled weight decay."
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
    strategy: str = setting(
        "auto",
        "one_device, mirrored (all GPUs), or auto: mirrored if there are several GPUs.",
        strategies.STRATEGIES,
    )
    logical_cpus: int = setting(
        1, "Split the CPU into this many devices, to try mirrored without GPUs."
    )
    checkpoint_every: int = setting(1, "Epochs between checkpoints.")
    output_dir: str | None = setting(
        None,
        "Folder for all this run writes; runs/MODEL-DATASET-seedSEED by default.",
    )
    resume: bool = setting(
        False, "Go on from the last checkpoint in --output_dir, if there is one."
    )
    verbose: int = setting(
        -1, "0 silent, 1 progress bar, 2 a line an epoch, -1: 1 on a terminal, else 2."
    )

    def __post_init__(self):
        super().__post_init__()
        checks = (
            ("epochs", 1 <= self.epochs <= 10**6, "from 1 to 1000000"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "positive"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("validation_fraction", 0 <= self.validation_fraction < 1, "in [0, 1)"),
            ("early_stopping", self.early_stopping >= 0, "at least 0"),
            ("seed", 0 <= self.seed < 2**31, "in [0, 2^31)"),
            ("logical_cpus", self.logical_cpus >= 1, "at least 1"),
            ("checkpoint_every", self.checkpoint_every >= 1, "at least 1"),
        )
        for name, passed, accepted in checks:
            if not passed:
                raise UserError(
                    f"--{name} must be {accepted}; got {getattr(self, name)}"
                )
        if not self.output_dir:
            dataset = self.dataset.rstrip("/").replace(":", "/").split("/")[-1]
            folder = f"runs/{self.model}-{dataset}-seed{self.seed}"
            object.__setattr__(self, "output_dir", folder)
        if self.early_stopping and not self.validation_fraction:
            raise UserError(
                "--early_stopping needs --validation_fraction, such as 0.1: chosen on "
                "the test images, the last epoch's accuracy would be too good"
            )


# What may differ when a run is resumed: where it runs, not what it computes.
MAY_CHANGE = (
    "data_dir",
    "download",
    "resume",
    "verbose",
    "output_dir",
    "checkpoint_every",
)


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What `train` leaves.

    Attributes:
        model: the trained model, compiled with its optimiser.
        history: a dict of metrics for each epoch, as in `metrics.jsonl`.
        model_path: file of the finished model; None if interrupted.
        checkpoint: folder of the newest checkpoint.
        interrupted: whether Ctrl-C ended the run.
    """

    model: keras.Model
    history: list[dict]
    model_path: pathlib.Path | None
    checkpoint: pathlib.Path | None
    interrupted: bool


def train(config: TrainConfig, build_model: Callable, callbacks=()) -> TrainResult:
    """Trains a model as `config` says and leaves a run's folder.

    The folder holds `config.json`, `metrics.jsonl`, `checkpoints/`, `tensorboard/`,
    `curves.png`, `lambda.png` (for damped networks) and at the end `model.keras`.

    Args:
        config: the run's settings.
        build_model: function of (input shape, number of classes) that builds a
            classifier of uint8 pixels.
        callbacks: Keras callbacks beside those of the run itself.

    Raises:
        UserError: for what the user can mend; OSError where the disk refuses.
    """
    folder = pathlib.Path(config.output_dir)
    flags = dataclasses.asdict(config)
    runs.check(folder, flags, config.resume, MAY_CHANGE)
    strategy = strategies.make(config.strategy, config.logical_cpus)
    dataset = config.load()
    training, validation = dataset.train, dataset.test
    if config.validation_fraction:
        training, validation = data_module.hold_out(
            training, config.validation_fraction
        )
    augmentation = config.augmentation
    if augmentation == "auto":
        augmentation = dataset.augmentation
    pipeline = TrainingPipeline(training, config.batch_size, augmentation, config.seed)
    if config.batch_size % strategy.num_replicas_in_sync:
        raise UserError(
            f"--batch_size={config.batch_size} is not a multiple of the "
            f"{strategy.num_replicas_in_sync} devices it is divided over"
        )

    steps = config.epochs * pipeline.steps_per_epoch
    schedule = step_schedule(config.learning_rate, steps)
    state, model = None, None
    saved = checkpoints.list_checkpoints(folder / "checkpoints")
    with strategy.scope():
        if saved and config.resume:
            model, state = checkpoints.restore(saved[-1], Loop.STATE)
        else:
            keras.utils.set_random_seed(config.seed)
            model = build_model(dataset.shape, len(dataset.class_names))
            model.compile(
                keras.optimizers.SGD(schedule, config.momentum),
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
            )
            model.optimizer.build(model.trainable_variables)
    runs.write_config(folder, flags, config.seed)
    if strategy.num_replicas_in_sync > 1:
        synchronize_batch_norm(model, True)

    newest = [saved[-1] if saved else None]

    def save(loop):
        newest[0] = checkpoints.save(
            folder / "checkpoints", loop.model, loop.state, loop.steps_done
        )
        runs.write_metrics(folder, loop.history)

    loop = Loop(
        model,
        strategy,
        pipeline,
        validation,
        config.weight_decay,
        save,
        schedule,
        config.checkpoint_every,
        state,
    )
    callbacks = [*callbacks, TensorBoard(folder / "tensorboard", write_graph=False)]
    if config.early_stopping:
        callbacks.append(
            ResumableEarlyStopping(list(loop.history), config.early_stopping)
        )
    verbose = config.verbose
    if verbose < 0:
        verbose = 1 if sys.stdout.isatty() else 2
    finished = loop.run(config.epochs, callbacks, verbose)

    path = None
    if finished:
        path = folder / "model.keras"
        synchronize_batch_norm(model, False)
        with checkpoints.atomic(path) as temporary:
            model.save(temporary)
        plots.save(
            plots.training_curves({config.model: loop.history}), folder / "curves.png"
        )
        if damping_rates(model):
            plots.save(
                plots.rates_by_depth({config.model: damping_rates(model)}),
                folder / "lambda.png",
            )
    return TrainResult(model, loop.history, path, newest[0], not finished)


def accuracy_of(history: list[dict]) -> float:
    """The last epoch's validation accuracy, in [0, 1]; nan before the first."""
    return history[-1]["val_accuracy"] if history else float(np.nan)
