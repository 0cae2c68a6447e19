"""Orthogonal maps of images without a convolution."""

import keras
import numpy as np
from keras import ops

from inres_tf.layers import operator_norms

# The shift of each fifth of the channels, in rows and columns.
_SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))


@keras.saving.register_keras_serializable(package="inres_tf")
class ShiftedOrthogonal(keras.layers.Layer):
    """Q S x: S shifts four fifths of the channels by a pixel, Q mixes the channels.

    Q is orthogonal whatever the weights: the Cayley transform of their skew-symmetric
    part A, (I - A) (I + A)⁻¹. Shifts leave pixels at the border and fill with zeros, so
    the norm is at most 1.

    Args:
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, height, width, channels).

    Returns:
        A tensor of the same shape.

    Example:
        >>> import keras
        >>> layer = inres_tf.layers.ShiftedOrthogonal()
        >>> layer(keras.ops.ones((1, 4, 4, 5))).shape[1:]
        TensorShape([4, 4, 5])

    Reference:
        Cayley transform: Trockman, Kolter: Orthogonalizing Convolutional Layers with
        the Cayley Transform, ICLR 2021. Shifts in place of convolutions: Wu et al.:
        Shift, CVPR 2018.
    """

    def build(self, input_shape):
        """Creates the weights, (channels, channels)."""
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            shape=(channels, channels),
            initializer=keras.initializers.RandomNormal(stddev=channels**-0.5),
            name="kernel",
            dtype="float32",
            autocast=False,
        )

    def matrix(self):
        """Q as a float32 tensor, (channels, channels)."""
        kernel = ops.convert_to_tensor(self.kernel)
        skew = kernel - ops.transpose(kernel)
        eye = ops.eye(kernel.shape[0], dtype="float32")
        # (I - A) and (I + A)⁻¹ commute.
        return ops.linalg.solve(eye + skew, eye - skew)

    def call(self, inputs):
        """Shifts and mixes the channels."""
        return self.apply(inputs, ops.cast(self.matrix(), inputs.dtype))

    def apply(self, inputs, matrix):
        """Shifts the inputs and mixes their channels with `matrix`."""
        height, width, channels = inputs.shape[1:]
        padded = ops.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
        bounds = [channels * i // len(_SHIFTS) for i in range(len(_SHIFTS) + 1)]
        parts = [
            padded[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width, first:last]
            for (i, j), first, last in zip(_SHIFTS, bounds, bounds[1:])
            if last > first
        ]
        return ops.matmul(ops.concatenate(parts, axis=-1), matrix)

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def lipschitz_bound(self) -> float:
        """A sound bound of the norm: 1 but for the rounding of Q."""
        matrix = ops.convert_to_numpy(self.matrix()).astype(np.float64)
        # Q is computed anew in float32 wherever the layer runs.
        return operator_norms.dense_norm_bound(matrix) * (1 + 1e-5)
