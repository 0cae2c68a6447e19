"""Size and cost of any Keras model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inres_tf.layers import DampedAdd

if TYPE_CHECKING:
    import keras


def model_facts(model: keras.Model) -> dict[str, Any]:
    """Counts the parameters and operations of a model.

    Args:
        model: Keras model of one input of known shape.

    Returns:
        Dict with `parameters` (as `count_params`), `trainable_parameters`, `flops`
        (floating-point operations of the convolutions and matrix products for one
        image, where a multiply-add counts as two; None for loops of unknown length,
        such as adaptive solvers) and `dampings`, the dampings of its residual
        additions, without repetition: empty for a residual network.

    Example:
        >>> from inres_tf import models
        >>> facts = models.model_facts(zoo.InResNet20(input_shape=(8, 8, 1)))
        >>> facts["parameters"], facts["dampings"]
        (273568, ['in'])
    """
    layers = model._flatten_layers()  # also of nested models
    additions = (layer for layer in layers if isinstance(layer, DampedAdd))
    return {
        "parameters": model.count_params(),
        "trainable_parameters": sum(
            int(np.prod(variable.shape)) for variable in model.trainable_variables
        ),
        "flops": _operations(model),
        "dampings": list(dict.fromkeys(layer.damping for layer in additions)),
    }


def _operations(model) -> int | None:
    """Counts the operations of the TensorFlow graph of one image."""
    import tensorflow as tf

    image = tf.TensorSpec((1, *model.input_shape[1:]), model.inputs[0].dtype)
    predict = tf.function(lambda images: model(images, training=False))
    total = 0
    for operation in predict.get_concrete_function(image).graph.get_operations():
        if operation.type.endswith(("While", "Call")):
            return None
        if operation.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            outputs, weights = operation.outputs[0].shape, operation.inputs[1].shape
            # Each output sums over all axes of the weights but that of the channels.
            depthwise = operation.type == "DepthwiseConv2dNative"
            terms = weights[:-2] if depthwise else weights[:-1]
            if not (outputs.is_fully_defined() and weights.is_fully_defined()):
                return None
            total += 2 * int(np.prod(outputs)) * int(np.prod(terms))
    return total
