"""The training loop: a step under `tf.distribute`, epochs, Keras callbacks, Ctrl-C.

`Model.fit` fails under `MultiWorkerMirroredStrategy` and cannot resume bit for bit, so
the loop is here: `strategy.run` of one step, batches that are functions of (seed,
epoch, index), and a state from which a run goes on as if never interrupted.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from inres_tf.data import Images
from inres_tf.errors import UserError
from inres_tf.evaluation import Classifier
from inres_tf.layers import damping_rates, dead_blocks
from inres_tf.logits import logits_fn
from inres_tf.pipeline import TrainingPipeline


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


class TensorBoard(keras.callbacks.TensorBoard):
    """TensorBoard with λ of every damped block beside Keras' scalars."""

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's scalars."""
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
        save: called with the loop to write a checkpoint.
        schedule: learning rate by optimiser step.
        checkpoint_every: epochs between checkpoints.
        state: as `state` gives it, to go on from; None to begin.
    """

    # The keys of `state`.
    STATE = ("epoch", "step_in_epoch", "loss", "right", "seconds", "history")

    def __init__(
        self,
        model,
        strategy,
        pipeline: TrainingPipeline,
        validation: Images,
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
                self._check_finite(loss, "loss", self.step_in_epoch + 1)
                self._loss, self._right = self._loss + loss, self._right + right
                self.step_in_epoch += 1
                calls.on_train_batch_end(self.step_in_epoch - 1, self._train_logs())
        finally:
            self._seconds += time.perf_counter() - began
        return True

    def _check_finite(self, loss, name, step):
        if not math.isfinite(loss):
            total = self.epoch * self.pipeline.steps_per_epoch + step
            raise UserError(
                f"the {name} became {loss} at step {total} (epoch {self.epoch + 1}, "
                f"step {step}), which no checkpoint holds; a lower --learning_rate may "
                "help"
            )

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
        self._check_finite(logs["val_loss"], "validation loss", self.step_in_epoch)
        logs["learning_rate"] = float(self._schedule(self.steps_done - 1))
        logs["images_per_second"] = done / self._seconds
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self._loss = self._right = self._seconds = 0.0
        rates = damping_rates(self.model)
        row = {"epoch": self.epoch, "step": self.steps_done, **logs}
        row |= {"lambda": rates, "dead_blocks": dead_blocks(rates)}
        self.history.append(row)
        return logs
