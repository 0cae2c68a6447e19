"""The shared builder: input, normalisation, residual blocks, head.

Every family of the zoo is made of these pieces; a variant is an argument.
"""

import keras
import numpy as np
from keras import layers

from zoo import presets

# The stem, the transitions and the head name their layers; blocks count within stages.
_CONV_INIT = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}


def conv(x, filters, kernel, stride=1, name=None):
    """Convolution without bias, padded by (kernel - 1) / 2 on both sides.

    `padding="same"` would pad a strided convolution on the far side only, which is
    not what the official code (PyTorch) does.
    """
    padding = "same"
    if stride > 1:
        padding = "valid"
        if kernel > 1:
            x = layers.ZeroPadding2D(
                kernel // 2, data_format="channels_last", name=f"{name}_pad"
            )(x)
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(**_CONV_INIT),
        data_format="channels_last",
        name=name,
    )(x)


def preactivation(x, name):
    """Batch normalisation (epsilon 1e-5, momentum 0.9) and ReLU."""
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def residual_block(x, block, width, stride, project, merge, name):
    """One pre-activation residual block.

    Args:
        x: the block's input.
        block: a `presets.Block`.
        width: the stage's width.
        stride: 1 or 2.
        project: whether the shortcut is BN, ReLU, 1x1 convolution, not the identity.
        merge: the layer that takes `[shortcut, branch]`.
        name: prefix of the names of the block's layers.

    Returns:
        What `merge` gives.
    """
    shortcut = x
    if project:
        shortcut = preactivation(x, f"{name}_shortcut")
        filters = width * block.widths[-1]
        shortcut = conv(shortcut, filters, 1, stride, f"{name}_shortcut_conv")
    for i, (kernel, factor) in enumerate(zip(block.kernels, block.widths)):
        x = preactivation(x, f"{name}_{i + 1}")
        at = stride if i == block.strided else 1
        x = conv(x, width * factor, kernel, at, f"{name}_{i + 1}_conv")
    return merge([shortcut, x])


def input_pixels(input_tensor, input_shape, include_top, minimum, strides):
    """The network's input tensor, after the rules of `keras.applications`.

    Args:
        input_tensor: a Keras tensor to build on, a backend tensor, or None.
        input_shape: (height, width, channels); height and width may be None.
        include_top: whether the network ends in a classifier, which decides what
            `input_shape=None` means.
        minimum: smallest height and width.
        strides: the product of the network's strides, for the message.

    Raises:
        ValueError: if the shape is not of three dimensions with known channels, or
            the images are smaller than the network's strides allow.
    """
    if input_tensor is not None:
        if not isinstance(input_tensor, keras.KerasTensor):
            input_tensor = layers.Input(tensor=input_tensor)
        input_shape = tuple(input_tensor.shape[1:])
    if input_shape is None:
        input_shape = (32, 32, 3) if include_top else (None, None, 3)
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
    if any(side is not None and side < minimum for side in shape[:2]):
        raise ValueError(
            f"The images must be at least {minimum}x{minimum} pixels, since the "
            f"network's strides reduce them {strides} times. "
            f"Received: input_shape={input_shape}"
        )
    return layers.Input(shape=shape) if input_tensor is None else input_tensor


def normalization(channels):
    """Layer that takes pixels in [0, 255] to the network's normalised values."""
    mean, std = np.array(presets.PIXEL_MEAN), np.array(presets.PIXEL_STD)
    if channels != 3:
        mean, std = (np.full(channels, v.mean()) for v in (mean, std))
    return layers.Normalization(
        axis=-1,
        mean=tuple(255.0 * mean),
        variance=tuple((255.0 * std) ** 2),
        dtype="float32",
        name="normalization",
    )


def head(x, include_top, pooling, classes, classifier_activation):
    """BN, ReLU and what `include_top` and `pooling` ask for on top."""
    x = preactivation(x, "head")
    pool = {"data_format": "channels_last"}
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool", **pool)(x)
        return layers.Dense(
            classes,
            activation=classifier_activation,
            kernel_initializer=keras.initializers.VarianceScaling(
                1 / 3, "fan_in", "uniform"
            ),
            # float32: probabilities and their logarithms need the range.
            dtype="float32",
            name="predictions",
        )(x)
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool", **pool)(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="max_pool", **pool)(x)
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
