"""Functions of batches of images, shared out over all devices of a strategy."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def compile_rows(function: Callable, signature) -> Callable:
    """Compiles a function of images that gives rows for each, for all replicas.

    Under the strategy in scope each replica takes an equal part of every batch; what is
    missing to that, or to the largest batch so far, is filled with copies of the first
    image, or zeros for no images, whose rows are dropped again: one shape, compiled
    once. Every worker calls it with the same images and gets all rows.

    Args:
        function: takes tensors of one row an image, and scalars; gives a tensor of one
            row an image, or a tuple of such.
        signature: `tf.TensorSpec` of each argument; those of rank 0 are scalars.

    Returns:
        Function of NumPy arrays and numbers to a NumPy array, or a tuple of such.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        compiled = _quietly(tf.function(function, input_signature=signature))
        return lambda *arguments: _numpy(compiled(*arguments), None)

    def of_replica(*arguments):
        context = tf.distribute.get_replica_context()
        return tf.nest.map_structure(
            lambda rows: context.all_gather(rows, axis=0), function(*arguments)
        )

    @tf.function
    def everywhere(*arguments):
        gathered = strategy.run(of_replica, arguments)
        return tf.nest.map_structure(
            lambda rows: strategy.experimental_local_results(rows)[0], gathered
        )

    everywhere = _quietly(everywhere)

    def part(spec, argument, size):
        if spec.shape.rank == 0:
            return tf.constant(argument, spec.dtype)
        missing = size * replicas - len(argument)
        argument = np.asarray(argument)
        filler = argument[:1] if len(argument) else np.zeros((1, *argument.shape[1:]))
        rows = np.concatenate([argument, np.repeat(filler, missing, axis=0)])
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                rows[context.replica_id_in_sync_group * size :][:size], spec.dtype
            )
        )

    largest = 0

    def call(*arguments):
        nonlocal largest
        number = len(arguments[0])
        # At least one each: devices that share no rows crash.
        size = largest = max(largest, -(-number // replicas), 1)
        parts = (part(s, a, size) for s, a in zip(signature, arguments))
        return _numpy(everywhere(*parts), number)

    return call


def _quietly(compiled):
    """Keeps TensorFlow from warning that functions of the same lines are traced often.

    Each is of another model or search, and has one signature.
    """
    compiled._omit_frequent_tracing_warning = True
    return compiled


def _numpy(rows, number):
    """The first rows of tensors, as NumPy arrays."""
    return tf.nest.map_structure(lambda tensor: tensor.numpy()[:number], rows)
