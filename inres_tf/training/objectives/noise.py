"""Training on images with Gaussian noise."""

import tensorflow as tf

from inres_tf.training.objectives.base import Objective


class Noise(Objective):
    """Cross-entropy of images with Gaussian noise, clipped to the pixel range.

    Each image draws the noise's standard deviation uniformly from [0, `noise_std`], so
    that the network sees clean and noisy images alike.

    Args:
        config: an `inres_tf.objectives.ObjectiveConfig`.

    Reference:
        Gaussian data augmentation, as in Ford et al.: Adversarial Examples Are a
        Natural Consequence of Test Error in Noise, ICML 2019.
    """

    def inputs(self, logits_of, images, labels, seed):
        """The noisy pixels, float32; see `Objective.inputs`."""
        images = tf.cast(images, tf.float32)
        of_std, of_noise = tf.unstack(tf.random.split(seed))
        std = tf.random.stateless_uniform(
            [tf.shape(images)[0], 1, 1, 1], of_std, maxval=self.config.noise_std
        )
        noise = std * tf.random.stateless_normal(tf.shape(images), of_noise)
        return tf.clip_by_value(images + noise, 0.0, 255.0)
