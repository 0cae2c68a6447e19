"""Grouped convolution that does not need XLA under TensorFlow."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="inres_tf")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose groups do not need XLA under TensorFlow.

    The same arguments, weights and results. Under TensorFlow, Keras compiles a grouped
    convolution with XLA: on a CPU that is slower by two orders of magnitude, and a
    SavedModel then needs XLA to be served. This layer takes TensorFlow's own operation
    where it and its gradients run (GPU; CPU with oneDNN), else one convolution a group.

    Args:
        filters: number of filters, a multiple of `groups`.
        kernel_size: side of the kernel, or (height, width).
        groups: into how many groups the channels are split.
        **kwargs: those of `keras.layers.Conv2D`.

    Reference:
        Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR
        2017, figure 3c.
    """

    def convolution_op(self, inputs, kernel):
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
                super(GroupedConv2D, self).convolution_op(part, weights)
                for part, weights in zip(
                    ops.split(inputs, self.groups, axis=-1),
                    ops.split(kernel, self.groups, axis=-1),
                )
            ],
            axis=-1,
        )
