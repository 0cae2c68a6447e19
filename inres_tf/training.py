"""Training: a loop of our own on `tf.distribute`, with Keras callbacks.

`Model.fit` fails under `MultiWorkerMirroredStrategy` and cannot resume bit for bit, so
the loop is here: `strategy.run` of one step, batches that are functions of (seed,
epoch, index), and checkpoints from which a run goes on as if never interrupted.
"""

import contextlib
import dataclasses
import math
import pathlib
import signal
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from inres_tf import checkpoints, plots, runs, strategies
from inres_tf import data as data_module
from inres_tf.config import setting
from inres_tf.errors import UserError
from inres_tf.evaluation import Classifier
from inres_tf.layers import damping_rates
from inres_tf.logits import logits_fn
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
    output_dir: str | None = setting(None, "Folder of this run, for all it writes.")
    resume: bool = setting(
        False, "Go on from the last checkpoint in --output_dir, if there is one."
    )
    verbose: int = setting(
        -1, "0 silent, 1 progress bar, 2 a line an epoch, -1: 1 on a terminal, else 2."
    )

    def __post_init__(self):
        super().__post_init__()
        checks = (
            ("epochs", self.epochs >= 1, "at least 1"),
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
            raise UserError("--output_dir must name the folder of this run")
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


def step_schedule(learning_rate: float, steps: int):
    """The protocol's schedule: a tenth after half of the run, again after 3/4.

    Args:
        learning_rate: the initial rate.
        steps: optimiser steps of the whole run.

    Returns:
        A Keras schedule.
    """
    # Keras keeps a value up to and including its boundary.
    boundaries = [max(0, math.ceil(steps * part) - 1) for part in (1 / 2, 3 / 4)]
    values = [learning_rate, learning_rate / 10, learning_rate / 100]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def make_step(model, strategy, weight_decay: float) -> Callable:
    """The compiled training step.

    Args:
        model: compiled model made under `strategy`.
        strategy: the distribution strategy.
        weight_decay: coefficient of the L2 gradient on every trainable variable.

    Returns:
        Function of one distributed (images, labels) giving the mean cross-entropy of
        the global batch and the number of images classified rightly, before the update.
    """
    replicas = strategy.num_replicas_in_sync
    logits_of = logits_fn(model)
    variables = model.trainable_variables

    def replica_step(images, labels):
        with tf.GradientTape() as tape:
            logits = logits_of(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            # The optimiser sums over replicas, so each gives its share of the mean.
            loss = tf.reduce_mean(losses) / replicas
        gradients = tape.gradient(loss, variables)
        gradients = [
            g + (weight_decay / replicas) * v for g, v in zip(gradients, variables)
        ]
        model.optimizer.apply(gradients, variables)
        right = tf.equal(tf.argmax(logits, -1, output_type=labels.dtype), labels)
        return loss, tf.reduce_sum(tf.cast(right, tf.float32))

    @tf.function
    def step(images, labels):
        per_replica = strategy.run(replica_step, args=(images, labels))
        return [
            strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for value in per_replica
        ]

    return step


def synchronize_batch_norm(model, synchronized: bool) -> None:
    """Makes batch statistics those of the global batch, or of each replica's part.

    Without it the replicas' moving averages drift apart and only the first one's are
    saved.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


@contextlib.contextmanager
def _interrupts():
    """Yields a list that a first Ctrl-C appends to; a second one interrupts."""
    caught = []

    def handle(number, frame):
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        previous = signal.signal(signal.SIGINT, handle)
    except ValueError:  # not in the main thread: there Ctrl-C does not arrive
        yield caught
        return
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, previous)


class _Replay(keras.callbacks.EarlyStopping):
    """Early stopping that a resumed run goes on with where it was."""

    def __init__(self, history, patience):
        super().__init__(monitor="val_loss", patience=patience)
        self._history = history

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        for row in self._history:
            self.on_epoch_end(row["epoch"] - 1, row)


class _LogRates(keras.callbacks.TensorBoard):
    """TensorBoard with λ of every damped block beside Keras' scalars."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        with self._train_writer.as_default():
            for name, rate in damping_rates(self.model).items():
                tf.summary.scalar(f"lambda/{name}", rate, step=epoch)


class Loop:
    """The training loop over epochs and steps.

    Args:
        model: compiled model made under `strategy`.
        strategy: the distribution strategy.
        pipeline: the training batches.
        validation: images that are evaluated after every epoch.
        weight_decay: see `make_step`.
        save: called with (loop, step) to write a checkpoint; returns its folder.
        schedule: learning rate by optimiser step.
        checkpoint_every: epochs between checkpoints.
        state: as `state` gives it, to go on from; None to begin.
    """

    def __init__(
        self,
        model,
        strategy,
        pipeline: TrainingPipeline,
        validation: data_module.Images,
        weight_decay: float,
        save: Callable,
        schedule: Callable,
        checkpoint_every: int = 1,
        state: dict | None = None,
    ):
        self.model, self.strategy, self.pipeline = model, strategy, pipeline
        self.validation = validation
        self._save, self._checkpoint_every = save, checkpoint_every
        self._schedule = schedule
        self._step = make_step(model, strategy, weight_decay)
        self._classifier = Classifier(model, batch_size=pipeline.batch_size)
        self.history: list[dict] = []
        self.epoch = self.step_in_epoch = 0
        self._loss = self._right = self._seconds = 0.0
        if state is not None:
            self.history = state["history"]
            self.epoch, self.step_in_epoch = state["epoch"], state["step_in_epoch"]
            self._loss, self._right = state["loss"], state["right"]
            self._seconds = state["seconds"]

    @property
    def state(self) -> dict:
        """All but the model that a resumed loop needs, as JSON."""
        return {
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "loss": self._loss,
            "right": self._right,
            "seconds": self._seconds,
            "history": self.history,
        }

    @property
    def steps_done(self) -> int:
        """Optimiser steps done since the beginning of the run."""
        return self.epoch * self.pipeline.steps_per_epoch + self.step_in_epoch

    def run(self, epochs: int, callbacks, verbose: int) -> bool:
        """Trains up to `epochs`, from wherever the loop stands.

        Args:
            epochs: epochs of the whole run.
            callbacks: Keras callbacks.
            verbose: 0 silent, 1 progress bar, 2 a line an epoch.

        Returns:
            False if Ctrl-C ended the run, after a checkpoint; else True.

        Raises:
            UserError: if the loss is not finite, naming the step.
        """
        calls = keras.callbacks.CallbackList(
            callbacks,
            add_progbar=verbose > 0,
            model=self.model,
            verbose=verbose,
            epochs=epochs,
            steps=self.pipeline.steps_per_epoch,
        )
        self.model.stop_training = False
        calls.on_train_begin()
        checkpointed = None
        try:
            with _interrupts() as caught:
                while self.epoch < epochs and not self.model.stop_training:
                    calls.on_epoch_begin(self.epoch)
                    if not self._train_epoch(calls, caught):
                        self._save(self)
                        return False
                    logs = self._end_epoch()
                    calls.on_epoch_end(self.epoch - 1, logs)
                    if caught or self.epoch % self._checkpoint_every == 0:
                        self._save(self)
                        checkpointed = self.epoch
                    if caught and self.epoch < epochs:
                        return False
                if checkpointed != self.epoch:
                    self._save(self)
        finally:
            calls.on_train_end()
        return True

    def _train_epoch(self, calls, caught) -> bool:
        """Runs the rest of the epoch; False if Ctrl-C ended it before its last step."""
        epoch, first = self.epoch, self.step_in_epoch
        batches = self.strategy.distribute_datasets_from_function(
            lambda context: self.pipeline.batches(epoch, first, context)
        )
        began = time.perf_counter()
        try:
            for images, labels in batches:
                if caught:
                    return False
                calls.on_train_batch_begin(self.step_in_epoch)
                loss, right = (float(v) for v in self._step(images, labels))
                if not math.isfinite(loss):
                    raise UserError(
                        f"the loss became {loss} at step {self.steps_done + 1} (epoch "
                        f"{epoch + 1}, step {self.step_in_epoch + 1}); the last "
                        "checkpoint is from before it. A lower --learning_rate may help"
                    )
                self._loss, self._right = self._loss + loss, self._right + right
                self.step_in_epoch += 1
                calls.on_train_batch_end(self.step_in_epoch - 1, self._train_logs())
        finally:
            self._seconds += time.perf_counter() - began
        return True

    def _train_logs(self) -> dict:
        images = self.step_in_epoch * self.pipeline.batch_size
        return {
            "loss": self._loss / self.step_in_epoch,
            "accuracy": self._right / images,
        }

    def _end_epoch(self) -> dict:
        """Evaluates, adds the epoch to the history and gives its scalars."""
        done = self.step_in_epoch * self.pipeline.batch_size
        logs = self._train_logs()
        logs |= self._classifier.metrics(self.validation, prefix="val_")
        logs["learning_rate"] = float(self._schedule(self.steps_done - 1))
        logs["images_per_second"] = done / self._seconds
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self._loss = self._right = self._seconds = 0.0
        row = {"epoch": self.epoch, "step": self.steps_done, **logs}
        self.history.append({**row, "lambda": damping_rates(self.model)})
        return logs


def train(config: TrainConfig, build_model: Callable) -> TrainResult:
    """Trains a model as `config` says and leaves a run's folder.

    The folder holds `config.json`, `metrics.jsonl`, `checkpoints/`, `tensorboard/`,
    `curves.png`, `lambda.png` (for damped networks) and at the end `model.keras`.

    Args:
        config: the run's settings.
        build_model: function of (input shape, number of classes) that builds a
            classifier of uint8 pixels.

    Raises:
        UserError: for what the user can mend; OSError where the disk refuses.
    """
    folder = pathlib.Path(config.output_dir)
    runs.check(folder, config, config.resume, MAY_CHANGE)
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
            model, state = checkpoints.restore(saved[-1])
        else:
            keras.utils.set_random_seed(config.seed)
            model = build_model(dataset.shape, len(dataset.class_names))
            model.compile(
                keras.optimizers.SGD(schedule, config.momentum),
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
            )
            model.optimizer.build(model.trainable_variables)
    runs.write_config(folder, config)
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
    callbacks = [_LogRates(folder / "tensorboard", write_graph=False)]
    if config.early_stopping:
        callbacks.append(_Replay(list(loop.history), config.early_stopping))
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
