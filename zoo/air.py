"""The parts of AirNets: whitened patches, and blocks that pool between convolutions."""

from typing import TYPE_CHECKING

import keras
from keras import layers

from inres_tf.layers import BatchNormalization, PartialIdentity, PatchWhitening
from zoo import presets

if TYPE_CHECKING:
    from zoo import builder

STEM_KERNEL = 2


def stem_filters(channels: int) -> int:
    """Returns the number of filters of the stem for images with some channels."""
    return 2 * STEM_KERNEL**2 * channels


def convolve(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    """Applies a 3x3 convolution that first passes its inputs on."""
    return layers.Conv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=PartialIdentity(),
        data_format="channels_last",
        name=f"{name}_conv",
    )(x)


def activate(
    x: keras.KerasTensor, style: presets.Style, name: str
) -> keras.KerasTensor:
    """Applies batch normalisation and GELU."""
    x = BatchNormalization(epsilon=style.epsilon, momentum=0.9, name=f"{name}_bn")(x)
    return layers.Activation("gelu", name=f"{name}_gelu")(x)


def stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """Whitens patches by a convolution that is not trained."""
    x = layers.Conv2D(
        stem_filters(x.shape[-1]),
        STEM_KERNEL,
        padding="same",
        use_bias=False,
        kernel_initializer=PatchWhitening(),
        trainable=False,
        data_format="channels_last",
        name="stem_conv",
    )(x)
    return layers.Activation("gelu", name="stem_gelu")(x)


def block(
    x: keras.KerasTensor,
    kind: presets.Block,
    placed: "builder.Placed",
    style: presets.Style,
    merge: keras.layers.Layer,
    drop: float,
) -> keras.KerasTensor:
    """Applies a block: a convolution with pooling, then a residual branch.

    Args:
        x: input of the block.
        kind: kind of the block, `POOLED`.
        placed: name and width of the block.
        style: conventions of the network.
        merge: layer that is called on `[shortcut, branch]`.
        drop: probability of dropping the branch of a sample in training.
    """
    name, width = placed.name, placed.width
    x = convolve(x, width, f"{name}_1")
    x = layers.MaxPooling2D(2, data_format="channels_last", name=f"{name}_pool")(x)
    x = activate(x, style, f"{name}_1")
    branch = activate(convolve(x, width, f"{name}_2"), style, f"{name}_2")
    if drop:
        branch = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(
            branch
        )
    return merge([x, branch])
