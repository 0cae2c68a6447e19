"""TensorFlow's own operations that Keras does not use, or only compiled by XLA.

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


def normalize(inputs, mean, variance, scale, offset, epsilon):
    """Normalises with given statistics: the fused batch normalisation of inference.

    Args:
        inputs: (batch, height, width, channels), float32, bfloat16 or float16.
        mean: (channels,), float32, as are the next three.
        variance: of the channels.
        scale: factor after normalising.
        offset: what is added then.
        epsilon: what is added to the variance.

    Returns:
        scale · (inputs - mean) / sqrt(variance + epsilon) + offset, of the type of
        `inputs`.
    """
    return tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=scale,
        offset=offset,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=False,
    ).y


def batch_normalize(inputs, scale, offset, epsilon):
    """Normalises with the statistics of the batch: the fused one of training.

    Args:
        inputs: as `normalize`, as are the other arguments.
        scale: see there.
        offset: see there.
        epsilon: see there.

    Returns:
        (outputs, mean, variance): outputs as `normalize` gives them; the channels'
        mean and variance over the batch, float32, the variance of n values divided
        by n as Keras has it.
    """
    result = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=scale,
        offset=offset,
        mean=[],
        variance=[],
        epsilon=epsilon,
        is_training=True,
    )
    # The operation divides the variance that it gives by n - 1.
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
    return result.y, result.batch_mean, result.batch_variance * (1 - 1 / count)
