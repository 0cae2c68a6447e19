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
        products = _products(operation)
        if products is None:
            return None
        total += 2 * products
    return total


def _products(operation) -> int | None:
    """Counts the products in a convolution or matrix product; None if unknown."""
    kind, shapes = operation.type, [x.shape for x in operation.inputs]
    if kind not in _PRODUCTS:
        unknown = kind.startswith(("Conv", "DepthwiseConv", "SparseMatMul"))
        return None if unknown else 0
    outputs = operation.outputs[0].shape
    if not all(shape.is_fully_defined() for shape in [*shapes, outputs]):
        return None
    if kind == "Einsum":
        return _einsum_products(operation.get_attr("equation").decode(), shapes)
    if kind in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):
        outputs = shapes[2]  # of the convolution whose transpose it is
    if kind.endswith("MatMul") or kind.endswith("MatMulV2"):
        attribute = "transpose_a" if kind == "MatMul" else "adj_x"
        terms = [shapes[0][-2 if operation.get_attr(attribute) else -1]]
    else:
        # Each output sums over all axes of the weights but that of the channels.
        terms = shapes[1][: -2 if kind.startswith("Depthwise") else -1]
    return int(np.prod(outputs)) * int(np.prod(terms))


_PRODUCTS = {
    *("Conv2D", "Conv3D", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
    *("DepthwiseConv2dNative", "MatMul", "BatchMatMul", "BatchMatMulV2", "Einsum"),
}


def _einsum_products(equation, shapes) -> int | None:
    operands = equation.partition("->")[0].split(",")
    if "." in equation or len(operands) != 2:
        return None
    sizes = {
        k: n for names, shape in zip(operands, shapes) for k, n in zip(names, shape)
    }
    return int(np.prod(list(sizes.values())))
