"""Cross-entropy with a margin, for networks with a known Lipschitz constant."""

from collections.abc import Callable

import tensorflow as tf

from inres_tf.attacks import losses
from inres_tf.training.objectives.base import Objective, in_training

# Keeps the gradient of a fractional power finite where the loss rounds to zero.
_SMALLEST = 1e-30


class Margin(Objective):
    """T (1 - p)^β (-log p), p the probability of the class once its logit is lowered.

    With logits z, label y, offset m = `margin_offset`, temperature T =
    `margin_temperature` and annealing β = `margin_annealing`, p is entry y of
    softmax((z - m e_y) / T). The loss thus asks for a margin of about m, which is a
    certified radius of m / (√2 L) for a network with Lipschitz constant L. If a network
    divides pixels by a standard deviation of 0.2 and is 1-Lipschitz otherwise, L = 5,
    and m = 1 asks for 36/255. T determines how fast the loss falls beyond the margin.
    With β > 0 images far beyond it hardly count, which leaves more of a limited
    capacity to the others; β = 0 is the cross-entropy with offset and temperature.

    Args:
        config: the objective's settings.

    Example:
        >>> import tensorflow as tf
        >>> import zoo
        >>> from inres_tf import data, models
        >>> from inres_tf.training import objectives
        >>> images = data.load("digits").train.take(slice(4))
        >>> logits_of = models.logits_fn(zoo.InResNet8(input_shape=(8, 8, 1)))
        >>> config = objectives.ObjectiveConfig(objective="margin", margin_offset=2.0)
        >>> losses, logits = objectives.Margin(config).losses(
        ...     logits_of, images.images, images.images, images.labels
        ... )
        >>> losses.shape, logits.shape
        (TensorShape([4]), TensorShape([4, 10]))

    Reference:
        Offset: Tsuzuku, Sato, Sugiyama: Lipschitz-Margin Training, NeurIPS 2018. With
        temperature: Prach, Lampert: Almost-Orthogonal Layers for Efficient
        General-Purpose Lipschitz Networks, ECCV 2022 (m = √2, T = 1/4). Annealing: Lai
        et al.: Enhancing Certified Robustness via Block Reflector Orthogonal Layers and
        Logit Annealing Loss, ICML 2025 (m = 2, T = 0.75, β = 5 in the authors' code).
    """

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
            images: unused.
            inputs: pixels in [0, 255], uint8 or float, (batch, height, width,
                channels).
            labels: integer class of each image, (batch,).

        Returns:
            (float32 losses, (batch,); float32 logits, (batch, classes)).
        """
        del images
        logits = in_training(logits_of, inputs)
        config = self.config
        offsets = config.margin_offset * tf.one_hot(labels, logits.shape[-1])
        lowered = (logits - offsets) / config.margin_temperature
        loss = losses.cross_entropy(lowered, labels)
        if config.margin_annealing:
            others = tf.maximum(-tf.math.expm1(-loss), _SMALLEST)
            loss *= others**config.margin_annealing
        return config.margin_temperature * loss, logits
