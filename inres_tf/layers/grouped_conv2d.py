"""Grouped convolution that does not need XLA under TensorFlow."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="inres_tf")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose groups do not need XLA under TensorFlow.

    It has the same arguments, weights and results. Under TensorFlow, Keras compiles
    grouped convolutions with XLA, which on a CPU is slower by two orders of magnitude
    and makes an exported SavedModel depend on XLA. This layer uses TensorFlow's own
    operation where it and its gradients are implemented (GPU; CPU with oneDNN), and
    otherwise one convolution per group.

    Args:
        filters: number of filters, a multiple of `groups`.
        kernel_size: side of the kernel, or (height, width).
        groups: number of groups that the channels are split into.
        **kwargs: arguments of `keras.layers.Conv2D`.

    Example:
        >>> import numpy as np
        >>> layer = inres_tf.layers.GroupedConv2D(8, 3, groups=4, padding="same")
        >>> tuple(layer(np.ones((1, 5, 5, 4))).shape)
        (1, 5, 5, 8)

    Reference:
        Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR
        2017, figure 3c.
    """

    def convolution_op(
        self, inputs: keras.KerasTensor, kernel: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Convolves with a kernel of (height, width, channels / groups, filters)."""
        plain = self.groups == 1 or self.data_format != "channels_last"
        if plain or keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        from inres_tf.layers import tensorflow_ops

        outputs = tensorflow_ops.grouped_conv(
            inputs, kernel, self.strides, self.padding, self.dilation_rate
        )
        if outputs is not None:
            return outputs
        return ops.concatenate(
            [
                super(GroupedConv2D, self).convolution_op(group, weights)
                for group, weights in zip(
                    ops.split(inputs, self.groups, axis=-1),
                    ops.split(kernel, self.groups, axis=-1),
                )
            ],
            axis=-1,
        )
