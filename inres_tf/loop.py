"""The training loop: epochs and steps, Keras callbacks, signals.

`Model.fit` fails under `MultiWorkerMirroredStrategy` and cannot resume bit for bit, so
the loop is here: `strategy.run` of one step, batches that are functions of (seed,
epoch, index), and a state from which a run goes on as if never interrupted.
"""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from inres_tf import strategies
from inres_tf.classifier import Classifier
from inres_tf.data import Images
from inres_tf.errors import UserError
from inres_tf.layers import damping_rates, dead_blocks, set_damping_rates
from inres_tf.pipeline import TrainingPipeline
from inres_tf.schedules import LambdaSchedule
from inres_tf.step import INTERRUPTED, LOSS, PREEMPTED, RIGHT, batch_statistics


class Signals:
    """Notes Ctrl-C (SIGINT) and SIGTERM while in scope, to stop after a step.

    A second Ctrl-C interrupts at once.

    Args:
        alone: whether there is no other worker that has to stop at the same step.

    Attributes:
        told: whether Ctrl-C, and whether SIGTERM, has come to this process: 0.0 or 1.0.
        agreed: whether all workers know of a Ctrl-C, and of a SIGTERM.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, alone: bool):
        self._alone = alone
        self.told, self.agreed = [0.0, 0.0], [False, False]

    def __enter__(self):
        self._previous = {}
        for number in self._NUMBERS:
            # Not in the main thread: there signals do not arrive.
            with contextlib.suppress(ValueError):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        which = self._NUMBERS.index(number)
        if number == signal.SIGINT and self.told[which]:
            raise KeyboardInterrupt
        self.told[which] = 1.0
        if self._alone:
            self.note(self.told)

    def note(self, told) -> None:
        """Takes over what any worker was told."""
        self.agreed = [a or bool(t) for a, t in zip(self.agreed, told)]


class ResumableEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping on the validation loss that a resumed run goes on with.

    Args:
        history: rows of the epochs done so far.
        patience: epochs without a lower validation loss to wait.
    """

    def __init__(self, history, patience):
        super().__init__(monitor="val_loss", patience=patience)
        self._history = history

    def on_train_begin(self, logs=None):
        """Begins where the epochs done so far lead."""
        super().on_train_begin(logs)
        for row in self._history:
            self.on_epoch_end(row["epoch"] - 1, row)


def _optimizer(model):
    """The optimiser that holds the moving average, below one that scales the loss."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def use_averages(model) -> None:
    """Puts the moving average of the weights, if there is one, in their place."""
    optimizer = _optimizer(model)
    if optimizer.use_ema:
        optimizer.finalize_variable_values(model.trainable_variables)


@contextlib.contextmanager
def averaged_weights(model):
    """As `use_averages`, for a while."""
    if not _optimizer(model).use_ema:
        yield
        return
    kept = [(variable, variable.numpy()) for variable in model.trainable_variables]
    use_averages(model)
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


@dataclasses.dataclass
class State:
    """All but the model that a resumed loop needs, as JSON.

    Attributes:
        epoch: epochs done.
        step_in_epoch: steps done of the next one: the position in its order.
        loss: sum of their losses.
        right: images of them classified rightly.
        seconds: time they took.
        history: rows of the epochs done, with λ of each block.
        best: the highest validation accuracy so far, and its epoch.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: float = 0.0
    history: list[dict] = dataclasses.field(default_factory=list)
    best: dict = dataclasses.field(default_factory=dict)


