"""Training on images with Gaussian noise."""

from collections.abc import Callable

import tensorflow as tf

from inres_tf.training.objectives.base import Objective


class Noise(Objective):
    """Cross-entropy of images with Gaussian noise, clipped to the pixel range.

    The standard deviation is drawn uniformly from [0, `noise_std`] for each image, so
    that the network sees clean as well as noisy images.

    Args:
        config: the objective's settings.

    Example:
        >>> import tensorflow as tf
        >>> from inres_tf import data
        >>> from inres_tf.training import objectives
        >>> images = data.load("digits").train.take(slice(4))
        >>> objective = objectives.Noise(objectives.ObjectiveConfig(noise_std=20.0))
        >>> inputs = objective.inputs(
        ...     None, images.images, images.labels, seed=tf.constant([0, 1])
        ... )
        >>> inputs.shape, inputs.dtype
        (TensorShape([4, 8, 8, 1]), tf.float32)

    Reference:
        Gaussian data augmentation, as in Ford et al.: Adversarial Examples Are a
        Natural Consequence of Test Error in Noise, ICML 2019.
    """

    def inputs(
        self,
        logits_of: Callable[..., tf.Tensor] | None,
        images: tf.Tensor,
        labels: tf.Tensor | None,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the noisy pixels.

        Args:
            logits_of: unused.
            images: pixels in [0, 255], uint8 or float, (batch, height, width,
                channels).
            labels: unused.
            seed: two int32, different in every step and replica.

        Returns:
            float32 pixels in [0, 255] of the shape of `images`.
        """
        images = tf.cast(images, tf.float32)
        std_seed, noise_seed = tf.unstack(tf.random.split(seed))
        std = tf.random.stateless_uniform(
            [tf.shape(images)[0], 1, 1, 1], std_seed, maxval=self.config.noise_std
        )
        noise = std * tf.random.stateless_normal(tf.shape(images), noise_seed)
        return tf.clip_by_value(images + noise, 0.0, 255.0)
