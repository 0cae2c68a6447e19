"""The attacks of cleverhans themselves, as a second opinion.

They always take all steps, and draw the random starts of a batch together, so that the
start of an image depends on its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method
from cleverhans.tf2.attacks.projected_gradient_descent import (
    projected_gradient_descent,
)

from inres_tf.attacks.engine import check_scalars, checked_images
from inres_tf.attacks.norms import default_step_size, norm_order
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32
from inres_tf.progress import bar

if TYPE_CHECKING:
    import keras


def cleverhans_fgsm(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    norm: str = "linf",
    seed: int = 0,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Fast gradient sign method: `fast_gradient_method` of cleverhans.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range.
        norm: `"linf"` or `"l2"`.
        seed: unused, since nothing is random.
        batch_size: number of images attacked at a time.
        ids: unused.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.cleverhans_fgsm(
        ...     model, test.images, test.labels, eps=8
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Papernot et al.: Technical Report on the CleverHans v2.1.0 Adversarial Examples
        Library, 2018.
    """
    order, eps = norm_order(norm), float(eps)
    check_scalars(order, eps, 1, eps)

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
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    norm: str = "linf",
    seed: int = 0,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """PGD from a random start: `projected_gradient_descent` of cleverhans.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range; None for 1, or 2.5 eps /
            steps for `"l2"`.
        norm: `"linf"` or `"l2"`.
        seed: seed of the random starts.
        batch_size: number of images attacked at a time.
        ids: unused.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.cleverhans_pgd(
        ...     model, test.images, test.labels, eps=8, steps=3, step_size=4.0, seed=1
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)
    """
    order, eps = norm_order(norm), float(eps)
    if step_size is None:
        step_size = default_step_size(norm, eps, steps)
    step_size = float(step_size)
    check_scalars(order, eps, steps, step_size)
    if step_size > eps:
        raise ValueError(
            "cleverhans_pgd takes steps of at most `eps`, which it refuses to exceed. "
            f"Received: step_size={step_size:g}, eps={eps:g}"
        )

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
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    norm: str = "linf",
    seed: int = 0,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Momentum iterative method: `momentum_iterative_method` of cleverhans.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range; None for 1, or 2.5 eps /
            steps for `"l2"`.
        norm: `"linf"` or `"l2"`.
        seed: unused, since nothing is random.
        batch_size: number of images attacked at a time.
        ids: unused.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.cleverhans_mim(
        ...     model, test.images, test.labels, eps=8, steps=3, step_size=4.0
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)
    """
    order, eps = norm_order(norm), float(eps)
    if step_size is None:
        step_size = default_step_size(norm, eps, steps)
    step_size = float(step_size)
    check_scalars(order, eps, steps, step_size)

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
    """Attacks the images batch by batch, in one graph."""
    images, labels = checked_images(model, images, labels, batch_size)
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
        tf.random.set_seed(seed)  # within a graph, of that graph only
        return attack(model_fn, images, labels)

    # Every call is a function of its own, traced once.
    compiled._omit_frequent_tracing_warning = True
    adversarial = np.empty_like(images)
    starts = range(0, len(images), batch_size)
    for start in bar(starts, progress, "batch", disable=not progress):
        batch = slice(start, start + batch_size)
        adversarial[batch] = compiled(images[batch], labels[batch]).numpy()
    return adversarial
