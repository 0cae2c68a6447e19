"""Random order, crops and flips as functions of (seed, epoch, index)."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class EpochPlan:
    """What happens to every image in one epoch, by index of the image.

    Attributes:
        order: permutation of the indices.
        shift: (number, 2) offsets of the crop, down and right, in [-pad, pad] pixels.
        flip: whether the image is mirrored.
    """

    order: np.ndarray
    shift: np.ndarray
    flip: np.ndarray


def crop_pad(shape) -> int:
    """Pixels of reflection padding before the random crop: 2 for images of 32."""
    return max(1, round(min(shape[:2]) / 16))


def plan_epoch(number, shape, augmentation, seed, epoch) -> EpochPlan:
    """Draws the order and the augmentation of one epoch.

    Args:
        number: how many images there are.
        shape: (height, width, channels) of an image.
        augmentation: one of `AUGMENTATIONS`.
        seed: the run's seed.
        epoch: index of the epoch, from 0.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(number)
    pad = crop_pad(shape) if augmentation != "none" else 0
    shift = rng.integers(-pad, pad, size=(number, 2), endpoint=True)
    flip = rng.random(number) < (0.5 if augmentation == "crop_flip" else 0.0)
    return EpochPlan(order, shift.astype(np.int32), flip)


def _reflect(index, size):
    """Index into an axis of `size` under reflection that does not repeat the edge."""
    index = tf.abs(index)
    return tf.where(index >= size, 2 * (size - 1) - index, index)


def augment(images, shift, flip):
    """Reflect-padded random crop and mirroring of a batch, as one gather an axis.

    Args:
        images: (batch, height, width, channels) of any type.
        shift: (batch, 2) integer offsets of the crop.
        flip: (batch,) booleans.

    Returns:
        A tensor like `images`.
    """
    height, width = images.shape[1], images.shape[2]
    rows = _reflect(shift[:, :1] + tf.range(height), height)
    columns = tf.range(width)
    columns = tf.where(flip[:, None], width - 1 - columns, columns)
    columns = _reflect(shift[:, 1:] + columns, width)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)
