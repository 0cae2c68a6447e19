"""The training pipeline: order and augmentation as functions of (seed, epoch, index).

Nothing here remembers a state, so any step of any epoch can be reproduced from the
seed alone: on another number of devices, or after an interruption.
"""

import tensorflow as tf

from inres_tf.data.augmentation import augment, plan_epoch
from inres_tf.data.images import AUGMENTATIONS, Images
from inres_tf.errors import UserError


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
