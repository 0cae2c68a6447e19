"""The clean loss, and the interface of every objective."""

from collections.abc import Callable

import keras
import tensorflow as tf

from inres_tf.attacks import losses


class Objective:
    """What a training step minimises; by itself the cross-entropy of the images.

    A step calls `inputs` outside the tape of the weights' gradient and `losses` inside
    it, both in a `tf.function` in a replica; the loop calls `metrics` after an epoch.

    Args:
        config: an `inres_tf.objectives.ObjectiveConfig`.
    """

    def __init__(self, config):
        self.config = config

    def inputs(self, logits_of: Callable, images, labels, seed):
        """The pixels to train on: here the images as they are.

        Args:
            logits_of: function (pixels, training) -> logits, as
                `inres_tf.logits.logits_fn` gives it.
            images: pixels in [0, 255], uint8 or float, (batch, height, width,
                channels).
            labels: integer class of each image, (batch,).
            seed: two int32, other ones in every step and replica; it decides all that
                is random.

        Returns:
            Pixels in [0, 255] of the shape of `images`, float32 where they differ from
            them.
        """
        del logits_of, labels, seed
        return images

    def losses(self, logits_of: Callable, images, inputs, labels):
        """The loss of every image, as a function of the weights.

        Args:
            logits_of: as in `inputs`.
            images: as in `inputs`.
            inputs: what `inputs` gave for them.
            labels: as in `inputs`.

        Returns:
            (float32 losses, (batch,); the float32 logits whose accuracy is reported,
            (batch, classes): here and unless said otherwise, those of `inputs`).
        """
        del images
        logits = in_training(logits_of, inputs)
        return self.cross_entropy(logits, labels), logits

    def metrics(self, model, images, labels) -> dict[str, float]:
        """What is measured after an epoch beside the loss: here nothing.

        Args:
            model: the Keras classifier of pixels that is trained.
            images: some training images, always the same ones, as in `inputs`.
            labels: their classes.
        """
        del model, images, labels
        return {}

    def callbacks(self, history: list[dict]) -> list[keras.callbacks.Callback]:
        """Callbacks that the objective needs: here none.

        Args:
            history: rows of the epochs done, each with its `"epoch"`, from 1, and what
                `metrics` gave, to which the loop adds.
        """
        del history
        return []

    def cross_entropy(self, logits, labels):
        """Cross-entropy of each image with smoothed labels, (batch,).

        A share `label_smoothing` of every label is spread over all classes alike
        (Szegedy et al., CVPR 2016, section 7).
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


def in_training(logits_of: Callable, pixels):
    """Float32 logits in training mode, with the batch's own statistics."""
    return tf.cast(logits_of(pixels, training=True), tf.float32)


def in_evaluation(logits_of: Callable) -> Callable:
    """The function pixels -> float32 logits in evaluation mode, which attacks need.

    No moving statistic changes, and what is found for an image does not depend on the
    rest of its batch.
    """
    return lambda pixels: tf.cast(logits_of(pixels, training=False), tf.float32)
