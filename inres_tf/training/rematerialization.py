"""Recomputing activations in the backward pass, which saves memory for time."""

from collections.abc import Callable

import keras
import tensorflow as tf

from inres_tf.layers import BLOCKS


def rematerialized(model: keras.Model) -> Callable[..., tf.Tensor]:
    """Returns a function that computes a model and keeps only tensors between blocks.

    The model is cut after every merging layer (such as the addition at the end of a
    residual block) and every layer that is a whole block, if its output is the only
    tensor that later layers need. Each piece is recomputed in the backward pass; moving
    averages and random states are updated once, and losses are added once.

    Args:
        model: functional Keras model with one input and one output.

    Returns:
        Function `(inputs, training=False) -> outputs` that shares the model's
        variables.

    Reference:
        Chen, Xu, Zhang, Guestrin: Training Deep Nets with Sublinear Memory Cost, 2016.
    """
    cuts = [*_cuts(model), model.outputs[0]]
    starts = [model.inputs[0], *cuts[:-1]]
    pieces = [_recomputed(keras.Model(a, b)) for a, b in zip(starts, cuts)]

    def call(inputs, training=False):
        if not training:
            return model(inputs, training=False)
        inputs = tf.cast(inputs, model.inputs[0].dtype)
        for piece in pieces:
            inputs = piece(inputs)
        return inputs

    return call


def _cuts(model):
    """Returns the outputs of blocks that all paths pass through, in order."""
    nodes = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
    ]
    last_use = {id(t): i for i, node in enumerate(nodes) for t in node.input_tensors}
    alive, cuts = {}, []
    for i, node in enumerate(nodes):
        alive |= {id(t): t for t in node.output_tensors}
        alive = {key: t for key, t in alive.items() if last_use.get(key, -1) > i}
        ends = len(node.input_tensors) > 1 or isinstance(node.operation, BLOCKS)
        if ends and list(alive) == [id(node.output_tensors[0])]:
            cuts.append(node.output_tensors[0])
    return cuts


def _recomputed(piece):
    """Returns a function that computes a model in training and keeps only its input."""
    trainable, others = piece.trainable_variables, piece.non_trainable_variables
    adds_losses = keras.layers.Layer()  # which a functional model cannot

    def call(inputs):
        state = [tf.identity(v.value) for v in others]

        def forward(inputs, values):
            """Returns the outputs with the layers' losses, and the updated state."""
            mapping = [*zip(trainable, values), *zip(others, state)]
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                outputs = piece(inputs, training=True)
            updated = [scope.get_current_value(v) for v in others]
            return [outputs, *scope.losses], updated

        # Not tf.recompute_grad: Grappler simplifies away the control dependency by
        # which its second pass waits, and then reuses the first pass's results.
        @tf.custom_gradient
        def run(inputs, *values):
            outputs, updated = forward(inputs, values)

            def gradient(*upstream):
                upstream = list(upstream[len(updated) :])
                with tf.control_dependencies(upstream):
                    arguments = [tf.identity(v) for v in (inputs, *values)]
                with tf.GradientTape() as tape:
                    tape.watch(arguments)
                    recomputed, _ = forward(arguments[0], arguments[1:])
                return tape.gradient(recomputed, arguments, upstream)

            return (*updated, *outputs), gradient

        results = run(inputs, *(tf.identity(v.value) for v in trainable))
        for variable, value in zip(others, results):
            variable.assign(value)
        outputs, *losses = results[len(others) :]
        for loss in losses:
            adds_losses.add_loss(loss)
        return outputs

    return call
