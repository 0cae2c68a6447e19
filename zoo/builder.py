"""The shared builder: input, normalisation, stem, residual blocks, head.

Every family of the zoo is made of these pieces; a variant is an argument.
"""

from typing import NamedTuple

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
from zoo import presets

# The stem, the transitions and the head name their layers; blocks count within stages.
_CONV_INIT = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}
_LAST = {"data_format": "channels_last"}


def conv(x, filters, kernel, stride=1, bias=False, groups=1, name=None):
    """Convolution padded by (kernel - 1) / 2 on both sides.

    `padding="same"` would pad a strided convolution on the far side only, which is
    not what the official code (PyTorch) and ResNetV2 do.
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


def preactivation(x, style, name):
    """Batch normalisation (momentum 0.9) and ReLU."""
    x = BatchNormalization(epsilon=style.epsilon, momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def stem(x, style):
    """The layers before the first block."""
    kernel, stride, filters = style.stem
    x = conv(x, filters, kernel, stride, style.bias, name="stem_conv")
    if style.pool:
        x = layers.ZeroPadding2D(1, name="stem_pool_pad", **_LAST)(x)
        x = layers.MaxPooling2D(3, strides=2, name="stem_pool", **_LAST)(x)
    return x


def residual_block(x, block, placed, style, merge, drop):
    """One pre-activation residual block.

    Args:
        x: the block's input.
        block: a `presets.Block`.
        placed: a `Placed`, its name, width and stride.
        style: a `presets.Style`.
        merge: the layer that takes `[shortcut, branch]`.
        drop: probability that a sample goes without the branch in training.

    Returns:
        What `merge` gives. The shortcut is x itself where the shape stays, subsampled
        where the resolution alone changes, else a projection.
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
    """A block of a network.

    Attributes:
        name: prefix of its layers' names.
        width: the stage's width.
        stride: 1 or 2.
        damped: whether it is not the first and leaves the shape as it is.
    """

    name: str
    width: int
    stride: int
    damped: bool


def blocks(network) -> list[Placed]:
    """The blocks of a network in order."""
    style, found = network.style, []
    stages = len(network.repeats)
    for stage, (repeats, width) in enumerate(zip(network.repeats, style.widths), 1):
        for i in range(1, repeats + 1):
            if style.stride_last:
                reduces = i == repeats and stage < stages
            else:
                reduces = i == 1 and stage > 1
            name = f"stage{stage}_block{i}"
            found.append(Placed(name, width, 1 + reduces, i > 1 and not reduces))
    return found


def body(x, network, damping, stochastic_depth, noise):
    """The stem and all blocks.

    Args:
        x: normalised images.
        network: a `presets.Network`.
        damping: name of the damping.
        stochastic_depth: probability of dropping the last block's branch, from 0 at
            the first block growing linearly.
        noise: scale of the noise after each block.
    """
    k_range = dampings.scalar_range(damping, network.depth)
    x = stem(x, network.style)
    found = blocks(network)
    for i, placed in enumerate(found):
        name = f"{placed.name}_merge"
        if placed.damped:
            k_init = k_range and keras.initializers.RandomUniform(*k_range)
            merge = DampedAdd(damping, k_init, name=name)
        else:
            merge = layers.Add(name=name)
        drop = stochastic_depth * i / (len(found) - 1)
        x = residual_block(x, network.block, placed, network.style, merge, drop)
        if noise:
            layer = UniformNoise if i else layers.GaussianNoise
            x = layer(noise, name=f"{placed.name}_noise")(x)
    return x


def input_pixels(input_tensor, input_shape, include_top, style):
    """The network's input tensor, after the rules of `keras.applications`.

    Args:
        input_tensor: a Keras tensor to build on, a backend tensor, or None.
        input_shape: (height, width, channels); height and width may be None.
        include_top: whether the network ends in a classifier, which decides what
            `input_shape=None` means.
        style: a `presets.Style`, which says what size is the usual, and the smallest.

    Raises:
        ValueError: if the shape is not of three dimensions with known channels, or
            the images are smaller than the network's strides allow.
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


def check_shape(input_shape, style) -> tuple:
    """The shape of a network's images as a tuple; height and width may be None.

    Raises:
        ValueError: as `input_pixels`.
    """
    shape = tuple(input_shape) if isinstance(input_shape, (list, tuple)) else ()
    numbers = [n for n in shape if n is not None]
    if (
        len(shape) != 3
        or shape[-1] is None
        or not all(isinstance(n, (int, np.integer)) and n > 0 for n in numbers)
    ):
        raise ValueError(
            "`input_shape` must be (height, width, channels), positive integers, "
            "with known channels. "
            f"Received: input_shape={input_shape}"
        )
    if any(side is not None and side < style.minimum for side in shape[:2]):
        raise ValueError(
            f"The images must be at least {style.minimum}x{style.minimum} pixels, "
            f"since the network's strides reduce them {style.strides} times. "
            f"Received: input_shape={input_shape}"
        )
    return shape


def normalization(x, style):
    """Takes pixels in [0, 255] to the network's normalised values."""
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


def head(x, style, include_top, pooling, classes, classifier_activation):
    """BN, ReLU and what `include_top` and `pooling` ask for on top."""
    x = preactivation(x, style, "head")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool", **_LAST)(x)
        return layers.Dense(
            int(classes),
            activation=classifier_activation,
            kernel_initializer=keras.initializers.VarianceScaling(
                1 / 3, "fan_in", "uniform"
            ),
            # float32: probabilities and their logarithms need the range.
            dtype="float32",
            name="predictions",
        )(x)
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool", **_LAST)(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="max_pool", **_LAST)(x)
    return x


def check_top(include_top, pooling, classes):
    """Raises ValueError for a head that cannot be built."""
    if pooling not in (None, "avg", "max"):
        raise ValueError(
            f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}"
        )
    whole = isinstance(classes, (int, np.integer)) and not isinstance(classes, bool)
    if include_top and not (whole and classes >= 1):
        raise ValueError(
            f"`classes` must be a positive integer. Received: classes={classes!r}"
        )


def check_probability(name, value):
    """Raises ValueError unless a value is a number in [0, 1)."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ValueError(
            f"`{name}` must be a number in [0, 1). Received: {name}={value!r}"
        )
