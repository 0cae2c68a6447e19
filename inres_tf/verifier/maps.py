"""The layers that can be verified: what they compute, and their Lipschitz constants.

Each is a function of a saved layer and the shape of its inputs, without the batch, that
returns a `Map`. `MAPS` lists them by class; neural ODEs have a module of their own.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from inres_tf.verifier.archive import SavedLayer
from inres_tf.verifier.operators import Convolution, Matrix

Shape: TypeAlias = tuple[int, ...]
# Factors such as 2 / σ² are rounded to float32 where the layers run.
FLOAT32 = 1e-6
# The norm of an orthogonal matrix that is computed anew in float32.
ORTHOGONAL = 1 + 1e-5
# Below it, the layers do not divide by an estimated norm or a standard deviation.
_SMALLEST_NORM = 1e-6
_SMALLEST_DEVIATION = 1e-7


@dataclasses.dataclass(frozen=True)
class Map:
    """What a layer computes at inference.

    Attributes:
        apply: function of a float64 array, (batch, ...).
        lipschitz: an upper bound of its Lipschitz constant in the L2 norm.
        shape: shape of its outputs, without the batch.
        matrix: W if the layer is x -> x W + b, (inputs, outputs).
    """

    apply: Callable[[np.ndarray], np.ndarray]
    lipschitz: float
    shape: Shape
    matrix: np.ndarray | None = None


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0), in place."""
    return np.maximum(x, 0.0, out=x)


def _identity(layer: SavedLayer, shape: Shape) -> Map:
    return Map(lambda x: x, 1.0, shape)


def _check(layer: SavedLayer, **allowed: Any) -> None:
    """Refuses settings that change what a layer computes, unless they are as given."""
    for name, value in allowed.items():
        found = layer.settings.get(name, value)
        if isinstance(found, (list, tuple)) and len(set(found)) == 1:
            found = found[0]
        if found != value:
            raise layer.error(
                f"cannot be verified with {name}={found!r}; it must be {value!r}"
            )


def _normalization(layer: SavedLayer, shape: Shape) -> Map:
    _check(layer, invert=False)
    axis, ranks = layer.settings["axis"], (-1, len(shape))
    if axis is not None and np.ravel(axis).tolist() not in ([ranks[0]], [ranks[1]]):
        raise layer.error(f"must normalise the last axis; got axis={axis}")
    statistics = [layer.settings[name] for name in ("mean", "variance")]
    if statistics[0] is None:
        statistics = layer.groups[""][:2]
    mean, variance = (np.asarray(value, np.float64).ravel() for value in statistics)
    deviation = np.maximum(np.sqrt(variance), _SMALLEST_DEVIATION)
    bound = float(1 / deviation.min()) * (1 + FLOAT32)
    return Map(lambda x: (x - mean) / deviation, bound, shape)


def _rescaling(layer: SavedLayer, shape: Shape) -> Map:
    scale, offset = (
        np.asarray(layer.settings[name], np.float64) for name in ("scale", "offset")
    )
    bound = float(np.abs(scale).max()) * (1 + FLOAT32)
    return Map(lambda x: x * scale + offset, bound, shape)


