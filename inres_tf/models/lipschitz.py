"""Sound Lipschitz bounds of whole networks, in the L2 norm.

The bound of a tensor follows from those of the tensors that a layer computes it from.
Everything here is an upper bound in float64: composition multiplies, an addition adds,
and each layer contributes a bound of its own, never an estimate.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from inres_tf.layers import (
    BatchNormalization,
    DampedAdd,
    GroupedConv2D,
    LipschitzDense,
    UniformNoise,
    dampings,
    operator_norms,
)
from inres_tf.layers.lipschitz import ConvOperator
from inres_tf.models.graph import graph_calls, is_graph, node_of
from inres_tf.models.logits import logits_fn

# A layer, the bounds of the tensors that it is called on, and their shapes.
Rule = Callable[[Any, Sequence[float], Sequence[tuple]], float]

# Relative slack for the rounding of products and sums in float64, and of the factors
# that layers compute in float32, such as that of a batch normalisation.
_SLACK, _SLACK_OF_FACTORS = 1e-9, 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class LipschitzBound:
    """A sound bound of a classifier's Lipschitz constant with respect to its pixels.

    Distances are L2 norms of differences of pixels in [0, 255], so that the bounds are
    per 1/255 of the pixel range. The normalisation of the pixels is included.

    Attributes:
        features: bound of the map from the pixels to the inputs of the last dense
            layer; to the logits, if the last layer is no dense layer.
        kernel: kernel of the last dense layer, float64, (features, classes); the
            identity if there is none.
    """

    features: float
    kernel: np.ndarray

    @functools.cached_property
    def pairwise(self) -> np.ndarray:
        """Bounds of logit i - logit j: float64, (classes, classes), zero for i = j.

        With the columns w of the kernel, the bound is `features` times ‖w_i - w_j‖.
        """
        norms = [
            np.linalg.norm(self.kernel - column[:, None], axis=0)
            for column in self.kernel.T
        ]
        return self.features * np.stack(norms) * (1 + _SLACK)

    @functools.cached_property
    def global_bound(self) -> float:
        """Bound of the map from the pixels to all logits, both in the L2 norm."""
        return self.features * operator_norms.dense_norm_bound(self.kernel)


def lipschitz_bound(model: keras.Model) -> LipschitzBound:
    """A sound bound of a classifier's Lipschitz constant, in evaluation mode.

    A layer with a method `lipschitz_bound()` gives its own bound. The other layers that
    are supported are the keys of `RULES`, which you can extend.

    Args:
        model: functional or Sequential Keras classifier; a softmax at its end is left
            out.

    Returns:
        The bound. It holds in exact arithmetic for the weights as they are.

    Raises:
        ValueError: if the logits cannot be found, a layer has no known bound (such as
            a neural ODE with an adaptive method), or the bound is not finite. The
            message names the layer.

    Example:
        >>> import keras
        >>> layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
        >>> last = inres_tf.layers.LipschitzDense(3, limit=0.5)
        >>> model = keras.Sequential([keras.Input((2, 2, 1)), *layers, last])
        >>> inres_tf.layers.tighten(model)
        >>> bound = inres_tf.models.lipschitz_bound(model)
        >>> round(255 * bound.features, 4), round(255 * bound.global_bound, 4)
        (1.0, 0.5)

    Reference:
        Tsuzuku, Sato, Sugiyama: Lipschitz-Margin Training, NeurIPS 2018, for the
        composition; the bound of each pair of classes is that of the last layer's
        difference of weights.
    """
    logits_fn(model)
    for layer in model._flatten_layers():
        if getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"The layer {layer.name!r} of {model.name} is quantized "
                f"({layer.quantization_mode}), which no bound takes into account."
            )
    features, kernel = _head(model, [1.0] * len(model.inputs), removable=True)
    if not np.isfinite(features) or not np.isfinite(kernel).all():
        raise ValueError(f"{model.name} has weights that are not finite.")
    return LipschitzBound(features * (1 + _SLACK), kernel)


def _head(model, inputs, removable) -> tuple[float, np.ndarray]:
    """The bound before the last dense layer, and that layer's kernel.

    Args:
        model: functional or Sequential model.
        inputs: bounds of its inputs.
        removable: whether a softmax at the end is left out. Only one is, as in
            `logits_fn`.
    """
    _check_call(model)
    node = node_of(model.outputs[0])
    if removable and _is_softmax(node.operation):
        node, removable = node_of(node.input_tensors[0]), False
    bounds = _bounds(model, inputs, until=node)
    layer, sources = node.operation, [bounds[id(x)] for x in node.input_tensors]
    if isinstance(layer, keras.Model):
        return _head(layer, sources, removable)
    kernel = _KERNELS.get(type(layer))
    leaves_out = ("linear", "softmax") if removable else ("linear",)
    if kernel and _activation(layer) in leaves_out:
        return sources[0], kernel(layer)
    return _call(model, node, sources)[0], np.eye(node.outputs[0].shape[-1])


def _is_softmax(layer) -> bool:
    if isinstance(layer, layers.Softmax):
        return True
    return isinstance(layer, layers.Activation) and _activation(layer) == "softmax"


def _bounds(model, inputs, until=None) -> dict[int, float]:
    """Bounds of all tensors of a model by id, or of those before the call `until`."""
    bounds = {id(tensor): bound for tensor, bound in zip(model.inputs, inputs)}
    for node in graph_calls(model):
        if node is until:
            break
        if not node.is_input:
            sources = [bounds[id(tensor)] for tensor in node.input_tensors]
            results = _call(model, node, sources)
            bounds |= {id(x): bound for x, bound in zip(node.outputs, results)}
    return bounds


def _check_call(model) -> None:
    """Raises ValueError for a model that computes something else than its graph."""
    if not is_graph(model):
        raise ValueError(
            f"{model.name} is a {type(model).__name__}, whose own `call` may compute "
            "something else than its layers: use keras.Model(inputs, outputs)."
        )


def _call(model, node, sources) -> list[float]:
    """Bounds of the outputs of one call."""
    operation = node.operation
    if isinstance(operation, (keras.Function, keras.Sequential)):
        _check_call(operation)
        bounds = _bounds(operation, sources)
        return [bounds[id(tensor)] for tensor in operation.outputs]
    shapes = [tuple(tensor.shape) for tensor in node.input_tensors]
    rule = _own if hasattr(operation, "lipschitz_bound") else RULES.get(type(operation))
    name = type(operation).__name__
    if rule is None and name == "Add" and _is_of_keras(type(operation)):
        rule = _sum  # of the operator +
    if rule is None:
        raise ValueError(
            f"The layer {operation.name!r} ({name}) of {model.name} has no known "
            "Lipschitz bound: give its class a method `lipschitz_bound`, or use "
            f"{', '.join(layer.__name__ for layer in RULES)}."
        )
    try:
        if type(operation) in _ELEMENTWISE or rule is _sum:
            outputs = tuple(node.outputs[0].shape)
            sources = [s * _repeats(x, outputs) for s, x in zip(sources, shapes)]
        bound = rule(operation, sources, shapes)
    except ValueError as error:
        raise ValueError(f"{model.name}, layer {operation.name!r}: {error}") from error
    return [bound] * len(node.outputs)


def _is_of_keras(function) -> bool:
    """Whether a class or function is Keras' own, or its backend's."""
    module = getattr(function, "__module__", None) or ""
    return module.partition(".")[0] in ("keras", "tensorflow", "jax", "torch")


def _repeats(shape, outputs) -> float:
    """How much broadcasting to the shape of the outputs increases the norm."""
    if shape[1:] == outputs[1:]:
        return 1.0
    if len(shape) != len(outputs) or None in (*shape[1:], *outputs[1:]):
        raise ValueError(
            f"it broadcasts {shape} to {outputs}, by unknown factors: use tensors of "
            "the same shape."
        )
    return math.sqrt(math.prod(outputs[1:]) / math.prod(shape[1:]))


def _own(layer, sources, shapes):
    """The bound of a layer with the method `lipschitz_bound`."""
    called = {tuple(n.input_tensors[0].shape[1:]) for n in layer._inbound_nodes}
    if len(called) > 1:
        raise ValueError(
            f"it is called on tensors of several shapes, {sorted(called, key=str)}, "
            "but its `lipschitz_bound` is that of one."
        )
    depends = any(isinstance(part, ConvOperator) for part in layer._flatten_layers())
    if depends and None in shapes[0][1:]:
        raise ValueError(
            "its Lipschitz bound depends on the height and width of its input, which "
            f"are not known: {shapes[0]}."
        )
    return layer.lipschitz_bound() * math.hypot(*sources)


def _numpy(values) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(values), np.float64)


def _activation(layer) -> str:
    """The name of a layer's activation; `"linear"` if it has none."""
    activation = getattr(layer, "activation", keras.activations.linear)
    name = str(keras.activations.serialize(activation))
    # A function of the user may have the name of one of Keras.
    return name if _is_of_keras(activation) else f"{name} of {activation.__module__}"


