"""Communication between the workers of a multi-worker run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from inres_tf.distribution.config import WorkerInfo
from inres_tf.errors import UserError, WorkerLost

if TYPE_CHECKING:
    import keras


def broadcast(payload: bytes) -> bytes:
    """Sends bytes from the chief to all workers of the strategy in scope.

    Args:
        payload: the bytes to send; ignored on workers other than the chief.

    Returns:
        The chief's payload.
    """
    strategy = tf.distribute.get_strategy()

    def from_chief(value):
        """Sums over the replicas, of which all but the first contribute zeros."""
        values = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                value if context.replica_id_in_sync_group == 0 else np.zeros_like(value)
            )
        )
        return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()

    array = np.frombuffer(payload, np.uint8).astype(np.int32)
    size = int(from_chief(np.int32(len(array))))
    if not size:  # TensorFlow crashes on a sum of empty arrays
        return b""
    if len(array) != size:
        array = np.zeros(size, np.int32)
    return from_chief(array).astype(np.uint8).tobytes()


def check_same_settings(settings: dict[str, Any], problem: str = "") -> None:
    """Checks that all workers of the strategy in scope have the same settings.

    Args:
        settings: the settings to compare by name of their flag, as JSON.
        problem: message of an error that stops the chief; empty if there is none.

    Raises:
        UserError: on all workers if the chief has a problem; otherwise on the workers
            whose settings differ from the chief's, with the first difference.
    """
    chief_problem, chief_settings = json.loads(
        broadcast(json.dumps([problem, settings]).encode())
    )
    if chief_problem:
        raise UserError(problem or f"the chief stops: {chief_problem}")
    for name, value in json.loads(json.dumps(settings)).items():
        if chief_settings.get(name) != value:
            raise UserError(
                f"--{name} must be the same on all workers; got {value} on this one "
                f"and {chief_settings.get(name)} on the chief"
            )


@contextlib.contextmanager
def translate_worker_loss(worker: WorkerInfo) -> Iterator[None]:
    """Turns TensorFlow's errors about a lost worker into `WorkerLost`.

    Args:
        worker: this process; errors of a single worker are left unchanged.

    Raises:
        WorkerLost: if another worker is lost.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        if worker.count == 1:
            raise
        lines = [line for line in str(error.message).splitlines() if ":" in line]
        raise WorkerLost(
            f"{worker} has lost another worker "
            f"({lines[-1][:200] if lines else 'unknown reason'}); start the same "
            "command again on all workers"
        ) from error


def replica_averaging(variables: Sequence[keras.Variable]) -> Callable[[], Any]:
    """Returns a function that sets variables to their mean over the replicas.

    Args:
        variables: variables whose values differ between replicas, such as moving
            averages of batch statistics.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or not variables:
        return lambda: None

    def average():
        context = tf.distribute.get_replica_context()
        sums = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [tf.identity(v.value) for v in variables]
        )
        for variable, value in zip(variables, sums):
            variable.assign(value / replicas)

    return tf.function(lambda: strategy.run(average))
