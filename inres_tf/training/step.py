"""The compiled training step under `tf.distribute`."""

from collections.abc import Callable

import keras
import tensorflow as tf

from inres_tf.layers import damped_layers
from inres_tf.models.logits import logits_fn
from inres_tf.models.random_state import random_states
from inres_tf.training.objectives.base import Objective
from inres_tf.training.rematerialization import rematerialized

# Columns of the compiled step's output.
LOSS, CORRECT, INTERRUPTED, PREEMPTED = range(4)


def make_step(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    objective: Objective,
    weight_decay: float,
    *,
    accumulate_steps: int = 1,
    rematerialize: bool = False,
    plan_rates: bool = False,
    seed: int = 0,
) -> Callable[..., tf.Tensor]:
    """Creates the compiled training step, which runs several optimiser steps at once.

    The step is a function `(iterator, count, first, learn, signals)` of

    - `iterator`: a distributed iterator, of which it consumes `count` batches;
    - `count`: the number of optimiser steps;
    - `first`: the index of the first of them in the run;
    - `learn`: with `plan_rates`, 1.0 to train λ and 0.0 to leave it unchanged;
    - `signals`: (interrupted, preempted), 0.0 or 1.0 each, which are summed over all
      replicas, so that all workers stop after the same step.

    It returns a float32 tensor (count, 4). Each row is the mean loss of the global
    batch, the number of images classified correctly before the update, and the sums of
    `signals`.

    The loss is that of the objective plus the losses of the model itself: those of
    regularisers, and those that layers add with `add_loss` in training, averaged over
    parts and replicas. An activity regulariser of a last layer with a softmax is not
    among them, as the softmax is not computed. Constraints of variables are applied
    after each update.

    Args:
        model: compiled model created under `strategy`.
        strategy: the distribution strategy.
        objective: the training objective.
        weight_decay: coefficient of the L2 gradient on every trainable variable.
        accumulate_steps: number of parts into which each device splits its images, one
            after the other, to save memory. Batch statistics are those of a part.
        rematerialize: whether to recompute blocks in the backward pass.
        plan_rates: whether `learn` can stop the training of λ.
        seed: seed of the objective's random numbers.

    Returns:
        The compiled step.
    """
    replicas = strategy.num_replicas_in_sync
    logits_of = logits_fn(model, rematerialized if rematerialize else None)
    variables, optimizer = model.trainable_variables, model.optimizer
    regularized = [v for v in variables if v.regularizer is not None]
    rates = {id(layer.k) for _, layer in damped_layers(model)}
    scales_loss = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def gradients_of(images, labels, part_seed):
        """Gradients, loss and number of correct predictions of a part of the batch."""
        inputs = objective.inputs(logits_of, images, labels, part_seed)
        share = 1.0 / (accumulate_steps * replicas)
        with tf.GradientTape() as tape:
            with _AddedLosses() as added:
                losses, logits = objective.losses(logits_of, images, inputs, labels)
            loss = tf.reduce_mean(losses)
            for own in (*added.losses, *(v.regularizer(v) for v in regularized)):
                loss += tf.cast(tf.reduce_sum(own), tf.float32)
            # A share of the mean, since the optimiser sums over replicas.
            loss *= share
            scaled = optimizer.scale_loss(loss)
        correct = tf.equal(tf.argmax(logits, -1, output_type=labels.dtype), labels)
        gradients = tape.gradient(scaled, variables)
        return gradients, loss, tf.reduce_sum(tf.cast(correct, tf.float32))

    def replica_step(images, labels, index, learn, signals):
        context = tf.distribute.get_replica_context()
        replica_seed = tf.random.experimental.stateless_fold_in(
            tf.stack([tf.constant(seed), index]), context.replica_id_in_sync_group
        )
        gradients = None
        parts = zip(
            tf.split(images, accumulate_steps), tf.split(labels, accumulate_steps)
        )
        for number, part in enumerate(parts):
            # A part starts after the previous one, whose activations are then freed.
            with tf.control_dependencies(gradients or ()):
                part = [tf.identity(tensor) for tensor in part]
            part_seed = tf.random.experimental.stateless_fold_in(replica_seed, number)
            part_gradients, part_loss, part_correct = gradients_of(*part, part_seed)
            if gradients is None:
                gradients, loss, correct = part_gradients, part_loss, part_correct
            else:
                gradients = [a + b for a, b in zip(gradients, part_gradients)]
                loss, correct = loss + part_loss, correct + part_correct
        decay = optimizer.scale_loss(tf.constant(weight_decay / replicas))
        gradients = [g + decay * v for g, v in zip(gradients, variables)]
        if plan_rates:
            gradients = [
                learn * g if id(v) in rates else g for g, v in zip(gradients, variables)
            ]
        if scales_loss and replicas > 1:
            gradients = _all_finite_or_none(context, gradients)
        optimizer.apply(gradients, variables)
        return tf.concat([[loss, correct], signals], axis=0)

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


class _AddedLosses(keras.StatelessScope):
    """Collects the losses that layers add on one replica.

    Keras keeps them in the layers, which all replicas share: while a replica waits for
    the others within a layer, they would replace its losses by theirs. Unlike in a
    scope of the base class, variables are updated at once.
    """

    def __init__(self):
        super().__init__(collect_losses=True, initialize_variables=False)

    def add_update(self, update):
        variable, value = update
        variable._direct_assign(value)


def _all_finite_or_none(context, gradients):
    """Makes the gradients NaN on all replicas if they are not finite on one.

    Otherwise only some replicas would skip the update, each by its own gradients.
    """
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
    bad = context.all_reduce(
        tf.distribute.ReduceOp.SUM, 1.0 - tf.cast(finite, tf.float32)
    )
    return [tf.where(bad > 0, float("nan"), g) for g in gradients]


def synchronize_batch_norm(model: keras.Model, synchronized: bool) -> None:
    """Sets whether batch statistics are those of the global batch or of each replica.

    Args:
        model: model whose `keras.layers.BatchNormalization` layers are changed.
        synchronized: whether statistics are those of the global batch.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


def batch_statistics(model: keras.Model) -> list[keras.Variable]:
    """Returns the moving averages that are not synchronised between replicas."""
    return [
        variable
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
        for variable in layer.non_trainable_variables
    ]


def spread_seeds(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Makes random layers draw different numbers on each replica.

    Keras' seed generators are variables, whose copies on the replicas are otherwise the
    same throughout.

    Args:
        model: model created under `strategy`.
        strategy: the distribution strategy.
    """
    states = [v.value for v in random_states(model)]

    @tf.function
    def spread():
        def spread_on_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            for state in states:
                low, count = tf.unstack(state)
                low += tf.cast(replica, low.dtype) * 7919
                state.assign(tf.stack([low, count]))

        strategy.run(spread_on_replica)

    if states and strategy.num_replicas_in_sync > 1:
        spread()
