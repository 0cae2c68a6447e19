"""Batch normalization as one fused operation under TensorFlow."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="inres_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` in one operation under TensorFlow.

    The same arguments, weights and results; files of weights fit both, since Keras
    names the groups in them after the class. Keras' own is composed of operations that
    each read the activations anew, in float32 whatever the layer's precision.
    TensorFlow's fused one reads and writes them in that precision, and computes the
    statistics in float32 as well.

    What the fused operation does not do is left to Keras: masks, statistics
    synchronised over replicas, renormalisation, an axis other than the last of four,
    a layer without scale or offset, float64.

    Args:
        **kwargs: those of `keras.layers.BatchNormalization`.

    Reference:
        Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by
        Reducing Internal Covariate Shift, ICML 2015.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalises (batch, height, width, channels) over all but the channels."""
        training = bool(training) and self.trainable
        if not self._fuses(inputs, training, mask):
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
        part = 1.0 - self.momentum
        self.moving_mean.assign(moving_mean * self.momentum + mean * part)
        self.moving_variance.assign(moving_variance * self.momentum + variance * part)
        return outputs

    def _fuses(self, inputs, training, mask) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not getattr(self, "renorm", False)  # which older versions do not have
            and not (training and (self.synchronized or mask is not None))
            and keras.backend.standardize_dtype(inputs.dtype) != "float64"
        )
