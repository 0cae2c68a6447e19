"""What the workers of a multi-worker run tell each other."""

import contextlib
import json
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from inres_tf.distribution.config import WorkerInfo
from inres_tf.errors import UserError, WorkerLost


def broadcast(payload: bytes) -> bytes:
    """Bytes of the chief, on every worker of the strategy in scope.

    Args:
        payload: what the chief shares; others' is not used.
    """
    strategy = tf.distribute.get_strategy()
    mine = np.frombuffer(payload, np.uint8).astype(np.int32)

    def of_first(value):
        """The value of the first replica, as a sum in which the others give zeros."""
        values = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                value if context.replica_id_in_sync_group == 0 else np.zeros_like(value)
            )
        )
        return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()

    size = int(of_first(np.int32(len(mine))))
    if not size:  # a sum of nothing ends the process
        return b""
    if len(mine) != size:
        mine = np.zeros(size, np.int32)
    return of_first(mine).astype(np.uint8).tobytes()


def check_same_settings(settings: dict, problem: str = "") -> None:
    """Checks that all workers of the strategy in scope were told the same.

    Args:
        settings: what must be the same, as JSON, by name of the flag.
        problem: what keeps the chief from going on.

    Raises:
        UserError: on all workers if the chief has a problem; on those whose settings
            are not the chief's, naming the first one.
    """
    found = json.loads(broadcast(json.dumps([problem, settings]).encode()))
    if found[0]:
        raise UserError(problem or f"the chief stops: {found[0]}")
    for name, mine in json.loads(json.dumps(settings)).items():
        if found[1].get(name) != mine:
            raise UserError(
                f"this worker has --{name}={mine} and the chief {found[1].get(name)}; "
                "all must have the same"
            )


@contextlib.contextmanager
def translate_worker_loss(place: WorkerInfo):
    """Turns what TensorFlow says when another worker is gone into a `WorkerLost`."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        if place.count == 1:
            raise
        lines = [line for line in str(error.message).splitlines() if ":" in line]
        raise WorkerLost(
            f"{place} has lost another one ({lines[-1][:200] if lines else 'no reason'}"
            "); start the same command again on all workers"
        ) from error


def replica_averaging(variables) -> Callable:
    """A function setting variables whose values differ between replicas to their mean.

    Args:
        variables: Keras variables, such as moving averages of batch statistics.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or not variables:
        return lambda: None

    def of_replica():
        context = tf.distribute.get_replica_context()
        total = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [tf.identity(v.value) for v in variables]
        )
        for variable, value in zip(variables, total):
            variable.assign(value / replicas)

    return tf.function(lambda: strategy.run(of_replica))
