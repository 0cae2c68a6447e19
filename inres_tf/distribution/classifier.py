"""An image classifier as a function of arrays, compiled once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from inres_tf import labels as label_checks
from inres_tf.data.images import Images
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.models.compile_cache import cache_per_model
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32

if TYPE_CHECKING:
    import keras


class Classifier:
    """Computes logits and metrics of a model on any number of images, batch by batch.

    Every image counts exactly once: the last batch may be smaller. Under the strategy
    in scope, all devices share each batch.

    Args:
        model: Keras image classifier that takes pixels in [0, 255] and ends in a
            softmax or in logits.
        batch_size: images per batch.

    Example:
        >>> import zoo
        >>> from inres_tf import data, distribution
        >>> digits = data.load("digits")
        >>> model = zoo.InResNet8(input_shape=digits.shape)
        >>> classifier = distribution.Classifier(model)
        >>> classifier.logits(digits.test.images).shape
        (359, 10)
        >>> sorted(classifier.metrics(digits.test, prefix="val_"))
        ['val_accuracy', 'val_loss']
    """

    def __init__(self, model: keras.Model, batch_size: int = 250):
        logits = logits_fn(model)
        self.batch_size, self.classes = batch_size, int(model.output_shape[-1])
        images = tf.TensorSpec((None, *model.input_shape[1:]))
        self._predict = compile_per_example(
            lambda images: tf.cast(logits(images, training=False), tf.float32), [images]
        )

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Computes the logits of images.

        Args:
            images: pixels in [0, 255], (number, height, width, channels).

        Returns:
            float32 logits, (number, classes).
        """
        starts = range(0, len(images), self.batch_size)
        batches = (images[start : start + self.batch_size] for start in starts)
        logits = [self._predict(batch.astype(np.float32)) for batch in batches]
        return np.concatenate([np.empty((0, self.classes), np.float32), *logits])

    def correct(
        self, images: np.ndarray, labels: np.ndarray, passes: int = 1
    ) -> np.ndarray:
        """Returns whether each image is classified correctly.

        Args:
            images: pixels in [0, 255], (number, height, width, channels).
            labels: integer class of each image, (number,).
            passes: number of passes, for random networks: more than half of them must
                be correct.

        Returns:
            Booleans, (number,). A pass in which a logit is not finite is not correct.

        Raises:
            inres_tf.labels.LabelError: if the labels are not classes of the model.
        """
        return self.shares(images, labels, passes) > 0.5

    def shares(self, images: np.ndarray, labels: np.ndarray, passes: int) -> np.ndarray:
        """Returns the share of passes in which each image is classified correctly.

        Args:
            images: pixels in [0, 255], (number, height, width, channels).
            labels: integer class of each image, (number,).
            passes: number of passes.

        Returns:
            Shares in [0, 1], (number,).

        Raises:
            inres_tf.labels.LabelError: if the labels are not classes of the model.
        """
        labels = label_checks.checked(labels, len(images), self.classes)
        passed = [is_correct(self.logits(images), labels) for _ in range(passes)]
        return np.mean(passed, axis=0)

    def metrics(self, data: Images, prefix: str = "") -> dict[str, float]:
        """Computes the mean cross-entropy and the accuracy.

        Args:
            data: labelled images.
            prefix: prefix of the metrics' names.

        Returns:
            Dict with `loss` and `accuracy`, in [0, 1], each after `prefix`.

        Raises:
            inres_tf.labels.LabelError: if the labels are not classes of the model.
        """
        labels = label_checks.checked(data.labels, len(data), self.classes)
        logits = self.logits(data.images).astype(np.float64)
        accuracy = is_correct(logits, labels).mean()
        with np.errstate(invalid="ignore"):  # infinite logits make the loss NaN
            logits -= logits.max(-1, keepdims=True)
        label_logits = np.take_along_axis(logits, labels[:, None], -1)[:, 0]
        losses = np.log(np.exp(logits).sum(-1)) - label_logits
        return {
            f"{prefix}loss": float(losses.mean()),
            f"{prefix}accuracy": float(accuracy),
        }


def is_correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns whether each prediction is correct.

    Args:
        logits: logits, (..., number, classes).
        labels: integer classes, (number,).

    Returns:
        Booleans, (..., number): False where a logit is not finite.
    """
    return (logits.argmax(-1) == labels) & np.isfinite(logits).all(-1)


def compiled_classifier(model: keras.Model, batch_size: int) -> Classifier:
    """Returns the float32 classifier of a model, compiled once per model and strategy.

    Args:
        model: Keras image classifier, of any precision.
        batch_size: images per batch, for this and later users of the classifier.
    """
    classifier = _classifier(in_float32(model), tf.distribute.get_strategy())
    classifier.batch_size = batch_size
    return classifier


@cache_per_model(maxsize=4)
def _classifier(model, strategy):
    del strategy  # part of the cache's key: compilation depends on the one in scope
    return Classifier(model)