def _space_to_depth(layer: SavedLayer, shape: Shape) -> Map:
    size, (height, width, channels) = layer.settings["size"], shape
    rows, columns = -(-height // size), -(-width // size)

    def apply(x):
        full = np.zeros((len(x), rows * size, columns * size, channels))
        full[:, :height, :width] = x
        cells = full.reshape(-1, rows, size, columns, size, channels)
        return cells.swapaxes(2, 3).reshape(-1, rows, columns, size * size * channels)

    return Map(apply, 1.0, (rows, columns, size * size * channels))


def _resize_channels(layer: SavedLayer, shape: Shape) -> Map:
    channels = layer.settings["channels"]
    kept = min(channels, shape[-1])

    def apply(x):
        resized = np.zeros((*x.shape[:-1], channels))
        resized[..., :kept] = x[..., :kept]
        return resized

    return Map(apply, 1.0, (*shape[:-1], channels))


def _zero_padding(layer: SavedLayer, shape: Shape) -> Map:
    _check(layer, data_format="channels_last")
    (top, bottom), (left, right) = layer.settings["padding"]
    margins = [(0, 0), (top, bottom), (left, right), (0, 0)]
    height, width, channels = shape
    padded = (height + top + bottom, width + left + right, channels)
    return Map(lambda x: np.pad(x, margins), 1.0, padded)


def _flatten(layer: SavedLayer, shape: Shape) -> Map:
    _check(layer, data_format="channels_last")
    return Map(lambda x: x.reshape(len(x), -1), 1.0, (math.prod(shape),))


def _average(layer: SavedLayer, shape: Shape) -> Map:
    _check(layer, data_format="channels_last", keepdims=False)
    bound = 1 / math.sqrt(shape[0] * shape[1])
    return Map(lambda x: x.mean((1, 2)), bound, shape[2:])


def _max_min(layer: SavedLayer, shape: Shape) -> Map:
    def apply(x):
        first, second = np.split(x, 2, axis=-1)
        pair = np.maximum(first, second), np.minimum(first, second)
        return np.concatenate(pair, axis=-1)

    return Map(apply, 1.0, shape)


def _relu_layer(layer: SavedLayer, shape: Shape) -> Map:
    _check(layer, negative_slope=0.0, threshold=0.0)
    largest = layer.settings.get("max_value")
    largest = math.inf if largest is None else largest
    return Map(lambda x: np.clip(x, 0.0, largest), 1.0, shape)


def _activation(layer: SavedLayer) -> Callable[[np.ndarray], np.ndarray] | None:
    """The activation among the settings of a layer; None if it has none.

    The softmax after the logits was taken off before.
    """
    name = layer.settings.get("activation")
    if name in (None, "linear"):
        return None
    if name == "relu":
        return lambda x: np.maximum(x, 0.0)
    raise layer.error(
        f"cannot be verified with activation={name!r}; it must be 'linear', 'relu' or, "
        "after the logits, 'softmax'"
    )


def _activation_layer(layer: SavedLayer, shape: Shape) -> Map:
    return Map(_activation(layer) or (lambda x: x), 1.0, shape)


def _dense(layer: SavedLayer, shape: Shape) -> Map:
    kernel, *bias = layer.weights(1 + layer.settings["use_bias"])
    return _affine(layer, Matrix(kernel), bias, (*shape[:-1], kernel.shape[1]))


def _conv2d(layer: SavedLayer, shape: Shape) -> Map:
    _check(layer, data_format="channels_last", groups=1, dilation_rate=1)
    strides, padding = layer.settings["strides"], layer.settings["padding"]
    if len(set(strides)) > 1 or padding not in ("same", "valid"):
        raise layer.error(
            "must have equal strides and the padding 'same' or 'valid'; got "
            f"strides={strides}, padding={padding!r}"
        )
    kernel, *bias = layer.weights(1 + layer.settings["use_bias"])
    operator = Convolution(kernel, shape[:2], strides[0], padding == "same")
    (_, _, rows), (_, _, columns) = operator.windows
    return _affine(layer, operator, bias, (rows, columns, kernel.shape[-1]))


def _affine(layer: SavedLayer, operator: Any, bias: list, shape: Shape) -> Map:
    """A linear map, a bias and the activation of the layer."""
    activation = _activation(layer)

    def apply(x):
        outputs = operator(x)
        if bias:
            outputs += bias[0]
        return outputs if activation is None else activation(outputs)

    affine = activation is None and isinstance(operator, Matrix)
    matrix = operator.kernel if affine else None
    return Map(apply, operator.norm, shape, matrix)


def _operator(kernel: np.ndarray, shape: Shape) -> Any:
    """The matrix, or the convolution on images of this shape, with a kernel."""
    return Matrix(kernel) if kernel.ndim == 2 else Convolution(kernel, shape[:2])


def scale_of(settings: Any, sigma: np.ndarray, power: float = 1.0) -> float:
    """The factor with which a layer keeps the estimated norm of a kernel to its limit.

    Args:
        settings: arguments of the layer: `limit`, and `penalty`, with which it only
            penalises in training what exceeds the limit.
        sigma: the estimated norm.
        power: of the limit.
    """
    limit = settings.get("limit")
    if limit is None or settings.get("penalty") is not None:
        return 1.0
    return min(1.0, limit**power / max(float(sigma), _SMALLEST_NORM))


def _limited(layer: SavedLayer, shape: Shape) -> Map:
    """W min(1, limit / σ) x + b."""
    kernel, *bias, _, sigma = layer.weights(3 + layer.settings["use_bias"])
    operator = _operator(kernel * scale_of(layer.settings, sigma), shape)
    limited = _affine(layer, operator, bias, (*shape[:-1], kernel.shape[-1]))
    return dataclasses.replace(limited, lipschitz=limited.lipschitz * (1 + FLOAT32))


def _convex_potential(layer: SavedLayer, shape: Shape) -> Map:
    """The block a x - c Wᵀ relu(W x + b) with c = 2 a / σ².

    The Jacobian a I - c Wᵀ D W with 0 <= D <= I is symmetric, and its eigenvalues lie
    between a - c ‖W‖² and a.
    """
    damping = layer.settings["damping"]
    kernel, bias, *k, _, sigma = layer.weights(4 + (damping != "none"))
    rates: dict[str, Callable[[float], float]] = {
        "none": lambda _: 1.0,
        "in": lambda k: 1.0 - max(1.0 - k, 0.0),
        "exponential": lambda k: math.exp(-max(k, 0.0)),
    }
    if damping not in rates:
        raise layer.error(
            f"must have one of the dampings {', '.join(rates)}; got {damping!r}"
        )
    a = min(max(rates[damping](float(k[0]) if k else 0.0), 0.0), 1.0)
    weight = 2 * a / max(float(sigma), _SMALLEST_NORM) ** 2
    operator = _operator(kernel, shape)

    def apply(x):
        hidden = operator(x)
        hidden += bias
        branch = operator.transpose(relu(hidden))
        branch *= -weight
        branch += a * x
        return branch

    bound = max(a, weight * operator.norm**2 - a) * (1 + FLOAT32)
    return Map(apply, bound, shape)


def shifted_orthogonal(kernel: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The function x -> Q S x of the layer of this name.

    S shifts each fifth of the channels by a pixel to another side, the first by none,
    and Q = (I - A) (I + A)⁻¹ mixes the channels, A being the skew-symmetric part of the
    kernel: an orthogonal matrix for whatever weights, so that the norm is at most 1.

    Args:
        kernel: (channels, channels).
    """
    channels = len(kernel)
    skew, eye = kernel - kernel.T, np.eye(channels)
    matrix = (eye - skew) @ np.linalg.inv(eye + skew)
    shifts = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
    ends = [channels * i // len(shifts) for i in range(len(shifts) + 1)]

    def apply(x):
        height, width = x.shape[1:3]
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        shifted = np.empty_like(x)
        for (i, j), start, end in zip(shifts, ends, ends[1:]):
            rows, columns = slice(1 + i, 1 + i + height), slice(1 + j, 1 + j + width)
            shifted[..., start:end] = padded[:, rows, columns, start:end]
        return shifted @ matrix

    return apply


def _shifted_orthogonal(layer: SavedLayer, shape: Shape) -> Map:
    (kernel,) = layer.weights(1)
    return Map(shifted_orthogonal(kernel), ORTHOGONAL, shape)


_KERAS: dict[str, Callable[[SavedLayer, Shape], Map]] = {
    "Activation": _activation_layer,
    "Conv2D": _conv2d,
    "Dense": _dense,
    "Flatten": _flatten,
    "GlobalAveragePooling2D": _average,
    "Normalization": _normalization,
    "ReLU": _relu_layer,
    "Rescaling": _rescaling,
    "ZeroPadding2D": _zero_padding,
    # These change nothing at inference.
    "Dropout": _identity,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "SpatialDropout2D": _identity,
}
_OWN: dict[str, Callable[[SavedLayer, Shape], Map]] = {
    "ConvexPotentialConv2D": _convex_potential,
    "ConvexPotentialDense": _convex_potential,
    "LipschitzConv2D": _limited,
    "LipschitzDense": _limited,
    "MaxMin": _max_min,
    "ResizeChannels": _resize_channels,
    "ShiftedOrthogonal": _shifted_orthogonal,
    "SpaceToDepth": _space_to_depth,
    "UniformNoise": _identity,
}
MAPS = _KERAS | {f"inres_tf>{name}": make for name, make in _OWN.items()}
