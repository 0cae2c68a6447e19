"""Losses that attacks climb: functions of logits, one value an image.

All take `logits` (batch, classes), `labels` and `targets` (batch,), int64, and give
float32 (batch,); only the targeted one uses `targets`.
"""

import math

import tensorflow as tf

from inres_tf.models.logits import check_classifier

# Guard of ratios of equal logits. The authors add it, which a graph does to one of the
# logits, where it is lost.
_SMALLEST = 1e-12


def cross_entropy(logits, labels, targets=None):
    """Cross-entropy of the true class."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def margin(logits, labels, targets=None):
    """Largest other logit minus the true one: above 0 for misclassified images."""
    return tf.reduce_max(_others(logits, labels), axis=-1) - _of(logits, labels)


def dlr(logits, labels, targets=None):
    """Difference of logits ratio: the margin over the gap from first to third logit.

    Needs three classes.

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, equation (6).
    """
    best = tf.sort(logits, direction="DESCENDING")
    return margin(logits, labels) / tf.maximum(best[:, 0] - best[:, 2], _SMALLEST)


def dlr_targeted(logits, labels, targets):
    """Targeted difference of logits ratio. Needs four classes.

    Reference:
        Croce, Hein, as `dlr`, equation (7).
    """
    best = tf.sort(logits, direction="DESCENDING")
    scale = best[:, 0] - (best[:, 2] + best[:, 3]) / 2
    return (_of(logits, targets) - _of(logits, labels)) / tf.maximum(scale, _SMALLEST)


def target(logits, labels, rank):
    """The other class with the `rank`-th largest logit, from 1: int64, (batch,)."""
    order = tf.argsort(_others(logits, labels), direction="DESCENDING")
    return tf.cast(tf.gather(order, tf.maximum(rank - 1, 0), axis=1), tf.int64)


def _of(logits, classes):
    return tf.gather(logits, classes, axis=1, batch_dims=1)


def _others(logits, labels):
    """Logits with that of the true class at minus infinity."""
    mine = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    return tf.where(mine, -math.inf, logits)


def classes_of(model) -> int:
    """Number of classes of a classifier.

    Raises:
        ValueError: if it is no classifier of images whose logits can be found.
    """
    check_classifier(model)
    return int(model.output_shape[-1])
