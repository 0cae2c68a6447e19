"""Adversarial training with projected gradient descent."""

import tensorflow as tf

from inres_tf import attacks
from inres_tf.training.objectives.base import Objective, in_evaluation


class PGD(Objective):
    """Cross-entropy of the images that PGD finds from a random point of the ball.

    The number of steps, their size and the ball's radius are the settings
    `adversary_steps`, `adversary_step_size` and `adversary_eps`.

    Args:
        config: an `inres_tf.objectives.ObjectiveConfig`.

    Reference:
        Madry et al.: Towards Deep Learning Models Resistant to Adversarial Attacks,
        ICLR 2018, equation 2.1. The authors' code attacks the network in training mode.
    """

    def __init__(self, config):
        super().__init__(config)
        self.eps = config.adversary_eps
        self.steps, self.step_size = config.adversary_steps, config.adversary_step_size

    def inputs(self, logits_of, images, labels, seed):
        """The adversarial pixels, float32; see `Objective.inputs`."""
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
