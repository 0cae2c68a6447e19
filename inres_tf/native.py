"""TensorFlow's own grouped convolution, which Keras only offers compiled by XLA.

`layers` imports this module, and with it TensorFlow, under that backend alone.
"""

import functools

import tensorflow as tf


def grouped_conv(inputs, kernel, strides, padding, dilations):
    """Convolves (batch, height, width, channels) with a kernel of fewer channels.

    Args:
        inputs: images, channels last.
        kernel: (height, width, channels / groups, filters).
        strides: of height and width.
        padding: `"same"` or `"valid"`.
        dilations: of height and width.

    Returns:
        The convolution, or None where the operation or its gradient does not run.
    """
    if not runs(inputs.dtype.name):
        return None
    return tf.nn.conv2d(
        inputs, kernel, strides, padding.upper(), dilations=list(dilations)
    )


@functools.cache
def runs(dtype: str) -> bool:
    """Whether the operation and its gradients run here, tried on a tiny one.

    On a CPU they do with oneDNN (TensorFlow's default on x86) in float32 and bfloat16.
    """
    with tf.init_scope():  # which pauses tapes, so the gradients are called themselves
        images = tf.ones((1, 3, 3, 4), dtype)
        kernel = tf.ones((3, 3, 2, 4), dtype)
        options = {"strides": [1] * 4, "padding": "SAME"}
        try:
            gradient = tf.nn.conv2d(images, kernel, **options)
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=images.shape,
                filter=kernel,
                out_backprop=gradient,
                **options,
            )
            tf.raw_ops.Conv2DBackpropFilter(
                input=images,
                filter_sizes=kernel.shape,
                out_backprop=gradient,
                **options,
            )
        except tf.errors.OpError:
            return False
    return True
