"""The compiled training step: one or several under `tf.distribute`."""

from collections.abc import Callable

import keras
import tensorflow as tf

from inres_tf.layers import damped_layers
from inres_tf.models.logits import logits_fn
from inres_tf.models.random_state import random_states
from inres_tf.training.rematerialization import rematerialized

# Columns of what the compiled step gives.
LOSS, CORRECT, INTERRUPTED, PREEMPTED = range(4)


def make_step(
    model,
    strategy,
    objective,
    weight_decay: float,
    *,
    accumulate_steps: int = 1,
    rematerialize: bool = False,
    plan_rates: bool = False,
    seed: int = 0,
) -> Callable:
    """The compiled training step, which runs any number of optimiser steps at a time.

    Args:
        model: compiled model made under `strategy`.
        strategy: the distribution strategy.
        objective: an `inres_tf.objectives.Objective`.
        weight_decay: coefficient of the L2 gradient on every trainable variable.
        accumulate_steps: into how many parts, one after the other, each device divides
            its images: less memory, batch statistics of a part.
        rematerialize: whether blocks are computed again in the backward pass.
        plan_rates: whether λ may be kept from training by `learn`.
        seed: of what the objective draws.

    Returns:
        Function `(iterator, count, first, learn, signals)` that takes `count` elements
        of a distributed iterator, `first` being the index of the first one's step. With
        `plan_rates`, `learn` is 1.0 where λ is trained and 0.0 where it is left as it
        is. `signals` are two numbers, (interrupted, preempted), which are summed over
        all replicas, for workers to stop at the same step. It gives a float32 tensor
        (count, 4): the loss over the global batch, the images classified rightly before
        the update, and these sums.
    """
    replicas = strategy.num_replicas_in_sync
    logits_of = logits_fn(model, rematerialized if rematerialize else None)
    variables, optimizer = model.trainable_variables, model.optimizer
    rates = {id(layer.k) for _, layer in damped_layers(model)}
    scales_loss = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def gradients_of(images, labels, draw):
        """Gradients, loss and images classified rightly of a part of the batch."""
        inputs = objective.inputs(logits_of, images, labels, draw)
        share = 1.0 / (accumulate_steps * replicas)
        with tf.GradientTape() as tape:
            losses, logits = objective.losses(logits_of, images, inputs, labels)
            # The optimiser sums over replicas, so each gives its share of the mean.
            loss = tf.reduce_mean(losses) * share
            scaled = optimizer.scale_loss(loss)
        right = tf.equal(tf.argmax(logits, -1, output_type=labels.dtype), labels)
        gradients = tape.gradient(scaled, variables)
        return gradients, loss, tf.reduce_sum(tf.cast(right, tf.float32))

    def replica_step(images, labels, index, learn, signals):
        context = tf.distribute.get_replica_context()
        draw = tf.stack([tf.constant(seed), index])
        draw = tf.random.experimental.stateless_fold_in(
            draw, context.replica_id_in_sync_group
        )
        gradients = None
        parts = zip(
            tf.split(images, accumulate_steps), tf.split(labels, accumulate_steps)
        )
        for number, part in enumerate(parts):
            # A part begins when the one before is done and its activations are free.
            with tf.control_dependencies(gradients or ()):
                part = [tf.identity(tensor) for tensor in part]
            drawn = tf.random.experimental.stateless_fold_in(draw, number)
            found, part_loss, part_right = gradients_of(*part, drawn)
            if gradients is None:
                gradients, loss, right = found, part_loss, part_right
            else:
                gradients = [a + b for a, b in zip(gradients, found)]
                loss, right = loss + part_loss, right + part_right
        decay = optimizer.scale_loss(tf.constant(weight_decay / replicas))
        gradients = [g + decay * v for g, v in zip(gradients, variables)]
        if plan_rates:
            gradients = [
                learn * g if id(v) in rates else g for g, v in zip(gradients, variables)
            ]
        if scales_loss and replicas > 1:
            gradients = _all_finite_or_none(context, gradients)
        optimizer.apply(gradients, variables)
        return tf.concat([[loss, right], signals], axis=0)

    @tf.function
    def step(iterator, count, first, learn, signals):
        rows = tf.TensorArray(tf.float32, count)
        for i in tf.range(count):
            images, labels = next(iterator)
            per_replica = strategy.run(
                replica_step, args=(images, labels, first + i, learn, signals)
            )
            total = strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
            rows = rows.write(i, total)
        return rows.stack()

    return step


def _all_finite_or_none(context, gradients):
    """Makes the gradients NaN on all replicas if they are not finite on one.

    Each replica decides by its own gradients whether to skip the update.
    """
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
    bad = context.all_reduce(
        tf.distribute.ReduceOp.SUM, 1.0 - tf.cast(finite, tf.float32)
    )
    return [tf.where(bad > 0, float("nan"), g) for g in gradients]


def synchronize_batch_norm(model, synchronized: bool) -> None:
    """Makes batch statistics those of the global batch, or of each replica's part."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


def batch_statistics(model) -> list:
    """The moving averages that replicas, without synchronisation, see differently."""
    return [
        variable
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
        for variable in layer.non_trainable_variables
    ]


def spread_seeds(model, strategy) -> None:
    """Makes random layers draw something else on each replica.

    A Keras seed generator is a variable of which each replica has a copy, and copies
    that start alike stay alike.
    """
    states = [v.value for v in random_states(model)]

    @tf.function
    def spread():
        def of_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            for state in states:
                low, count = tf.unstack(state)
                low += tf.cast(replica, low.dtype) * 7919
                state.assign(tf.stack([low, count]))

        strategy.run(of_replica)

    if states and strategy.num_replicas_in_sync > 1:
        spread()
