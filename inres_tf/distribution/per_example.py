"""Functions of batches of examples, compiled and distributed over all devices."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


def compile_per_example(
    function: Callable, signature: Sequence[tf.TensorSpec]
) -> Callable:
    """Compiles a function that returns one row per example, for all replicas.

    Under the strategy in scope, each replica computes an equal part of every batch. To
    compile a single shape, batches are padded to the largest size so far, a multiple of
    the number of replicas, with copies of the first example (zeros if there is none);
    the rows of the padding are dropped. All workers must pass the same examples; each
    receives all rows.

    Args:
        function: function of tensors with one row per example and of scalars that
            returns a tensor with one row per example, or a tuple of such tensors.
        signature: the `tf.TensorSpec` of each argument; rank 0 means a scalar.

    Returns:
        The compiled function, of NumPy arrays and numbers, which returns a NumPy array
        or a tuple of arrays.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:
        return _OnReplicas(function, signature, strategy)
    compiled = _quietly(tf.function(function, input_signature=signature))
    return lambda *arguments: _numpy(compiled(*arguments), None)


class _OnReplicas:
    """A function of examples of which each replica computes a part."""

    def __init__(self, function, signature, strategy):
        self._function, self._signature = function, signature
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        self._compiled = _quietly(tf.function(self._on_all_replicas))
        self._largest = 0  # examples per replica in the largest batch so far

    def __call__(self, *arguments):
        number = len(arguments[0])
        # At least one example per replica, since TensorFlow crashes without any.
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
        """Distributes an argument, padded to `size` rows per replica."""
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
    """Disables TensorFlow's warning about frequent tracing.

    The same lines make many functions: one per model and attack, of one signature each.
    """
    compiled._omit_frequent_tracing_warning = True
    return compiled


def _numpy(rows, number):
    """Converts the first `number` rows of tensors to NumPy arrays."""
    return tf.nest.map_structure(lambda tensor: tensor.numpy()[:number], rows)
