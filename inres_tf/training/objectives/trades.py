"""TRADES: the clean loss and a penalty for predictions that change within the ball."""

from collections.abc import Callable

import tensorflow as tf

from inres_tf import attacks
from inres_tf.training.objectives.base import Objective, in_evaluation, in_training

# Noise of the start, where the divergence would otherwise have no gradient: 0.001 of
# the pixel range, as in the authors' code.
_START_STD = 0.255


class TRADES(Objective):
    """CE(f(x), y) + beta KL(f(x) ‖ f(x')), where x' maximises the divergence.

    The settings are `trades_beta`, and `adversary_eps`, `adversary_steps` and
    `adversary_step_size` as for `PGD`. Gradients flow through both arguments of the
    divergence, as in the authors' code. Unlike there, x and x' pass through the network
    as one batch and share its statistics.

    Args:
        config: the objective's settings.

    Example:
        >>> import tensorflow as tf
        >>> import zoo
        >>> from inres_tf import data, models
        >>> from inres_tf.training import objectives
        >>> images = data.load("digits").train.take(slice(4))
        >>> logits_of = models.logits_fn(zoo.InResNet8(input_shape=(8, 8, 1)))
        >>> objective = objectives.TRADES(objectives.ObjectiveConfig(trades_beta=3.0))
        >>> inputs = objective.inputs(
        ...     logits_of, images.images, images.labels, seed=tf.constant([0, 1])
        ... )
        >>> losses, logits = objective.losses(
        ...     logits_of, images.images, inputs, images.labels
        ... )
        >>> losses.shape, logits.shape
        (TensorShape([4]), TensorShape([4, 10]))

    Reference:
        Zhang et al.: Theoretically Principled Trade-off between Robustness and
        Accuracy, ICML 2019, algorithm 1; beta is the paper's 1/λ.
    """

    def inputs(
        self,
        logits_of: Callable[..., tf.Tensor],
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the adversarial pixels x'.

        Args:
            logits_of: function `(pixels, training) -> logits`.
            images: pixels in [0, 255], uint8 or float, (batch, height, width,
                channels).
            labels: unused.
            seed: two int32, different in every step and replica, that determine the
                start.

        Returns:
            float32 pixels in [0, 255] and in the ball around `images`.
        """
        images = tf.cast(images, tf.float32)
        noise = tf.random.stateless_normal(tf.shape(images), seed, stddev=_START_STD)
        model_fn = in_evaluation(logits_of)
        return attacks.ascend(
            model_fn,
            start=tf.clip_by_value(images + noise, 0.0, 255.0),
            center=images,
            targets=model_fn(images),
            eps=self.config.adversary_eps,
            step_size=self.config.adversary_step_size,
            steps=self.config.adversary_steps,
            loss_fn=divergence,
        )

    def losses(
        self,
        logits_of: Callable[..., tf.Tensor],
        images: tf.Tensor,
        inputs: tf.Tensor,
        labels: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the loss of every image as a function of the weights.

        Args:
            logits_of: function `(pixels, training) -> logits`.
            images: pixels in [0, 255], uint8 or float, (batch, height, width,
                channels).
            inputs: the adversarial pixels of `images`.
            labels: integer class of each image, (batch,).

        Returns:
            (float32 losses, (batch,); float32 logits of `images`, (batch, classes)).
        """
        # One pass: with two, the gradients of synchronised batch statistics have no
        # fixed order, and replicas that sum them in different orders fail.
        both = tf.concat([tf.cast(images, tf.float32), inputs], 0)
        clean, adversarial = tf.split(in_training(logits_of, both), 2)
        robust = divergence(adversarial, clean)
        losses = self.cross_entropy(clean, labels) + self.config.trades_beta * robust
        return losses, clean


def divergence(logits: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Computes KL(softmax(reference) ‖ softmax(logits)) of each row, in nats.

    Args:
        logits: logits of the second distribution, (batch, classes).
        reference: logits of the first distribution, (batch, classes).

    Returns:
        Divergences, (batch,).
    """
    log_p, log_q = tf.nn.log_softmax(reference), tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1)
