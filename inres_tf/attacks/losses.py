"""Losses that attacks maximise: functions of logits, one value per image.

All take `logits` (batch, classes), `labels` and `targets` (batch,), int64, and return
float32 (batch,). Only the targeted loss uses `targets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from inres_tf.models.logits import check_classifier

if TYPE_CHECKING:
    import keras

# Bounds the denominators of ratios from below. The authors add such a number, which a
# graph may reorder into a sum with a logit, where it is lost to rounding.
_SMALLEST = 1e-12


def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None = None
) -> tf.Tensor:
    """Cross-entropy of the true class."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def margin(
    logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None = None
) -> tf.Tensor:
    """Largest other logit minus the true one: positive for misclassified images."""
    return tf.reduce_max(_others(logits, labels), axis=-1) - _logit(logits, labels)


def dlr(
    logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor | None = None
) -> tf.Tensor:
    """Difference of logits ratio: the margin over the gap from first to third logit.

    Needs three classes.

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, equation (6).
    """
    best = tf.sort(logits, direction="DESCENDING")
    return margin(logits, labels) / tf.maximum(best[:, 0] - best[:, 2], _SMALLEST)


def dlr_targeted(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Targeted difference of logits ratio. Needs four classes.

    Reference:
        Croce, Hein, as in `dlr`, equation (7).
    """
    best = tf.sort(logits, direction="DESCENDING")
    scale = best[:, 0] - (best[:, 2] + best[:, 3]) / 2
    difference = _logit(logits, targets) - _logit(logits, labels)
    return difference / tf.maximum(scale, _SMALLEST)


def target(logits: tf.Tensor, labels: tf.Tensor, rank: tf.Tensor | int) -> tf.Tensor:
    """Class with the `rank`-th largest logit, the true one excluded: int64, (batch,).

    Args:
        logits: logits, (batch, classes).
        labels: true classes, int64, (batch,).
        rank: 1 for the largest logit; 0 is the same as 1.
    """
    order = tf.argsort(_others(logits, labels), direction="DESCENDING")
    return tf.cast(tf.gather(order, tf.maximum(rank - 1, 0), axis=1), tf.int64)


def _logit(logits, classes):
    """The logit of one class for each image."""
    return tf.gather(logits, classes, axis=1, batch_dims=1)


def _others(logits, labels):
    """The logits, with minus infinity for the true class."""
    is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    return tf.where(is_label, -math.inf, logits)


def classes_of(model: keras.Model) -> int:
    """Returns the number of classes of a classifier.

    Raises:
        ValueError: if the model is not an image classifier, or its logits cannot be
            found.
    """
    check_classifier(model)
    return int(model.output_shape[-1])


def value_and_gradient(
    model_fn: Callable[[tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    labels: tf.Tensor,
    loss_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = cross_entropy,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the logits, the loss of each image and its gradient.

    Args:
        model_fn: function of pixels that returns float32 logits, (batch, classes).
        images: pixels, float32, (batch, height, width, channels).
        labels: the second argument of `loss_fn`.
        loss_fn: function `(logits, labels)` that returns the loss of each image,
            (batch,).

    Returns:
        Logits (batch, classes), losses (batch,), and gradients of the shape of
        `images`.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = model_fn(images)
        loss = loss_fn(logits, labels)
    # The gradient is zero if the loss does not depend on the images, as after rounding.
    zero = tf.UnconnectedGradients.ZERO
    return logits, loss, tape.gradient(loss, images, unconnected_gradients=zero)
