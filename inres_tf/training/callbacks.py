"""What shows a run while it trains: TensorBoard, and progress bars or log lines."""

import sys
import time

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams
from tqdm import tqdm

from inres_tf.layers import damping_rates, dead_blocks
from inres_tf.progress import SECONDS_BETWEEN_LINES


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' TensorBoard with the damping rates and the hyper-parameters of the run.

    Below `folder`, `train` holds the model's graph and by epoch, counted from 0, what
    is in the logs as `epoch_NAME` and for damped networks `lambda/NAME` of each block
    and `dead_blocks`; `validation` holds the logs' `val_NAME` as `epoch_NAME` and the
    hyper-parameters, whose table thus has the last validation loss and accuracy of
    each run beside them.

    A resumed run adds files of its own. Epochs that it repeats are shown once, as they
    were last; with `tensorboard --load_fast=false` they are shown twice.

    Args:
        folder: where the event files go; several runs in sub-folders of one folder
            are shown together.
        hyperparameters: the run's settings by name; those that are no str, bool, int or
            float are left out, since the table cannot hold them.
    """

    def __init__(self, folder, hyperparameters: dict):
        super().__init__(folder, write_graph=True)
        self._hyperparameters = {
            name: value
            for name, value in hyperparameters.items()
            if isinstance(value, (str, bool, int, float))
        }

    def on_train_begin(self, logs=None):
        """Writes the hyper-parameters."""
        super().on_train_begin(logs)
        # TensorBoard takes all scalars beside the hyper-parameters for metrics to
        # tabulate: among those of training would be every λ.
        with self._val_writer.as_default():
            hparams.hparams(self._hyperparameters)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's scalars, which a run that is killed then keeps."""
        super().on_epoch_end(epoch, logs)
        rates = damping_rates(self.model)
        with self._train_writer.as_default():
            for name, rate in rates.items():
                tf.summary.scalar(f"lambda/{name}", rate, step=epoch)
            if rates:
                tf.summary.scalar("dead_blocks", dead_blocks(rates), step=epoch)

    def _collect_learning_rate(self, logs):
        """The logs with the epoch's own rate, where Keras puts the next step's."""
        return logs if "learning_rate" in logs else super()._collect_learning_rate(logs)


class Progress(keras.callbacks.Callback):
    """A progress bar on a terminal, lines in a log file; on both one line an epoch.

    The bar lives within an epoch. In a log file an epoch has a line of its own every 30
    seconds, and no carriage returns; the images per second are those since the line
    before. The time in an epoch's last line includes the evaluation, and of an epoch
    that a resumed run completes only what this process did.

    Args:
        epochs: epochs of the whole run.
        steps: optimiser steps an epoch.
        batch_size: images a step, over all devices together.
        label: what each line begins with, such as `"[worker 1/2] "`.
        live: whether to show a bar; None: if standard output is a terminal.
    """

    def __init__(self, epochs, steps, batch_size, label="", live: bool | None = None):
        super().__init__()
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._label = label
        self._live = sys.stdout.isatty() if live is None else live
        self._bar = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the epoch's clock."""
        self._name = f"{self._label}epoch {epoch + 1}/{self._epochs}"
        self._began = self._last_time = time.monotonic()
        self._last_step = None

    def on_train_batch_begin(self, batch, logs=None):
        """Shows the bar, before the epoch's first step of this process."""
        if self._last_step is not None:
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

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar; in a log file, writes a line if it is time for one.

        Args:
            batch: index within the epoch of the last step done, of several at once
                perhaps.
            logs: the epoch's `loss` and `accuracy` so far.
        """
        done = batch + 1
        metrics = _metrics(logs or {}, ("loss", "accuracy"))
        if self._bar is not None:
            self._bar.set_postfix_str(metrics, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last_time < SECONDS_BETWEEN_LINES:
            return
        rate = (done - self._last_step) / (now - self._last_time)
        left = tqdm.format_interval((self._steps - done) / rate)
        self._write(
            f"{done}/{self._steps}",
            metrics,
            f"{rate * self._batch_size:.0f} images/s",
            f"ETA {left}",
        )
        self._last_time, self._last_step = now, done

    def on_epoch_end(self, epoch, logs=None):
        """Replaces the bar by the epoch's line.

        Args:
            epoch: index of the epoch, from 0.
            logs: its `loss`, `accuracy`, `val_loss`, `val_accuracy`, `learning_rate`
                and `images_per_second`; those that are not there are left out.
        """
        self._close()
        logs = logs or {}
        names = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
        parts = [
            tqdm.format_interval(time.monotonic() - self._began),
            _metrics(logs, names),
        ]
        if "images_per_second" in logs:
            parts.append(f"{logs['images_per_second']:.0f} images/s")
        self._write(*parts)

    def on_train_end(self, logs=None):
        """Takes away the bar of an epoch that was cut short."""
        self._close()

    def _close(self):
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, *parts):
        print("  ".join((self._name, *parts)), flush=True)


def _metrics(logs, names) -> str:
    """Those of the named metrics that are there."""
    digits = {"learning_rate": "g"}
    return "  ".join(
        f"{name} {logs[name]:{digits.get(name, '.3f')}}"
        for name in names
        if name in logs
    )


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
