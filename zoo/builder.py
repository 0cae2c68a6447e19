"""The parts of every network: input, normalisation, stem, residual blocks, head."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from inres_tf.layers import (
    BatchNormalization,
    DampedAdd,
    GroupedConv2D,
    UniformNoise,
    dampings,
)
from zoo import air, presets

_CONV_INIT = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}
_LAST = {"data_format": "channels_last"}


def conv(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    stride: int = 1,
    bias: bool = False,
    groups: int = 1,
    name: str | None = None,
) -> keras.KerasTensor:
    """Applies a convolution padded by (kernel - 1) / 2 on both sides.

    With `padding="same"`, Keras would pad a strided convolution on the far side only,
    unlike the official code (PyTorch) and ResNetV2.
    """
    padding = "same"
    if stride > 1:
        padding = "valid"
        if kernel > 1:
            x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad", **_LAST)(x)
    options = {} if groups == 1 else {"groups": groups}
    return (layers.Conv2D if groups == 1 else GroupedConv2D)(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=bias,
        kernel_initializer=keras.initializers.VarianceScaling(**_CONV_INIT),
        name=name,
        **options,
        **_LAST,
    )(x)


def preactivation(
    x: keras.KerasTensor, style: presets.Style, name: str
) -> keras.KerasTensor:
    """Applies batch normalisation (momentum 0.9) and ReLU."""
    x = BatchNormalization(epsilon=style.epsilon, momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def stem(x: keras.KerasTensor, style: presets.Style) -> keras.KerasTensor:
    """Applies the layers before the first block."""
    kernel, stride, filters = style.stem
    x = conv(x, filters, kernel, stride, style.bias, name="stem_conv")
    if style.pool:
        x = layers.ZeroPadding2D(1, name="stem_pool_pad", **_LAST)(x)
        x = layers.MaxPooling2D(3, strides=2, name="stem_pool", **_LAST)(x)
    return x


def residual_block(
    x: keras.KerasTensor,
    block: presets.Block,
    placed: "Placed",
    style: presets.Style,
    merge: keras.layers.Layer,
    drop: float,
) -> keras.KerasTensor:
    """Applies one pre-activation residual block.

    Args:
        x: input of the block.
        block: kind of the block.
        placed: name, width and stride of the block.
        style: conventions of the network.
        merge: layer that is called on `[shortcut, branch]`.
        drop: probability of dropping the branch of a sample in training.

    Returns:
        The output of `merge`. The shortcut is x itself if the shape does not change, x
        subsampled if only the resolution changes, and otherwise a projection.
    """
    name, width, stride, _ = placed
    filters = width * block.widths[-1]
    shortcut, first = x, None
    if x.shape[-1] != filters:
        if style.shared:
            shortcut = first = preactivation(x, style, f"{name}_1")
        else:
            shortcut = preactivation(x, style, f"{name}_shortcut")
        shortcut = conv(
            shortcut, filters, 1, stride, style.bias, name=f"{name}_shortcut_conv"
        )
    elif stride > 1:
        shortcut = layers.MaxPooling2D(
            1, strides=stride, name=f"{name}_shortcut_pool", **_LAST
        )(x)
    last = len(block.kernels) - 1
    for i, (kernel, factor) in enumerate(zip(block.kernels, block.widths)):
        if i > 0 or first is None:
            x = preactivation(x, style, f"{name}_{i + 1}")
        else:
            x = first
        x = conv(
            x,
            width * factor,
            kernel,
            stride if i == block.strided else 1,
            bias=style.bias and i == last,
            groups=block.groups if i == block.strided else 1,
            name=f"{name}_{i + 1}_conv",
        )
    if drop:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return merge([shortcut, x])


class Placed(NamedTuple):
    """A block in a network.

    Attributes:
        name: prefix of its layers' names, `"stage1_block2"`.
        width: width of its stage.
        stride: 1 or 2.
        damped: whether it has a damped addition: its shortcut keeps the shape, and it
            is not the first block of a pre-activation network.
    """

    name: str
    width: int
    stride: int
    damped: bool


def blocks(network: presets.Network) -> list[Placed]:
    """Returns the blocks of a network in order."""
    style, placed = network.style, []
    stages = len(network.repeats)
    for stage, (repeats, width) in enumerate(zip(network.repeats, style.widths), 1):
        for i in range(1, repeats + 1):
            if style.stride_last:
                reduces = i == repeats and stage < stages
            else:
                reduces = i == 1 and (stage > 1 or network.block.pooled)
            name = f"stage{stage}_block{i}"
            damped = network.block.pooled or (i > 1 and not reduces)
            placed.append(Placed(name, width, 1 + reduces, damped))
    return placed


def body(
    x: keras.KerasTensor,
    network: presets.Network,
    damping: str,
    stochastic_depth: float,
    noise: float,
) -> keras.KerasTensor:
    """Applies the stem and all blocks.

    Args:
        x: normalised images.
        network: the network's description.
        damping: name of the damping.
        stochastic_depth: probability of dropping the last block's branch in training,
            which grows linearly from 0 at the first block.
        noise: scale of the noise after each block.
    """
    k_range = dampings.scalar_range(damping, network.depth)
    x = air.stem(x) if network.block.pooled else stem(x, network.style)
    all_blocks = blocks(network)
    for i, placed in enumerate(all_blocks):
        name = f"{placed.name}_merge"
        if placed.damped:
            k_init = k_range and keras.initializers.RandomUniform(*k_range)
            merge = DampedAdd(damping, k_init, name=name)
        else:
            merge = layers.Add(name=name)
        drop = stochastic_depth * i / (len(all_blocks) - 1)
        block = air.block if network.block.pooled else residual_block
        x = block(x, network.block, placed, network.style, merge, drop)
        if noise:
            layer = UniformNoise if i else layers.GaussianNoise
            x = layer(noise, name=f"{placed.name}_noise")(x)
    return x


def input_pixels(
    input_tensor: Any,
    input_shape: Sequence[int | None] | None,
    include_top: bool,
    style: presets.Style,
) -> keras.KerasTensor:
    """Returns the input tensor of a network, by the rules of `keras.applications`.

    Args:
        input_tensor: a Keras tensor to build on, a backend tensor, or None.
        input_shape: (height, width, channels); height and width may be None. None for
            the default size of `style`, or any size without a top.
        include_top: whether the network ends in a classifier.
        style: conventions of the network, with its default and minimum sizes.

    Raises:
        ValueError: if the shape does not have three dimensions with known channels, or
            the images are too small for the strides of the network.
    """
    if input_tensor is not None:
        if not isinstance(input_tensor, keras.KerasTensor):
            input_tensor = layers.Input(tensor=input_tensor)
        input_shape = tuple(input_tensor.shape[1:])
    if input_shape is None:
        side = style.side if include_top else None
        input_shape = (side, side, 3)
    shape = check_shape(input_shape, style)
    return layers.Input(shape=shape) if input_tensor is None else input_tensor


def check_shape(
    input_shape: Sequence[int | None], style: presets.Style
) -> tuple[int | None, ...]:
    """Checks the shape of a network's images.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        style: conventions of the network, with its minimum size.

    Returns:
        The shape as a tuple.

    Raises:
        ValueError: if the shape does not have three dimensions with known channels, or
            the images are too small for the strides of the network.
    """
    shape = tuple(input_shape) if isinstance(input_shape, (list, tuple)) else ()
    numbers = [n for n in shape if n is not None]
    if (
        len(shape) != 3
        or shape[-1] is None
        or not all(isinstance(n, (int, np.integer)) and n > 0 for n in numbers)
    ):
        raise ValueError(
            "`input_shape` must be (height, width, channels), positive integers or "
            "None for the height and width. "
            f"Received: input_shape={input_shape}"
        )
    if any(side is not None and side < style.minimum for side in shape[:2]):
        raise ValueError(
            f"The images must have at least {style.minimum}x{style.minimum} pixels, "
            f"since the network's strides reduce them by {style.strides}. "
            f"Received: input_shape={input_shape}"
        )
    return shape


def normalization(x: keras.KerasTensor, style: presets.Style) -> keras.KerasTensor:
    """Maps pixels in [0, 255] to the normalised values of the network."""
    options = {"dtype": "float32", "name": "normalization"}
    if style.scaling == "symmetric":
        return layers.Rescaling(1 / 127.5, offset=-1.0, **options)(x)
    mean, std = np.array(presets.PIXEL_MEAN), np.array(presets.PIXEL_STD)
    if x.shape[-1] != 3:
        mean, std = (np.full(x.shape[-1], v.mean()) for v in (mean, std))
    return layers.Normalization(
        axis=-1,
        mean=tuple(255.0 * mean),
        variance=tuple((255.0 * std) ** 2),
        **options,
    )(x)


def head(
    x: keras.KerasTensor,
    network: presets.Network,
    include_top: bool,
    pooling: str | None,
    classes: int,
    classifier_activation: Any,
) -> keras.KerasTensor:
    """Applies BN and ReLU after residual blocks, then the classifier or the pooling."""
    pooled = network.block.pooled
    if not pooled:
        x = preactivation(x, network.style, "head")
    if include_top:
        x = pool(x, "max" if pooled else "avg")
        return layers.Dense(
            int(classes),
            activation=classifier_activation,
            kernel_initializer=keras.initializers.VarianceScaling(
                1 / 3, "fan_in", "uniform"
            ),
            # Probabilities and their logarithms need the range of float32.
            dtype="float32",
            name="predictions",
        )(x)
    return pool(x, pooling)


def pool(x: keras.KerasTensor, pooling: str | None) -> keras.KerasTensor:
    """Applies global pooling: None, `"avg"` or `"max"`."""
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool", **_LAST)(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="max_pool", **_LAST)(x)
    return x


def check_top(include_top: bool, pooling: str | None, classes: int) -> None:
    """Raises ValueError if `pooling` or `classes` is invalid."""
    if pooling not in (None, "avg", "max"):
        raise ValueError(
            f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}"
        )
    is_int = isinstance(classes, (int, np.integer)) and not isinstance(classes, bool)
    if include_top and not (is_int and classes >= 1):
        raise ValueError(
            f"`classes` must be a positive integer. Received: classes={classes!r}"
        )


def check_probability(name: str, value: float) -> None:
    """Raises ValueError if the argument `name` is not a number in [0, 1)."""
    is_number = isinstance(value, (int, float, np.number))
    if not is_number or isinstance(value, bool) or not 0 <= value < 1:
        raise ValueError(
            f"`{name}` must be a number in [0, 1). Received: {name}={value!r}"
        )
