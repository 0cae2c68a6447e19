"""Compiled functions of a classifier that several analyses share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf import labels as label_checks
from inres_tf import pixels
from inres_tf.attacks import losses as attack_losses
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.models.compile_cache import cache_per_model
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32

if TYPE_CHECKING:
    import keras


def prepare(
    model: keras.Model, images: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Checks the arguments of an analysis and converts them to its types.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).

    Returns:
        Model that computes in float32, float32 images and int64 labels.

    Raises:
        ValueError: if there are no images, if pixels are out of range, or if `labels`
            are not one class of the model per image.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "`images` must be (number, height, width, channels) with at least one "
            f"image. Received: images of shape {images.shape}"
        )
    pixels.check_images(images)
    labels = label_checks.checked(labels, len(images), model.output_shape[-1])
    return in_float32(model), images.astype(np.float32), labels


def check_range(
    name: str, value: float, minimum: float, maximum: float = float("inf")
) -> None:
    """Raises ValueError unless an argument is in [minimum, maximum]."""
    if not minimum <= value <= maximum:
        raise ValueError(
            f"`{name}` must be from {minimum:g} to {maximum:g}. Received: "
            f"{name}={value}"
        )


def in_batches(
    function: Callable[..., np.ndarray],
    arrays: Sequence[np.ndarray],
    batch_size: int,
    *scalars: float,
) -> np.ndarray:
    """Calls a compiled function on batches of images and concatenates its rows.

    Args:
        function: a function made by
            `inres_tf.distribution.per_example.compile_per_example`.
        arrays: its arguments with one row per image.
        batch_size: number of images per batch.
        *scalars: its other arguments.

    Returns:
        Array of one row per image.

    Raises:
        ValueError: if `batch_size` is less than 1.
        RuntimeError: if the function does not return one row per image.
    """
    check_range("batch_size", batch_size, 1)
    starts = range(0, len(arrays[0]), batch_size)
    batches = ([a[start : start + batch_size] for a in arrays] for start in starts)
    rows = np.concatenate([function(*batch, *scalars) for batch in batches])
    # TensorFlow 2.21 optimises away a loop around x + 1.0 x and then returns no rows.
    if len(rows) != len(arrays[0]):
        raise RuntimeError(
            f"The compiled function returned {len(rows)} rows for {len(arrays[0])} "
            "images. This is a bug."
        )
    return rows


def logits(
    model: keras.Model, images: npt.ArrayLike, batch_size: int = 250
) -> np.ndarray:
    """Logits of images, float32, (number, classes).

    Args:
        model: float32 Keras classifier that ends in logits or a softmax.
        images: pixels in [0, 255], (number, height, width, channels).
        batch_size: number of images per batch.
    """
    function = _compile(model, "logits", tf.distribute.get_strategy())
    return in_batches(function, [np.asarray(images, np.float32)], batch_size)


def losses(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, batch_size: int = 250
) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy of images in nats, and whether they are classified correctly.

    Args:
        model: float32 Keras classifier that ends in logits or a softmax.
        images: pixels in [0, 255], (number, height, width, channels).
        labels: true classes, integers, (number,).
        batch_size: number of images per batch.

    Returns:
        Float32 losses and booleans, each (number,).
    """
    function = _compile(model, "losses", tf.distribute.get_strategy())
    rows = in_batches(function, [images, labels], batch_size)
    return rows[:, 0], rows[:, 1] > 0


def input_gradients(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    of: str = "loss",
    batch_size: int = 250,
) -> np.ndarray:
    """Gradients of a loss with respect to the pixels.

    Args:
        model: float32 Keras classifier that ends in logits or a softmax.
        images: float32 pixels in [0, 255], (number, height, width, channels).
        labels: true classes, int64, (number,).
        of: `"loss"`, the cross-entropy, or `"margin"`, the largest other logit minus
            the true one.
        batch_size: number of images per batch.

    Returns:
        Gradients in nats or logits per 1/255 of the pixel range, of the shape of
        `images`.
    """
    function = _compile(model, of, tf.distribute.get_strategy())
    return in_batches(function, [images, labels], batch_size)


# Cached, so that each function is traced once per model.
@cache_per_model(maxsize=16)
def _compile(model, kind, strategy):
    del strategy  # a key of the cache: functions are compiled for the one in scope
    scores = logits_fn(model)
    images = tf.TensorSpec((None, *model.input_shape[1:]))
    labels = tf.TensorSpec((None,), tf.int64)
    if kind == "logits":
        return compile_per_example(
            lambda images: scores(images, training=False), [images]
        )
    if kind == "losses":

        def rows(images, labels):
            outputs = scores(images, training=False)
            finite = tf.reduce_all(tf.math.is_finite(outputs), -1)
            correct = (tf.argmax(outputs, -1) == labels) & finite
            loss = attack_losses.cross_entropy(outputs, labels)
            return tf.stack([loss, tf.cast(correct, loss.dtype)], axis=1)

        return compile_per_example(rows, [images, labels])
    function = {
        "loss": attack_losses.cross_entropy,
        "margin": attack_losses.margin,
    }[kind]

    def gradients(images, labels):
        with tf.GradientTape() as tape:
            tape.watch(images)
            values = function(scores(images, training=False), labels)
        return tape.gradient(values, images)

    return compile_per_example(gradients, [images, labels])