class Loop:
    """The training loop over epochs and steps. All workers run it alike.

    Args:
        model: compiled model made under `strategy`.
        strategy: the distribution strategy.
        step: as `inres_tf.step.make_step` gives it.
        pipeline: the training batches.
        validation: images that are evaluated after every epoch.
        schedule: learning rate by optimiser step.
        lambda_schedule: λ by optimiser step.
        save: called with the loop to write a checkpoint.
        signals: what is told to stop, in scope.
        metrics: function giving more metrics of an epoch by name.
        checkpoint_every: epochs between checkpoints.
        steps_per_execution: steps that run before the host looks again.
        state: to go on from.
    """

    def __init__(
        self,
        model,
        strategy,
        step: Callable,
        pipeline: TrainingPipeline,
        validation: Images,
        schedule: Callable,
        lambda_schedule: LambdaSchedule,
        save: Callable,
        signals: Signals,
        metrics: Callable = dict,
        checkpoint_every: int = 1,
        steps_per_execution: int = 1,
        state: State | None = None,
    ):
        self.model, self.strategy, self.pipeline = model, strategy, pipeline
        self.validation, self.state = validation, state or State()
        self._step, self._save, self._metrics = step, save, metrics
        self._schedule, self._lambda_schedule = schedule, lambda_schedule
        self._checkpoint_every = checkpoint_every
        self._steps_per_execution = steps_per_execution
        self._rate = None
        self._classifier = Classifier(model, batch_size=pipeline.batch_size)
        self._agree = strategies.agreement(batch_statistics(model))
        self.signals = signals

    @property
    def steps_done(self) -> int:
        """Optimiser steps done since the beginning of the run."""
        state = self.state
        return state.epoch * self.pipeline.steps_per_epoch + state.step_in_epoch

    def run(self, epochs: int, callbacks) -> None:
        """Trains up to `epochs`, or until a signal; either ends with a checkpoint.

        Args:
            epochs: epochs of the whole run.
            callbacks: Keras callbacks.

        Raises:
            UserError: if the loss is not finite, naming the step.
        """
        calls = keras.callbacks.CallbackList(
            callbacks,
            model=self.model,
            epochs=epochs,
            steps=self.pipeline.steps_per_epoch,
        )
        self.model.stop_training = False
        calls.on_train_begin()
        saved = None
        try:
            while self.state.epoch < epochs and not self.model.stop_training:
                calls.on_epoch_begin(self.state.epoch)
                self._train_epoch(calls)
                if self.state.step_in_epoch < self.pipeline.steps_per_epoch:
                    break
                logs = self._end_epoch()
                calls.on_epoch_end(self.state.epoch - 1, logs)
                if self.state.epoch % self._checkpoint_every == 0:
                    self._checkpoint()
                    saved = self.steps_done
                if any(self.signals.agreed):
                    break
            if saved != self.steps_done:
                self._agree()
                self._checkpoint()
        finally:
            calls.on_train_end()

    def _checkpoint(self):
        kept = [row for row in self.state.history if not row.get("reverted")]
        if kept:
            best = max(kept, key=lambda row: row["val_accuracy"])
            self.state.best = {
                k: best[k] for k in ("epoch", "val_accuracy", "val_loss")
            }
        self._save(self)

    def _train_epoch(self, calls) -> None:
        """Runs the rest of the epoch, or up to a signal."""
        state, size = self.state, self.pipeline.steps_per_epoch
        epoch, first = state.epoch, state.step_in_epoch
        batches = iter(
            self.strategy.distribute_datasets_from_function(
                lambda context: self.pipeline.batches(epoch, first, context)
            )
        )
        began = time.perf_counter()
        try:
            while state.step_in_epoch < size and not any(self.signals.agreed):
                calls.on_train_batch_begin(state.step_in_epoch)
                for row in self._execute(batches, size - state.step_in_epoch):
                    self._check_finite(row[LOSS], "loss", state.step_in_epoch + 1)
                    state.loss += float(row[LOSS])
                    state.right += float(row[RIGHT])
                    state.step_in_epoch += 1
                self.signals.note((row[INTERRUPTED], row[PREEMPTED]))
                calls.on_train_batch_end(state.step_in_epoch - 1, self._train_logs())
        finally:
            state.seconds += time.perf_counter() - began

    def plan_rates(self) -> None:
        """Sets λ, where it is planned, as it was at the last step.

        An average of weights holds one of earlier values.
        """
        rate = self._lambda_schedule.at(self.steps_done - 1)
        if rate is not None:
            set_damping_rates(self.model, rate)

    def _execute(self, batches, most: int) -> np.ndarray:
        """Runs the steps of one execution, at most `most`, and gives their rows."""
        step = self.steps_done
        rate = self._lambda_schedule.at(step)
        if rate is not None and rate != self._rate:
            set_damping_rates(self.model, rate)
        self._rate = rate
        alike = self._lambda_schedule.alike(step)
        count = min(self._steps_per_execution, most, alike)
        learn = 1.0 if rate is None else 0.0
        return self._step(
            batches,
            tf.constant(count),
            tf.constant(step),
            tf.constant(learn),
            tf.constant(self.signals.told),
        ).numpy()

    def _check_finite(self, loss, name, step):
        if not math.isfinite(loss):
            total = self.state.epoch * self.pipeline.steps_per_epoch + step
            raise UserError(
                f"the {name} became {loss} at step {total} (epoch "
                f"{self.state.epoch + 1}, step {step}), which no checkpoint holds; a "
                "lower --learning_rate may help"
            )

    def _train_logs(self) -> dict:
        images = self.state.step_in_epoch * self.pipeline.batch_size
        return {
            "loss": self.state.loss / self.state.step_in_epoch,
            "accuracy": self.state.right / images,
        }

    def _end_epoch(self) -> dict:
        """Evaluates, adds the epoch to the history and gives its scalars."""
        state = self.state
        done = state.step_in_epoch * self.pipeline.batch_size
        logs = self._train_logs()
        self._agree()
        with averaged_weights(self.model), self.strategy.scope():
            self.plan_rates()
            logs |= self._classifier.metrics(self.validation, prefix="val_")
            self._check_finite(logs["val_loss"], "validation loss", state.step_in_epoch)
            logs |= self._metrics()
            rates = damping_rates(self.model)
        logs["learning_rate"] = float(self._schedule(self.steps_done - 1))
        logs["images_per_second"] = done / state.seconds
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
        state.loss = state.right = state.seconds = 0.0
        row = {"epoch": state.epoch, "step": self.steps_done, **logs}
        row |= {"lambda": rates, "dead_blocks": dead_blocks(rates)}
        state.history.append(row)
        return logs
