"""The clean loss, and the interface of every objective."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inres_tf.attacks import losses
from inres_tf.training.objectives.config import ObjectiveConfig


class Objective:
    """The objective of a training step; this base class is the clean cross-entropy.

    Within a `tf.function` on each replica, a step calls `inputs` outside the gradient
    tape and `losses` inside it. The training loop calls `metrics` after every epoch.

    Args:
        config: the objective's settings.

    Example:
        >>> import tensorflow as tf
        >>> import zoo
        >>> from inres_tf import data, models
        >>> from inres_tf.training import objectives
        >>> images = data.load("digits").train.take(slice(4))
        >>> logits_of = models.logits_fn(zoo.InResNet8(input_shape=(8, 8, 1)))
        >>> objective = objectives.Objective(objectives.ObjectiveConfig())
        >>> seed = tf.constant([0, 1])
        >>> inputs = objective.inputs(logits_of, images.images, images.labels, seed)
        >>> losses, logits = objective.losses(
        ...     logits_of, images.images, inputs, images.labels
        ... )
        >>> losses.shape, logits.shape
        (TensorShape([4]), TensorShape([4, 10]))
    """

    def __init__(self, config: ObjectiveConfig):
        self.config = config

    def inputs(
        self,
        logits_of: Callable[..., tf.Tensor],
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the pixels to train on; here, the images themselves.

        Args:
            logits_of: function `(pixels, training) -> logits`, as returned by
                `inres_tf.models.logits_fn`.
            images: pixels in [0, 255], uint8 or float, (batch, height, width,
                channels).
            labels: integer class of each image, (batch,).
            seed: two int32, different in every step and replica, that determine all
                random numbers.

        Returns:
            Pixels in [0, 255] of the shape of `images`; float32 if they differ from
            `images`.
        """
        del logits_of, labels, seed
        return images

    def losses(
        self,
        logits_of: Callable[..., tf.Tensor],
        images: tf.Tensor,
        inputs: tf.Tensor,
        labels: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the loss of every image as a function of the weights.

        Args:
            logits_of: function `(pixels, training) -> logits`, as returned by
                `inres_tf.models.logits_fn`.
            images: pixels in [0, 255], uint8 or float, (batch, height, width,
                channels).
            inputs: the pixels that the method `inputs` returned for `images`.
            labels: integer class of each image, (batch,).

        Returns:
            (float32 losses, (batch,); float32 logits, (batch, classes), from which the
            training accuracy is computed: here, those of `inputs`).
        """
        del images
        logits = in_training(logits_of, inputs)
        return self.cross_entropy(logits, labels), logits

    def metrics(
        self, model: keras.Model, images: np.ndarray, labels: np.ndarray
    ) -> dict[str, float]:
        """Computes additional metrics after an epoch; here, none.

        Args:
            model: the Keras image classifier in training.
            images: some training images, the same in every epoch: pixels in [0, 255],
                uint8, (number, height, width, channels).
            labels: integer class of each image, (number,).

        Returns:
            Metrics by name.
        """
        del model, images, labels
        return {}

    def callbacks(
        self, history: list[dict[str, Any]]
    ) -> list[keras.callbacks.Callback]:
        """Returns the Keras callbacks that the objective needs; here, none.

        Args:
            history: a dict for each finished epoch, with its `"epoch"`, from 1, and the
                results of `metrics`. The training loop appends to it.
        """
        del history
        return []

    def cross_entropy(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Computes the cross-entropy of each image with smoothed labels.

        Args:
            logits: float32 logits, (batch, classes).
            labels: integer class of each image, (batch,).

        Returns:
            Losses, (batch,).

        Reference:
            Szegedy et al.: Rethinking the Inception Architecture for Computer Vision,
            CVPR 2016, section 7.
        """
        smoothing = self.config.label_smoothing
        if not smoothing:
            return losses.cross_entropy(logits, labels)
        return keras.losses.categorical_crossentropy(
            tf.one_hot(labels, logits.shape[-1]),
            logits,
            from_logits=True,
            label_smoothing=smoothing,
        )


def in_training(logits_of: Callable[..., tf.Tensor], pixels: tf.Tensor) -> tf.Tensor:
    """Computes float32 logits in training mode, with the statistics of the batch."""
    return tf.cast(logits_of(pixels, training=True), tf.float32)


def in_evaluation(
    logits_of: Callable[..., tf.Tensor],
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function pixels -> float32 logits in evaluation mode, for attacks.

    Attacks then leave the moving statistics unchanged, and the adversarial example of
    an image does not depend on the rest of its batch.
    """
    return lambda pixels: tf.cast(logits_of(pixels, training=False), tf.float32)