# Activations whose slope is at most 1; softmax by Gao and Pavel (arXiv 1704.00805).
_ACTIVATIONS = {
    *("linear", "relu", "relu6", "tanh", "sigmoid", "softplus", "softsign", "elu"),
    *("softmax", "log_sigmoid", "hard_tanh"),
}


def _slope(layer) -> float:
    """The Lipschitz constant of the activation that ends a layer."""
    name = _activation(layer)
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"its activation {name} has no known Lipschitz bound: use one of "
            f"{', '.join(sorted(_ACTIVATIONS))}, or a layer of its own."
        )
    return 1.0


def _size(layer, shape) -> tuple[int, int]:
    """Height and width of a layer's input."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise ValueError("its data_format is not channels_last.")
    if len(shape) != 4 or None in shape[1:3]:
        raise ValueError(
            "its Lipschitz bound depends on the height and width of its input, which "
            f"are not known: {shape}."
        )
    return shape[1], shape[2]


def _conv(layer, shape) -> float:
    size = _size(layer, shape)
    # With unequal strides, its outputs are some of those with a common divisor.
    stride = math.gcd(*layer.strides)
    kernel = _numpy(layer.kernel)
    rows, columns = layer.dilation_rate
    height, width = kernel.shape[:2]
    dilated = np.zeros(
        (rows * (height - 1) + 1, columns * (width - 1) + 1, *kernel.shape[2:])
    )
    dilated[::rows, ::columns] = kernel
    groups = np.split(dilated, layer.groups, axis=-1)
    norms = [operator_norms.conv_norm_bound(group, size, stride) for group in groups]
    return max(norms) * _slope(layer)


def _dense(layer, shape) -> float:
    return operator_norms.dense_norm_bound(_numpy(layer.kernel)) * _slope(layer)


def _batch_normalization(layer, shape) -> float:
    scale = _numpy(layer.gamma) if layer.scale else 1.0
    factors = np.abs(scale) / np.sqrt(_numpy(layer.moving_variance) + layer.epsilon)
    return float(factors.max()) * (1 + _SLACK_OF_FACTORS)


def _normalization(layer, shape) -> float:
    deviations = np.sqrt(_numpy(layer.variance))
    deviations = np.maximum(deviations, keras.backend.epsilon())
    factors = deviations if layer.invert else 1 / deviations
    return float(factors.max()) * (1 + _SLACK_OF_FACTORS)


def _rescaling(layer, shape) -> float:
    scale = float(np.abs(np.asarray(layer.scale, np.float64)).max())
    return scale * (1 + _SLACK_OF_FACTORS)


def _relu(layer, shape) -> float:
    if layer.threshold:
        raise ValueError("its threshold makes it discontinuous.")
    return max(1.0, abs(float(layer.negative_slope)))


def _leaky_relu(layer, shape) -> float:
    return max(1.0, abs(float(layer.negative_slope)))


def _overlap(layer) -> int:
    """The largest number of windows that a pixel is in."""
    pairs = zip(layer.pool_size, layer.strides)
    return math.prod(-(-window // stride) for window, stride in pairs)


def _max_pooling(layer, shape) -> float:
    return math.sqrt(_overlap(layer))


def _average_pooling(layer, shape) -> float:
    # The mean of n differences, squared, is at most the mean of their squares. Padding
    # does not count, so that a window at the border may have a single pixel.
    smallest = math.prod(layer.pool_size) if layer.padding == "valid" else 1
    return math.sqrt(_overlap(layer) / smallest) * (1 + _SLACK_OF_FACTORS)


def _global_average(layer, shape) -> float:
    return (1 + _SLACK_OF_FACTORS) / math.sqrt(math.prod(_size(layer, shape)))


def _one(layer, shape) -> float:
    return 1.0


def _sum(layer, sources, shapes):
    return math.fsum(sources)


def _average(layer, sources, shapes):
    return math.fsum(sources) / len(sources)


def _joint(layer, sources, shapes):
    """Of tensors side by side, and of the larger or smaller of two values."""
    return math.hypot(*sources)


def _damped_add(layer, sources, shapes):
    damping, rate = dampings.get(layer.damping), layer.rate
    shortcut, branch = (
        abs(float(ops.convert_to_numpy(weight(rate))))
        for weight in (damping.shortcut, damping.branch)
    )
    total = shortcut * sources[0] + branch * sources[1]
    return total * (1 + _SLACK_OF_FACTORS)


def _limited_kernel(layer) -> np.ndarray:
    """The kernel that a `LipschitzDense` multiplies by: scaled down to its limit."""
    kernel, norm = _numpy(layer.kernel), layer.norm_bound()
    return kernel * (layer.lipschitz_bound() / norm if norm else 0.0)


# By the class of a last layer, the kernel by which it multiplies its input.
_KERNELS: dict[type, Callable[[Any], np.ndarray]] = {
    layers.Dense: lambda layer: _numpy(layer.kernel),
    LipschitzDense: _limited_kernel,
}


def _times(factor: Callable[[Any, tuple], float]) -> Rule:
    """The rule of a layer of one input, a function of the layer and its shape."""
    return lambda layer, sources, shapes: sources[0] * factor(layer, shapes[0])


# Layers that broadcast their inputs to a common shape.
_ELEMENTWISE = {
    *(layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum),
    DampedAdd,
}
# By the class of a layer, the bound of its output. Subclasses need a rule of their own,
# since they may compute something else.
RULES: dict[type, Rule] = {
    layers.Conv2D: _times(_conv),
    GroupedConv2D: _times(_conv),
    layers.Dense: _times(_dense),
    layers.BatchNormalization: _times(_batch_normalization),
    BatchNormalization: _times(_batch_normalization),
    layers.Normalization: _times(_normalization),
    layers.Rescaling: _times(_rescaling),
    layers.Activation: _times(lambda layer, shape: _slope(layer)),
    layers.ReLU: _times(_relu),
    layers.LeakyReLU: _times(_leaky_relu),
    layers.MaxPooling2D: _times(_max_pooling),
    layers.AveragePooling2D: _times(_average_pooling),
    layers.GlobalAveragePooling2D: _times(_global_average),
    layers.Add: _sum,
    layers.Subtract: _sum,
    layers.Average: _average,
    layers.Concatenate: _joint,
    layers.Maximum: _joint,
    layers.Minimum: _joint,
    DampedAdd: _damped_add,
} | dict.fromkeys(
    (
        layers.Softmax,
        layers.Flatten,
        layers.Reshape,
        layers.Permute,
        layers.ZeroPadding2D,
        layers.Cropping2D,
        layers.GlobalMaxPooling2D,
        layers.Identity,
        # These do nothing in evaluation mode.
        layers.Dropout,
        layers.SpatialDropout2D,
        layers.GaussianNoise,
        layers.GaussianDropout,
        UniformNoise,
    ),
    _times(_one),
)
