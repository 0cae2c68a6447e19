"""The training loop: epochs and steps, Keras callbacks, signals.

This loop replaces `Model.fit`, which fails under `MultiWorkerMirroredStrategy` and
cannot resume bit for bit. Its batches are functions of (seed, epoch, index), and its
state allows a run to resume as if it had never been interrupted.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inres_tf.data.images import Images
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.distribution import workers
from inres_tf.distribution.classifier import Classifier
from inres_tf.errors import UserError
from inres_tf.layers import damping_rates, dead_blocks, set_damping_rates
from inres_tf.training.schedules import LambdaSchedule
from inres_tf.training.signals import Signals
from inres_tf.training.step import (
    CORRECT,
    INTERRUPTED,
    LOSS,
    PREEMPTED,
    batch_statistics,
)
from inres_tf.training.weight_averaging import averaged_weights


@dataclasses.dataclass
class State:
    """Everything except the model that the loop needs to resume, as JSON.

    Attributes:
        epoch: number of finished epochs.
        step_in_epoch: number of finished steps of the current epoch.
        loss: sum of the losses of these steps.
        right: number of their images that were classified correctly.
        seconds: time that these steps took.
        history: metrics of each finished epoch, as in `metrics.jsonl`.
        best: the epoch with the highest validation accuracy, with its `val_accuracy`
            and `val_loss`.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What the loop does besides the steps themselves.

    Attributes:
        learning_rate: the learning rate by optimiser step.
        damping: λ by optimiser step.
        save: function of the loop that writes a checkpoint.
        metrics: function that returns additional metrics of an epoch by name.
        checkpoint_every: epochs between checkpoints.
        steps_per_execution: steps that run on the devices before control returns to
            the host.
    """

    learning_rate: Callable[[int], float]
    damping: LambdaSchedule
    save: Callable[["Loop"], None]
    metrics: Callable[[], dict[str, float]] = dict
    checkpoint_every: int = 1
    steps_per_execution: int = 1


class Loop:
    """The training loop over epochs and steps, the same on all workers.

    Args:
        model: compiled model created under `strategy`.
        strategy: the distribution strategy.
        step: the training step, from `inres_tf.training.step.make_step`.
        pipeline: the training batches.
        validation: images that are evaluated after every epoch.
        plan: schedules, checkpoints and metrics.
        signals: the signals that stop the loop.
        state: the state to resume from; None to start a new run.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        *,
        step: Callable[..., tf.Tensor],
        pipeline: TrainingPipeline,
        validation: Images,
        plan: Plan,
        signals: Signals,
        state: State | None = None,
    ):
        self.model, self.strategy, self.pipeline = model, strategy, pipeline
        self.validation, self.plan, self.signals = validation, plan, signals
        self.state = state or State()
        self._step = step
        self._rate: float | None = None
        self._classifier = Classifier(model, batch_size=pipeline.batch_size)
        self._average_replicas = workers.replica_averaging(batch_statistics(model))

    @property
    def steps_done(self) -> int:
        """Number of finished optimiser steps since the start of the run."""
        state = self.state
        return state.epoch * self.pipeline.steps_per_epoch + state.step_in_epoch

    def run(self, epochs: int, callbacks: Iterable[keras.callbacks.Callback]) -> None:
        """Trains for `epochs` in total, or until a signal, and saves a checkpoint.

        Args:
            epochs: number of epochs of the whole run.
            callbacks: Keras callbacks. They may set `model.stop_training`.

        Raises:
            UserError: if the loss is not finite, naming the step.
        """
        calls = keras.callbacks.CallbackList(
            list(callbacks),
            model=self.model,
            epochs=epochs,
            steps=self.pipeline.steps_per_epoch,
        )
        self.model.stop_training = False
        calls.on_train_begin()
        saved_at = None
        try:
            while self.state.epoch < epochs and not self.model.stop_training:
                calls.on_epoch_begin(self.state.epoch)
                self._train_epoch(calls)
                if self.state.step_in_epoch < self.pipeline.steps_per_epoch:
                    break  # stopped by a signal
                logs = self._end_epoch()
                calls.on_epoch_end(self.state.epoch - 1, logs)
                if self.state.epoch % self.plan.checkpoint_every == 0:
                    self._checkpoint()
                    saved_at = self.steps_done
                if any(self.signals.global_stop):
                    break
            if saved_at != self.steps_done:
                self._average_replicas()
                self._checkpoint()
        finally:
            calls.on_train_end()

    def _checkpoint(self) -> None:
        kept = [row for row in self.state.history if not row.get("reverted")]
        if kept:
            best = max(kept, key=lambda row: row["val_accuracy"])
            self.state.best = {
                k: best[k] for k in ("epoch", "val_accuracy", "val_loss")
            }
        self.plan.save(self)

    def _train_epoch(self, calls: keras.callbacks.CallbackList) -> None:
        """Trains to the end of the epoch, or until a signal."""
        state, size = self.state, self.pipeline.steps_per_epoch
        batches = self._remaining_batches()
        start = time.perf_counter()
        try:
            while state.step_in_epoch < size and not any(self.signals.global_stop):
                calls.on_train_batch_begin(state.step_in_epoch)
                rows = self._execute(batches, size - state.step_in_epoch)
                for row in rows:
                    self._check_finite(row[LOSS], "loss", state.step_in_epoch + 1)
                    state.loss += float(row[LOSS])
                    state.right += float(row[CORRECT])
                    state.step_in_epoch += 1
                self.signals.note(rows[-1, [INTERRUPTED, PREEMPTED]])
                calls.on_train_batch_end(state.step_in_epoch - 1, self._train_logs())
        finally:
            state.seconds += time.perf_counter() - start

    def _remaining_batches(self) -> Iterator:
        """Iterates over the current epoch's batches that are not finished yet."""
        epoch, step = self.state.epoch, self.state.step_in_epoch
        return iter(
            self.strategy.distribute_datasets_from_function(
                lambda context: self.pipeline.batches(epoch, step, context)
            )
        )

    def _execute(self, batches: Iterator, limit: int) -> np.ndarray:
        """Runs up to `limit` steps in one execution, and returns a row for each."""
        step, damping = self.steps_done, self.plan.damping
        rate = damping.at(step)
        if rate is not None and rate != self._rate:
            set_damping_rates(self.model, rate)
        self._rate = rate
        count = min(self.plan.steps_per_execution, limit, damping.constant_for(step))
        learn = 1.0 if rate is None else 0.0
        return self._step(
            batches,
            tf.constant(count),
            tf.constant(step),
            tf.constant(learn),
            tf.constant(self.signals.local_stop),
        ).numpy()

    def _check_finite(self, loss: float, name: str, step: int) -> None:
        if not math.isfinite(loss):
            total = self.state.epoch * self.pipeline.steps_per_epoch + step
            raise UserError(
                f"the {name} became {loss} at step {total} (epoch "
                f"{self.state.epoch + 1}, step {step}); a lower --learning_rate may "
                "help"
            )

    def _train_logs(self) -> dict[str, float]:
        """Averages the loss and accuracy over the current epoch's steps so far."""
        images = self.state.step_in_epoch * self.pipeline.batch_size
        return {
            "loss": self.state.loss / self.state.step_in_epoch,
            "accuracy": self.state.right / images,
        }

    def _end_epoch(self) -> dict[str, float]:
        """Evaluates, appends the epoch to the history, and returns its metrics."""
        state = self.state
        images = state.step_in_epoch * self.pipeline.batch_size
        logs = self._train_logs()
        self._average_replicas()
        with averaged_weights(self.model), self.strategy.scope():
            self.plan_rates(self.steps_done)
            logs |= self._classifier.metrics(self.validation, prefix="val_")
            self._check_finite(logs["val_loss"], "validation loss", state.step_in_epoch)
            logs |= self.plan.metrics()
            rates = damping_rates(self.model)
        logs["learning_rate"] = float(self.plan.learning_rate(self.steps_done - 1))
        logs["images_per_second"] = images / state.seconds
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
        state.loss = state.right = state.seconds = 0.0
        row: dict[str, Any] = {"epoch": state.epoch, "step": self.steps_done, **logs}
        row |= {"lambda": rates, "dead_blocks": dead_blocks(rates)}
        state.history.append(row)
        return logs

    def plan_rates(self, steps: int) -> None:
        """Sets λ to its planned value at the last step, unless it is trained.

        An average of the weights contains λ of earlier steps.

        Args:
            steps: number of steps of which the last one is meant.
        """
        rate = self.plan.damping.at(steps - 1)
        if rate is not None:
            set_damping_rates(self.model, rate)
