"""1-Lipschitz changes of resolution and width."""

from typing import Any

import keras
from keras import ops

from inres_tf.arguments import positive_integer


class _NonExpansive(keras.layers.Layer):
    def lipschitz_bound(self) -> float:
        """1."""
        return 1.0


@keras.saving.register_keras_serializable(package="inres_tf")
class SpaceToDepth(_NonExpansive):
    """Moves each cell of `size` x `size` pixels into the channels.

    An isometry, unlike a strided convolution or a pooling. Where the height or width is
    not a multiple of `size`, zeros are appended below and to the right.

    Args:
        size: side of a cell, at least 1.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, height, width, channels), of known height and width.

    Returns:
        (batch, ⌈height / size⌉, ⌈width / size⌉, channels · size²); channels are ordered
        by row of the cell, column of the cell, channel.

    Raises:
        ValueError: if `size` is wrong, or the height and width are not known.

    Example:
        >>> import keras
        >>> layer = inres_tf.layers.SpaceToDepth(2)
        >>> layer(keras.ops.ones((1, 28, 28, 1))).shape[1:]
        TensorShape([14, 14, 4])

    Reference:
        Shi et al.: Real-Time Single Image and Video Super-Resolution Using an Efficient
        Sub-Pixel Convolutional Neural Network, CVPR 2016, whose shuffle it inverts.
    """

    def __init__(self, size: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = positive_integer("size", size)

    def build(self, input_shape: tuple) -> None:
        """Checks that the height and width are known."""
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                "SpaceToDepth needs images of known height, width and channels. "
                f"Received: input_shape={tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        """Rearranges the images."""
        size = self.size
        height, width, channels = inputs.shape[1:]
        rows, columns = -(-height // size), -(-width // size)
        below, right = rows * size - height, columns * size - width
        if below or right:
            inputs = ops.pad(inputs, [(0, 0), (0, below), (0, right), (0, 0)])
        cells = ops.reshape(inputs, (-1, rows, size, columns, size, channels))
        cells = ops.transpose(cells, (0, 1, 3, 2, 4, 5))
        return ops.reshape(cells, (-1, rows, columns, size * size * channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """See `Returns` of the class."""
        batch, height, width, channels = input_shape
        return (
            batch,
            -(-height // self.size),
            -(-width // self.size),
            channels * self.size**2,
        )

    def get_config(self) -> dict:
        """Returns all arguments of the constructor."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="inres_tf")
class ResizeChannels(_NonExpansive):
    """Appends channels of zeros, or keeps only the first channels.

    Zeros give the trajectories of a neural ODE room to pass each other.

    Args:
        channels: number of channels of the output, at least 1.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, ..., channels).

    Returns:
        (batch, ..., `channels`).

    Raises:
        ValueError: if `channels` is wrong.

    Example:
        >>> import keras
        >>> layer = inres_tf.layers.ResizeChannels(3)
        >>> keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 2)))).tolist()
        [[1.0, 1.0, 0.0]]

    Reference:
        Dupont, Doucet, Teh: Augmented Neural ODEs, NeurIPS 2019.
    """

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = positive_integer("channels", channels)

    def call(self, inputs: Any) -> Any:
        """Resizes the last axis."""
        more = self.channels - inputs.shape[-1]
        if more <= 0:
            return inputs[..., : self.channels]
        return ops.pad(inputs, [(0, 0)] * (len(inputs.shape) - 1) + [(0, more)])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """See `Returns` of the class."""
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict:
        """Returns all arguments of the constructor."""
        return {**super().get_config(), "channels": self.channels}
