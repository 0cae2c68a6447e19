"""Checks of a model's outputs and gradients, without an attack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.data.images import Images
from inres_tf.distribution.classifier import Classifier, compiled_classifier
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.evaluation._findings import Finding, finding, many
from inres_tf.models.compile_cache import cache_per_model
from inres_tf.models.logits import logits_fn

if TYPE_CHECKING:
    import keras

# The largest randomness that counts as rounding.
ROUNDING = 1e-5
# Step of the finite differences: an L2 norm, in 1/255 of the pixel range.
_DIFFERENCE = 0.5
# Random directions of signs for each image, the step of their finite differences, in
# 1/255 of the pixel range, and the smallest r² that counts as agreement.
_DIRECTIONS, _STEP, _AGREEMENT = 8, 0.1, 0.95


def of_model(model: keras.Model, data: Images, batch_size: int = 250) -> list[Finding]:
    """Checks the outputs and gradients of a model, without an attack.

    Args:
        model: float32 Keras classifier of pixels in [0, 255].
        data: images to check; a hundred are enough.
        batch_size: number of images at a time.

    Returns:
        Findings `outputs`, `probabilities`, `randomness`, `batch_dependence`,
        `zero_gradients`, `misleading_gradients` and `random_directions`; only `outputs`
        if it is raised.
    """
    classifier = compiled_classifier(model, batch_size)
    images = data.images.astype(np.float32)
    logits = classifier.logits(images)
    non_finite = int((~np.isfinite(logits).all(-1)).sum())
    outputs = finding(
        "outputs",
        non_finite,
        non_finite,
        f"the outputs of {non_finite} of {len(images)} images are not finite, and "
        "these images count as misclassified: the network has diverged",
    )
    if outputs["raised"]:
        return [outputs]
    randomness = randomness_of(classifier, images, logits)
    return [
        outputs,
        _probabilities(logits),
        _randomness(randomness),
        _batch_dependence(model, images[:16], _scale(logits), randomness),
        *_gradients(model, images, data.labels, batch_size, randomness),
    ]


def randomness_of(
    classifier: Classifier, images: np.ndarray, logits: np.ndarray
) -> float:
    """By how much another pass changes the logits, in units of the largest one.

    Args:
        classifier: the model.
        images: pixels in [0, 255], (number, height, width, channels).
        logits: its logits of the images in one pass, finite, (number, classes).
    """
    return float(np.abs(classifier.logits(images) - logits).max() / _scale(logits))


def _scale(logits):
    return np.abs(logits).max() + 1e-6


def _probabilities(logits):
    deviation = np.abs(logits.sum(-1) - 1).max()
    return finding(
        "probabilities",
        logits.min() >= 0 and deviation < 1e-3,
        float(deviation),
        "the outputs that should be logits are probabilities (none is negative, each "
        "row sums to 1), so that the gradients of attacks vanish; end the model in "
        "logits, or in a softmax as its last layer",
    )


def _randomness(randomness):
    return finding(
        "randomness",
        randomness > ROUNDING,
        randomness,
        f"the outputs of the same images differ by {randomness:.1e} of the largest one "
        "between two passes, so that single gradients and predictions are unreliable; "
        "use --attacks=autoattack --autoattack=rand",
    )


def _batch_dependence(model, images, scale, randomness):
    """Compares the outputs of images alone and in a batch with their negatives."""
    batch = np.concatenate([images, 255 - images])
    together = compiled_classifier(model, len(batch)).logits(batch)[: len(images)]
    alone = compiled_classifier(model, 1).logits(images)
    dependence = float(np.abs(alone - together).max() / scale)
    return finding(
        "batch_dependence",
        # Randomness alone changes the outputs by as much.
        dependence > max(1e-3, 2 * randomness),
        dependence,
        "the outputs of an image depend on the other images of its batch (by "
        f"{dependence:.1e} of the largest one): batch normalisation in training mode, "
        "or a solver that couples images; make the model independent of the batch",
    )


def _gradients(model, images, labels, batch_size, randomness):
    """Checks whether the gradients are non-zero, finite, correct and complete."""
    probe = _gradient_probe(model, tf.distribute.get_strategy())
    labels = labels.astype(np.int64)
    starts = range(0, len(images), batch_size)
    batches = (slice(start, start + batch_size) for start in starts)
    ids = np.arange(len(images))
    zeros, slopes, measured, determined = np.concatenate(
        [probe(images[batch], labels[batch], ids[batch]) for batch in batches]
    ).T
    zero_images, zero_entries = int((zeros == 1).sum()), float(zeros.mean())
    non_finite = int((~np.isfinite(slopes)).sum())
    missing = finding(
        "zero_gradients",
        many(zero_images, len(images)) or zero_entries > 0.5 or non_finite,
        {
            "images": zero_images / len(images),
            "entries": zero_entries,
            "no_numbers": non_finite,
        },
        f"the input gradients of {zero_images} of {len(images)} images are exactly "
        f"zero, {zero_entries:.0%} of all their entries are, and those of {non_finite} "
        "are not finite: gradient-based attacks fail; rely on --attacks=square or spsa "
        "instead",
    )
    ratio, usable = None, np.isfinite(slopes) & (slopes > 0)
    if usable.any():
        ratio = float(np.median(measured[usable] / slopes[usable]))
    misleading = finding(
        "misleading_gradients",
        ratio is not None and not 0.5 <= ratio <= 2,
        ratio,
        f"along its gradient, the margin changes {ratio or 0:.2g} times as fast as the "
        "gradient predicts (median): gradients are approximate, shattered or replaced; "
        "rely on --attacks=square or spsa instead",
    )
    usable &= np.isfinite(determined)
    # Between two passes of a random network, more than the gradient changes.
    agreement = None
    if usable.any() and randomness <= ROUNDING:
        agreement = float(np.median(determined[usable]))
    incomplete = finding(
        "random_directions",
        agreement is not None and agreement < _AGREEMENT,
        agreement,
        "in random directions, gradients explain only "
        f"{max(agreement or 0.0, 0.0):.0%} of the changes of the margin (median r²): a "
        "part of the network, or of an ensemble, has no gradient or a wrong one; rely "
        "on --attacks=square or spsa instead",
    )
    return [missing, misleading, incomplete]


@cache_per_model(maxsize=4)
def _gradient_probe(model, strategy):
    """Compiles a function of images, labels and indices, of four values per image.

    The share of zeros in the gradient of the cross-entropy; the slope of the margin
    along its own gradient, and the same by finite differences; and r² of the slopes in
    random directions for their finite differences, which is NaN without a gradient.
    """
    del strategy  # the one in scope, for which `compile_per_example` compiles
    logits = logits_fn(model)

    def model_fn(images):
        return tf.cast(logits(images, training=False), tf.float32)

    def determination(images, labels, ids, gradient):
        norm = geometry.size(gradient, 2)
        unexplained = total = tf.zeros_like(norm)
        for number in tf.range(_DIRECTIONS):
            keys = counter_rng.key(0, ids, number)
            signs = counter_rng.signs(keys, images.shape[1:])
            predicted = tf.reduce_sum(gradient * signs, axis=(1, 2, 3)) / norm
            above = losses.margin(model_fn(images + _STEP * signs), labels)
            below = losses.margin(model_fn(images - _STEP * signs), labels)
            measured = (above - below) / (2 * _STEP * norm)
            unexplained += (measured - predicted) ** 2
            total += measured**2
        return 1 - unexplained / total

    def probe(images, labels, ids):
        _, _, of_loss = losses.value_and_gradient(model_fn, images, labels)
        _, _, of_margin = losses.value_and_gradient(
            model_fn, images, labels, losses.margin
        )
        slope = geometry.size(of_margin, 2)
        step = _DIFFERENCE * of_margin / geometry.per_image(tf.maximum(slope, 1e-20))
        above = losses.margin(model_fn(images + step), labels)
        below = losses.margin(model_fn(images - step), labels)
        zeros = tf.reduce_mean(tf.cast(of_loss == 0, tf.float32), axis=(1, 2, 3))
        along = (above - below) / (2 * _DIFFERENCE)
        determined = determination(images, labels, ids, of_margin)
        return tf.stack([zeros, slope, along, determined], axis=1)

    images = tf.TensorSpec((None, *model.input_shape[1:]))
    integers = tf.TensorSpec((None,), tf.int64)
    return compile_per_example(probe, [images, integers, integers])
