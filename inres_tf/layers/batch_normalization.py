"""Batch normalisation as one fused operation under TensorFlow."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="inres_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` as one fused operation under TensorFlow.

    It has the same arguments, weights and results, and weight files are
    interchangeable, since Keras names the groups in them after the class. Keras
    composes its layer of several operations, each of which reads the activations in
    float32 whatever the layer's precision. TensorFlow's fused operation reads and
    writes them in the layer's precision and computes the statistics in float32.

    The layer falls back to Keras where the fused operation does not apply: masks,
    statistics synchronised over replicas, renormalisation, an axis other than the last
    of four, no scale or no offset, float64.

    Args:
        **kwargs: arguments of `keras.layers.BatchNormalization`.

    Example:
        >>> import numpy as np
        >>> layer = inres_tf.layers.BatchNormalization(momentum=0.9)
        >>> tuple(layer(np.ones((2, 4, 4, 3)), training=True).shape)
        (2, 4, 4, 3)

    Reference:
        Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by
        Reducing Internal Covariate Shift, ICML 2015.
    """

    def call(
        self,
        inputs: keras.KerasTensor,
        training: bool | None = None,
        mask: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor:
        """Normalises (batch, height, width, channels) over all but the channels."""
        training = bool(training) and self.trainable
        if not self._can_fuse(inputs, training, mask):
            return super().call(inputs, training=training, mask=mask)
        from inres_tf.layers import tensorflow_ops

        gamma, beta, moving_mean, moving_variance = (
            ops.cast(weight, "float32")
            for weight in (
                self.gamma,
                self.beta,
                self.moving_mean,
                self.moving_variance,
            )
        )
        if not training:
            return tensorflow_ops.normalize(
                inputs, moving_mean, moving_variance, gamma, beta, self.epsilon
            )
        outputs, mean, variance = tensorflow_ops.batch_normalize(
            inputs, gamma, beta, self.epsilon
        )
        update = 1.0 - self.momentum
        self.moving_mean.assign(moving_mean * self.momentum + mean * update)
        self.moving_variance.assign(moving_variance * self.momentum + variance * update)
        return outputs

    def _can_fuse(self, inputs, training, mask) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not getattr(self, "renorm", False)  # missing in older versions of Keras
            and not (training and (self.synchronized or mask is not None))
            and keras.backend.standardize_dtype(inputs.dtype) != "float64"
        )
