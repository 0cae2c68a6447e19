"""The training pipeline: order and augmentation as functions of (seed, epoch, index).

Nothing here remembers a state, so any step of any epoch can be reproduced from the
seed alone: on another number of devices, or after an interruption.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from inres_tf.data import Images
from inres_tf.errors import UserError

AUGMENTATIONS = ("none", "crop", "crop_flip")


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


class TrainingPipeline:
    """Batches of augmented uint8 images for any epoch, from any step of it.

    The images stay in memory, decoded. The last images of an epoch's order that fill no
    batch are left to the next epochs.

    Args:
        data: the training images.
        batch_size: images of one step, over all devices together.
        augmentation: one of `AUGMENTATIONS`.
        seed: the run's seed.

    Raises:
        UserError: if a batch is larger than the dataset or `augmentation` unknown.
    """

    def __init__(self, data: Images, batch_size: int, augmentation: str, seed: int):
        if augmentation not in AUGMENTATIONS:
            raise UserError(
                f"unknown augmentation {augmentation!r}; known: "
                f"{', '.join(AUGMENTATIONS)}"
            )
        if not 1 <= batch_size <= len(data):
            raise UserError(
                f"batch size {batch_size} must be between 1 and the number of training "
                f"images, {len(data)}"
            )
        self.number, self.shape = len(data), data.images.shape[1:]
        self.batch_size, self.augmentation, self.seed = batch_size, augmentation, seed
        self.steps_per_epoch = self.number // batch_size
        with tf.device("CPU:0"):
            self._images = tf.constant(data.images)
            self._labels = tf.constant(data.labels)

    def check_devices(self, replicas: int) -> None:
        """Raises UserError if a batch cannot be divided over so many devices."""
        if self.batch_size % replicas:
            raise UserError(
                f"batch size {self.batch_size} is not a multiple of the {replicas} "
                "devices it is divided over"
            )

    def batches(self, epoch, first_step=0, context=None) -> tf.data.Dataset:
        """The batches of one epoch.

        Args:
            epoch: index of the epoch, from 0.
            first_step: how many steps of it to leave out.
            context: `tf.distribute.InputContext` of the pipeline that asks; it gets
                its replicas' slices of every global batch. None for one device.

        Returns:
            Dataset of (images, labels), one element a replica and step.

        Raises:
            UserError: if the batch cannot be divided by the replicas.
        """
        replicas = context.num_replicas_in_sync if context else 1
        pipelines = context.num_input_pipelines if context else 1
        which = context.input_pipeline_id if context else 0
        self.check_devices(replicas)
        plan = plan_epoch(self.number, self.shape, self.augmentation, self.seed, epoch)
        used = plan.order[: self.steps_per_epoch * self.batch_size]
        steps = used.reshape(self.steps_per_epoch, pipelines, -1)[first_step:, which]
        index = steps.reshape(-1, self.batch_size // replicas)

        def batch(index, shift, flip):
            images, labels = (
                tf.gather(self._images, index),
                tf.gather(self._labels, index),
            )
            if self.augmentation != "none":
                images = augment(images, shift, flip)
            return images, labels

        return (
            tf.data.Dataset.from_tensor_slices(
                (index, plan.shift[index], plan.flip[index])
            )
            .map(batch, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )
