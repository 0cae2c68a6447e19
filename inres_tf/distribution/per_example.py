"""Functions of batches of examples, compiled and shared among all devices."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


def compile_per_example(
    function: Callable, signature: Sequence[tf.TensorSpec]
) -> Callable:
    """Compiles a function that returns one row per example, for all replicas.

    Under the strategy in scope each replica computes an equal part of every batch. The
    batch is padded to a multiple of the replicas and to the largest size so far, so that
    one shape is compiled, with copies of its first example (zeros if it is empty); the
    rows of the padding are dropped. Every worker calls it with the same examples and
    gets all rows.

    Args:
        function: takes tensors of one row per example, and scalars; returns a tensor of
            one row per example, or a tuple of such.
        signature: the `tf.TensorSpec` of each argument; those of rank 0 are scalars.

    Returns:
        A function of NumPy arrays and numbers that returns a NumPy array, or a tuple.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:
        return _OnReplicas(function, signature, strategy)
    compiled = _quietly(tf.function(function, input_signature=signature))
    return lambda *arguments: _numpy(compiled(*arguments), None)


class _OnReplicas:
    """A function of examples, each replica computing its part of every batch."""

    def __init__(self, function, signature, strategy):
        self._function, self._signature = function, signature
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        self._compiled = _quietly(tf.function(self._on_all_replicas))
        self._largest = 0  # examples per replica in the largest batch so far

    def __call__(self, *arguments):
        number = len(arguments[0])
        # At least one example each: devices without any crash.
        size = max(self._largest, -(-number // self._replicas), 1)
        self._largest = size
        parts = (
            self._distribute(spec, argument, size)
            for spec, argument in zip(self._signature, arguments)
        )
        return _numpy(self._compiled(*parts), number)

    def _on_all_replicas(self, *arguments):
        gathered = self._strategy.run(self._on_replica, arguments)
        return tf.nest.map_structure(
            lambda rows: self._strategy.experimental_local_results(rows)[0], gathered
        )

    def _on_replica(self, *arguments):
        context = tf.distribute.get_replica_context()
        return tf.nest.map_structure(
            lambda rows: context.all_gather(rows, axis=0), self._function(*arguments)
        )

    def _distribute(self, spec, argument, size):
        """An argument as the strategy takes it: `size` rows for each replica."""
        if spec.shape.rank == 0:
            return tf.constant(argument, spec.dtype)
        argument = np.asarray(argument)
        missing = size * self._replicas - len(argument)
        filler = argument[:1] if len(argument) else np.zeros((1, *argument.shape[1:]))
        rows = np.concatenate([argument, np.repeat(filler, missing, axis=0)])
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                rows[context.replica_id_in_sync_group * size :][:size], spec.dtype
            )
        )


def _quietly(compiled):
    """Keeps TensorFlow from warning that functions of the same lines are traced often.

    Each is of another model or attack, and has one signature.
    """
    compiled._omit_frequent_tracing_warning = True
    return compiled


def _numpy(rows, number):
    """The first rows of tensors, as NumPy arrays."""
    return tf.nest.map_structure(lambda tensor: tensor.numpy()[:number], rows)
