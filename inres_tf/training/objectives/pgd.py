"""Adversarial training with projected gradient descent."""

from collections.abc import Callable

import tensorflow as tf

from inres_tf import attacks
from inres_tf.training.objectives.base import Objective, in_evaluation
from inres_tf.training.objectives.config import ObjectiveConfig


class PGD(Objective):
    """Cross-entropy of PGD examples, started at a random point of the ball.

    The ball's radius, the number of steps and their size are the settings
    `adversary_eps`, `adversary_steps` and `adversary_step_size`.

    Args:
        config: the objective's settings.

    Example:
        >>> import tensorflow as tf
        >>> import zoo
        >>> from inres_tf import data, models
        >>> from inres_tf.training import objectives
        >>> images = data.load("digits").train.take(slice(4))
        >>> logits_of = models.logits_fn(zoo.InResNet8(input_shape=(8, 8, 1)))
        >>> objective = objectives.PGD(objectives.ObjectiveConfig(adversary_eps=4.0))
        >>> inputs = objective.inputs(
        ...     logits_of, images.images, images.labels, seed=tf.constant([0, 1])
        ... )
        >>> bool(abs(inputs - images.images).numpy().max() < 4.001)
        True

    Reference:
        Madry et al.: Towards Deep Learning Models Resistant to Adversarial Attacks,
        ICLR 2018, equation 2.1. The authors' code attacks the network in training mode.
    """

    def __init__(self, config: ObjectiveConfig):
        super().__init__(config)
        self.eps = config.adversary_eps
        self.steps, self.step_size = config.adversary_steps, config.adversary_step_size

    def inputs(
        self,
        logits_of: Callable[..., tf.Tensor],
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the adversarial pixels.

        Args:
            logits_of: function `(pixels, training) -> logits`.
            images: pixels in [0, 255], uint8 or float, (batch, height, width,
                channels).
            labels: integer class of each image, (batch,).
            seed: two int32, different in every step and replica, that determine the
                start.

        Returns:
            float32 pixels in [0, 255] and in the ball around `images`.
        """
        images = tf.cast(images, tf.float32)
        noise = tf.random.stateless_uniform(tf.shape(images), seed, -self.eps, self.eps)
        return attacks.ascend(
            in_evaluation(logits_of),
            start=tf.clip_by_value(images + noise, 0.0, 255.0),
            center=images,
            targets=labels,
            eps=self.eps,
            step_size=self.step_size,
            steps=self.steps,
        )
