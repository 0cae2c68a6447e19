"""Compiled functions of a classifier, of which several analyses are made."""

import functools

import numpy as np
import tensorflow as tf

from inres_tf.attacks import losses as attack_losses
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32


def prepare(model, images, labels):
    """Checks what every analysis takes, and brings it into its types.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).

    Returns:
        (model that computes in float32, float32 images, int64 labels).

    Raises:
        ValueError: if there are no images, pixels out of range, or not one class of the
            model for each image.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "`images` must be (number, height, width, channels), at least one. "
            f"Received: images of shape {images.shape}"
        )
    if not (0 <= images.min() and images.max() <= 255):
        raise ValueError(
            "`images` must be pixels in [0, 255]. Received values from "
            f"{images.min():g} to {images.max():g}"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            "`labels` must be one integer class an image. Received: labels of shape "
            f"{labels.shape} and type {labels.dtype} for {len(images)} images"
        )
    classes = model.output_shape[-1]
    if not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"`labels` must be classes from 0 to {classes - 1}. Received labels from "
            f"{labels.min()} to {labels.max()}"
        )
    return in_float32(model), images.astype(np.float32), labels.astype(np.int64)


def check_range(name: str, value, minimum, maximum=float("inf")) -> None:
    """Raises ValueError unless an argument is a number in [minimum, maximum]."""
    if not minimum <= value <= maximum:
        raise ValueError(
            f"`{name}` must be from {minimum:g} to {maximum:g}. Received: "
            f"{name}={value}"
        )


def in_batches(function, arrays, batch_size: int, *scalars):
    """A compiled function's rows for any number of images.

    Args:
        function: what `inres_tf.sharding.compile_rows` gives.
        arrays: its arguments of one row an image.
        batch_size: images at a time.
        *scalars: its other arguments.

    Returns:
        NumPy array of one row an image.

    Raises:
        ValueError: if the batch is smaller than 1.
        RuntimeError: if the function does not give a row for each image.
    """
    check_range("batch_size", batch_size, 1)
    starts = range(0, len(arrays[0]), batch_size)
    parts = ([a[at : at + batch_size] for a in arrays] for at in starts)
    rows = np.concatenate([function(*part, *scalars) for part in parts])
    # TensorFlow 2.21 gives none for a loop around x + 1.0 x, which it optimises away.
    if len(rows) != len(arrays[0]):
        raise RuntimeError(f"{len(rows)} rows for {len(arrays[0])} images: a defect")
    return rows


def logits(model, images, batch_size: int = 250) -> np.ndarray:
    """Logits of pixels, float32, (number, classes).

    Args:
        model: as in `prepare`, in float32.
        images: pixels, (number, height, width, channels).
        batch_size: images at a time.
    """
    function = _compile(model, "logits", tf.distribute.get_strategy())
    return in_batches(function, [np.asarray(images, np.float32)], batch_size)


def losses(model, images, labels, batch_size: int = 250):
    """Cross-entropy in nats, (number,), and whether the class is right, (number,).

    Args:
        model: as in `prepare`, in float32.
        images: pixels, (number, height, width, channels).
        labels: true classes, integers, (number,).
        batch_size: images at a time.
    """
    function = _compile(model, "losses", tf.distribute.get_strategy())
    rows = in_batches(function, [images, labels], batch_size)
    return rows[:, 0], rows[:, 1] > 0


def input_gradients(model, images, labels, of="loss", batch_size: int = 250):
    """Gradients with respect to the pixels, like `images`.

    Args:
        model: as in `prepare`, in float32.
        images: pixels, float32, (number, height, width, channels).
        labels: true classes, int64, (number,).
        of: the cross-entropy `"loss"`, or the `"margin"`: the logit of the true class
            less the greatest other one.
        batch_size: images at a time.

    Returns:
        Change of it (nats, or units of the logits) by 1/255 of the pixel range.
    """
    function = _compile(model, of, tf.distribute.get_strategy())
    return in_batches(function, [images, labels], batch_size)


# A trace for each model, kept for as many models as one compares at a time.
@functools.lru_cache(maxsize=16)
def _compile(model, kind, strategy):
    del strategy  # the one in scope, for which `compile_rows` compiles
    scores = logits_fn(model)
    images = tf.TensorSpec((None, *model.input_shape[1:]))
    labels = tf.TensorSpec((None,), tf.int64)
    if kind == "logits":
        return compile_per_example(
            lambda images: scores(images, training=False), [images]
        )
    if kind == "losses":

        def rows(images, labels):
            found = scores(images, training=False)
            right = tf.argmax(found, -1) == labels
            loss = attack_losses.cross_entropy(found, labels)
            return tf.stack([loss, tf.cast(right, loss.dtype)], axis=1)

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
