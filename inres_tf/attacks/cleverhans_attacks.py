"""The attacks of cleverhans, called as they are: a second opinion.

They take all their steps, and draw the random starts of a batch together, so that an
image's start depends on its batch.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method
from cleverhans.tf2.attacks.projected_gradient_descent import (
    projected_gradient_descent,
)

from inres_tf.attacks.norms import norm_order
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32
from inres_tf.progress import bar


def cleverhans_fgsm(
    model,
    images,
    labels,
    eps,
    *,
    norm="linf",
    seed=0,
    batch_size=256,
    ids=None,
    progress="",
) -> np.ndarray:
    """`fast_gradient_method` of cleverhans.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range.
        norm: `"linf"` or `"l2"`.
        seed: not used, as nothing is random.
        batch_size: images attacked at a time.
        ids: not used.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or the norm is unknown.

    Reference:
        Papernot et al.: Technical Report on the CleverHans v2.1.0 Adversarial Examples
        Library, 2018.
    """
    order, eps = norm_order(norm), float(eps)

    def attack(model_fn, images, labels):
        return fast_gradient_method(
            model_fn,
            images,
            eps,
            order,
            clip_min=0.0,
            clip_max=255.0,
            y=labels,
            sanity_checks=False,
        )

    return _run(attack, model, images, labels, seed, batch_size, progress)


def cleverhans_pgd(
    model,
    images,
    labels,
    eps,
    *,
    steps=20,
    step_size=1.0,
    norm="linf",
    seed=0,
    batch_size=256,
    ids=None,
    progress="",
) -> np.ndarray:
    """`projected_gradient_descent` of cleverhans, from a random start.

    Args:
        model: as in `cleverhans_fgsm`.
        images: as in `cleverhans_fgsm`.
        labels: as in `cleverhans_fgsm`.
        eps: as in `cleverhans_fgsm`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range.
        norm: `"linf"` or `"l2"`.
        seed: seed of the random starts.
        batch_size: as in `cleverhans_fgsm`.
        ids: not used.
        progress: as in `cleverhans_fgsm`.

    Returns:
        As `cleverhans_fgsm`.

    Raises:
        As `cleverhans_fgsm`.
    """
    order, eps = norm_order(norm), float(eps)

    def attack(model_fn, images, labels):
        return projected_gradient_descent(
            model_fn,
            images,
            eps,
            step_size,
            steps,
            order,
            clip_min=0.0,
            clip_max=255.0,
            y=labels,
            rand_init=True,
            sanity_checks=False,
        )

    return _run(attack, model, images, labels, seed, batch_size, progress)


def cleverhans_mim(
    model,
    images,
    labels,
    eps,
    *,
    steps=20,
    step_size=1.0,
    norm="linf",
    seed=0,
    batch_size=256,
    ids=None,
    progress="",
) -> np.ndarray:
    """`momentum_iterative_method` of cleverhans.

    Args:
        model: as in `cleverhans_fgsm`.
        images: as in `cleverhans_fgsm`.
        labels: as in `cleverhans_fgsm`.
        eps: as in `cleverhans_fgsm`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range.
        norm: `"linf"` or `"l2"`.
        seed: not used, as nothing is random.
        batch_size: as in `cleverhans_fgsm`.
        ids: not used.
        progress: as in `cleverhans_fgsm`.

    Returns:
        As `cleverhans_fgsm`.

    Raises:
        As `cleverhans_fgsm`.
    """
    order, eps = norm_order(norm), float(eps)

    def attack(model_fn, images, labels):
        return momentum_iterative_method(
            model_fn,
            images,
            eps,
            step_size,
            steps,
            order,
            clip_min=0.0,
            clip_max=255.0,
            y=labels,
            sanity_checks=False,
        )

    return _run(attack, model, images, labels, seed, batch_size, progress)


def _run(attack: Callable, model, images, labels, seed, batch_size, progress):
    """Attacks batch by batch, in one graph."""
    images, labels = np.asarray(images, np.float32), np.asarray(labels, np.int64)
    logits = logits_fn(in_float32(model))

    def model_fn(images):
        return tf.cast(logits(images, training=False), tf.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, *images.shape[1:])),
            tf.TensorSpec((None,), tf.int64),
        ]
    )
    def compiled(images, labels):
        tf.random.set_seed(seed)  # of this graph alone
        return attack(model_fn, images, labels)

    adversarial = np.empty_like(images)
    starts = range(0, len(images), batch_size)
    for start in bar(starts, progress, "batch", disable=not progress):
        rows = slice(start, start + batch_size)
        adversarial[rows] = compiled(images[rows], labels[rows]).numpy()
    return adversarial
