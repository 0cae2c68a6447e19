"""TensorFlow operations that Keras does not use, or only compiled by XLA.

The layers import this module, and with it TensorFlow, only under that backend.
"""

import functools
from collections.abc import Sequence

import tensorflow as tf


def grouped_conv(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    strides: Sequence[int],
    padding: str,
    dilations: Sequence[int],
) -> tf.Tensor | None:
    """Computes a grouped convolution.

    Args:
        inputs: (batch, height, width, channels).
        kernel: (height, width, channels / groups, filters).
        strides: along height and width.
        padding: `"same"` or `"valid"`.
        dilations: along height and width.

    Returns:
        The convolution, or None if the operation or its gradient is not implemented
        on this machine.
    """
    if not runs(inputs.dtype.name):
        return None
    return tf.nn.conv2d(
        inputs, kernel, strides, padding.upper(), dilations=list(dilations)
    )


@functools.cache
def runs(dtype: str) -> bool:
    """Tries the grouped convolution and its gradients on a tiny input.

    On a CPU they need oneDNN (TensorFlow's default on x86) and float32 or bfloat16.

    Args:
        dtype: of the inputs and the kernel.

    Returns:
        Whether all three operations run.
    """
    with tf.init_scope():  # pauses gradient tapes, hence the explicit gradients
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


def normalize(
    inputs: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    scale: tf.Tensor,
    offset: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Applies the fused batch normalisation with given statistics, for inference.

    Args:
        inputs: (batch, height, width, channels), float32, bfloat16 or float16.
        mean: (channels,), float32.
        variance: (channels,), float32.
        scale: γ, (channels,), float32.
        offset: β, (channels,), float32.
        epsilon: added to the variance.

    Returns:
        scale · (inputs - mean) / sqrt(variance + epsilon) + offset, in the dtype of
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


def batch_normalize(
    inputs: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Applies the fused batch normalisation with batch statistics, for training.

    Args:
        inputs: (batch, height, width, channels), float32, bfloat16 or float16.
        scale: γ, (channels,), float32.
        offset: β, (channels,), float32.
        epsilon: added to the variance.

    Returns:
        (outputs, mean, variance): outputs in the dtype of `inputs`; float32 mean and
        variance of each channel, where the variance of n values is divided by n, as in
        Keras.
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
    # The operation divides the variance that it returns by n - 1.
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
    return result.y, result.batch_mean, result.batch_variance * (1 - 1 / count)
