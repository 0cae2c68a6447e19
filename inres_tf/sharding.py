"""Functions of batches of images, shared out over all devices of a strategy."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def compile_rows(function: Callable, signature) -> Callable:
    """Compiles a function of images that gives a row for each, for all replicas.

    Under the strategy in scope each replica takes an equal part of every batch; what is
    missing to that, or to the largest batch so far, is filled with copies of the first
    image, whose rows are dropped again: one shape, compiled once. Every worker calls it
    with the same images and gets all rows.

    Args:
        function: takes tensors of one row an image, and scalars; gives a tensor of one
            row an image.
        signature: `tf.TensorSpec` of each argument; those of rank 0 are scalars.

    Returns:
        Function of NumPy arrays and numbers to a NumPy array.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        compiled = tf.function(function, input_signature=signature)
        return lambda *arguments: compiled(*arguments).numpy()

    def of_replica(*arguments):
        context = tf.distribute.get_replica_context()
        return context.all_gather(function(*arguments), axis=0)

    @tf.function
    def everywhere(*arguments):
        gathered = strategy.run(of_replica, arguments)
        return strategy.experimental_local_results(gathered)[0]

    def part(spec, argument, size):
        if spec.shape.rank == 0:
            return tf.constant(argument, spec.dtype)
        missing = size * replicas - len(argument)
        rows = np.concatenate([argument, np.repeat(argument[:1], missing, axis=0)])
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                rows[context.replica_id_in_sync_group * size :][:size], spec.dtype
            )
        )

    largest = 0

    def call(*arguments):
        nonlocal largest
        number = len(arguments[0])
        size = largest = max(largest, -(-number // replicas))
        parts = (part(s, a, size) for s, a in zip(signature, arguments))
        return everywhere(*parts).numpy()[:number]

    return call
