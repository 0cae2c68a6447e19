"""Keras callbacks: TensorBoard, progress of a run, and early stopping."""

import os
import signal
import sys
import time
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams
from tqdm import tqdm

from inres_tf.layers import damping_rates, dead_blocks
from inres_tf.progress import SECONDS_BETWEEN_LINES
from inres_tf.training.signals import leave_terminal


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' TensorBoard callback with damping rates and hyperparameters.

    The sub-folder `train` contains the model's graph and, by epoch from 0, the logs as
    `epoch_NAME` and, for damped networks, `lambda/NAME` of each block and
    `dead_blocks`. The sub-folder `validation` contains the logs `val_NAME` as
    `epoch_NAME` and the hyperparameters, so that their table shows the last validation
    loss and accuracy of each run.

    A resumed run adds its own event files. Epochs that it repeats are shown once, with
    the latest values; with `tensorboard --load_fast=false` they are shown twice.

    Args:
        folder: folder of the event files. TensorBoard shows several runs together if
            their folders have a common parent.
        hyperparameters: the run's settings by name. Values other than str, bool, int
            and float are left out, since the table cannot show them.
    """

    def __init__(self, folder: str | os.PathLike[str], hyperparameters: dict[str, Any]):
        super().__init__(folder, write_graph=True)
        self._hyperparameters = {
            name: value
            for name, value in hyperparameters.items()
            if isinstance(value, (str, bool, int, float))
        }

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the hyperparameters."""
        super().on_train_begin(logs)
        # TensorBoard tabulates all scalars of the folder that has the hyperparameters:
        # in that of training, these would include every λ.
        with self._val_writer.as_default():
            hparams.hparams(self._hyperparameters)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the epoch's scalars to the disk."""
        super().on_epoch_end(epoch, logs)
        rates = damping_rates(self.model)
        with self._train_writer.as_default():
            for name, rate in rates.items():
                tf.summary.scalar(f"lambda/{name}", rate, step=epoch)
            if rates:
                tf.summary.scalar("dead_blocks", dead_blocks(rates), step=epoch)

    def _collect_learning_rate(self, logs):
        """Keeps the epoch's own rate, which Keras would replace by the next step's."""
        return logs if "learning_rate" in logs else super()._collect_learning_rate(logs)


class Progress(keras.callbacks.Callback):
    """Shows a progress bar on a terminal, or lines in a log file.

    The bar disappears after its epoch. A log file has no carriage returns, but a line
    every 30 seconds, with the images per second since the previous line. Both have one
    line per finished epoch. Its time includes the evaluation, and of a resumed epoch
    only the part in this process.

    Args:
        epochs: number of epochs of the whole run.
        steps: optimiser steps per epoch.
        batch_size: images per step, over all devices together.
        label: prefix of each line, such as `"[worker 1/2] "`.
        live: whether to show a bar; None: whether standard output is a terminal.
    """

    def __init__(
        self,
        epochs: int,
        steps: int,
        batch_size: int,
        label: str = "",
        live: bool | None = None,
    ):
        super().__init__()
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._label = label
        self._live = sys.stdout.isatty() if live is None else live
        self._bar: tqdm | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's clock."""
        self._name = f"{self._label}epoch {epoch + 1}/{self._epochs}"
        self._epoch_start = self._last_time = time.monotonic()
        self._last_step = -1  # no step yet

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Shows the bar, at the epoch's first step in this process."""
        if self._last_step >= 0:
            return
        self._last_step = batch
        if self._live:
            self._bar = tqdm(
                desc=self._name,
                total=self._steps,
                initial=batch,
                unit=" images",
                unit_scale=self._batch_size,
                file=sys.stdout,
                leave=False,
                dynamic_ncols=True,
            )

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Updates the bar; in a log file, writes a line every 30 seconds.

        Args:
            batch: index within the epoch of the last finished step. Several steps may
                have finished since the last call.
            logs: `loss` and `accuracy` of the epoch so far.
        """
        done = batch + 1
        metrics = _format_metrics(logs or {}, ("loss", "accuracy"))
        if self._bar is not None:
            self._bar.set_postfix_str(metrics, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        seconds = now - self._last_time
        if seconds < SECONDS_BETWEEN_LINES:
            return
        rate = (done - self._last_step) / seconds
        remaining = tqdm.format_interval((self._steps - done) / rate)
        self._write(
            f"{done}/{self._steps}",
            metrics,
            f"{rate * self._batch_size:.0f} images/s",
            f"ETA {remaining}",
        )
        self._last_time, self._last_step = now, done

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Replaces the bar by the epoch's line.

        Args:
            epoch: index of the epoch, from 0.
            logs: the epoch's `loss`, `accuracy`, `val_loss`, `val_accuracy`,
                `learning_rate` and `images_per_second`; missing ones are left out.
        """
        self._close_bar()
        logs = logs or {}
        names = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
        parts = [
            tqdm.format_interval(time.monotonic() - self._epoch_start),
            _format_metrics(logs, names),
        ]
        if "images_per_second" in logs:
            parts.append(f"{logs['images_per_second']:.0f} images/s")
        self._write(*parts)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Removes the bar of an interrupted epoch."""
        self._close_bar()

    def _close_bar(self):
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, *parts):
        try:
            print("  ".join((self._name, *parts)), flush=True)
        except BrokenPipeError:  # as in `| head`: save a checkpoint and stop
            leave_terminal()
            if callable(signal.getsignal(signal.SIGTERM)):
                os.kill(os.getpid(), signal.SIGTERM)


def _format_metrics(logs, names) -> str:
    """Formats the named metrics, without those that are missing."""
    formats = {"learning_rate": "g", "accuracy": ".1%", "val_accuracy": ".1%"}
    return "  ".join(
        f"{name} {logs[name]:{formats.get(name, '.3f')}}"
        for name in names
        if name in logs
    )


class ResumableEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping on the validation loss whose patience survives resuming a run.

    Args:
        history: metrics of each finished epoch, as in `metrics.jsonl`.
        patience: number of epochs without a lower validation loss before stopping.
    """

    def __init__(self, history: list[dict[str, Any]], patience: int):
        super().__init__(monitor="val_loss", patience=patience)
        self._history = history

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Replays the finished epochs."""
        super().on_train_begin(logs)
        for row in self._history:
            self.on_epoch_end(row["epoch"] - 1, row)
