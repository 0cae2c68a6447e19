"""The training pipeline: order and augmentation as functions of (seed, epoch, index).

The pipeline is stateless: any step of any epoch can be reproduced from the seed, on any
number of devices and after an interruption.
"""

import tensorflow as tf

from inres_tf.data.augmentation import augment, plan_epoch
from inres_tf.data.images import AUGMENTATIONS, Images
from inres_tf.errors import UserError


class TrainingPipeline:
    """Batches of augmented uint8 images, from any step of any epoch.

    The decoded images are kept in memory. If the batch size does not divide the number
    of images, an epoch leaves out the last images of its order.

    Args:
        data: the training images.
        batch_size: images per step, over all devices together.
        augmentation: `"none"`, `"crop"` (a random crop after reflection padding),
            `"crop_flip"` (mirrored with probability 0.5 as well) or
            `"crop_alternating_flip"` (half of the images are mirrored in even epochs,
            the other half in odd ones).
        seed: the run's seed.

    Raises:
        UserError: if a batch is larger than the dataset or `augmentation` is unknown.

    Example:
        >>> from inres_tf import data
        >>> digits = data.load("digits")
        >>> pipeline = data.TrainingPipeline(digits.train, 128, "crop", seed=0)
        >>> pipeline.steps_per_epoch
        11
        >>> images, labels = next(iter(pipeline.batches(epoch=0)))
        >>> images.shape, labels.shape
        (TensorShape([128, 8, 8, 1]), TensorShape([128]))
    """

    def __init__(self, data: Images, batch_size: int, augmentation: str, seed: int):
        if augmentation not in AUGMENTATIONS:
            raise UserError(
                f"--augmentation must be one of {', '.join(AUGMENTATIONS)}; got "
                f"{augmentation!r}"
            )
        if not 1 <= batch_size <= len(data):
            raise UserError(
                f"--batch_size must be from 1 to the number of training images, "
                f"{len(data)}; got {batch_size}"
            )
        self.number, self.shape = len(data), data.images.shape[1:]
        self.batch_size, self.augmentation, self.seed = batch_size, augmentation, seed
        self.steps_per_epoch = self.number // batch_size
        with tf.device("CPU:0"):
            self._images = tf.constant(data.images)
            self._labels = tf.constant(data.labels)

    def check_devices(self, replicas: int) -> None:
        """Raises UserError if a batch cannot be split evenly over the replicas."""
        if self.batch_size % replicas:
            raise UserError(
                f"batch size {self.batch_size} is not a multiple of the {replicas} "
                "devices that share it"
            )

    def batches(
        self,
        epoch: int,
        first_step: int = 0,
        context: tf.distribute.InputContext | None = None,
    ) -> tf.data.Dataset:
        """Returns the batches of one epoch.

        Args:
            epoch: index of the epoch, from 0.
            first_step: number of steps to skip.
            context: the input pipeline that the batches are for; it receives the slices
                of its replicas of every global batch. None for one device.

        Returns:
            Dataset of (images, labels), one element per step and replica.

        Raises:
            UserError: if a batch cannot be split evenly over the replicas.
        """
        replicas = context.num_replicas_in_sync if context else 1
        pipelines = context.num_input_pipelines if context else 1
        pipeline_id = context.input_pipeline_id if context else 0
        self.check_devices(replicas)
        plan = plan_epoch(self.number, self.shape, self.augmentation, self.seed, epoch)
        order = plan.order[: self.steps_per_epoch * self.batch_size]
        steps = order.reshape(self.steps_per_epoch, pipelines, -1)
        steps = steps[first_step:, pipeline_id]
        indices = steps.reshape(-1, self.batch_size // replicas)
        elements = (indices, plan.shift[indices], plan.flip[indices])
        return (
            tf.data.Dataset.from_tensor_slices(elements)
            .map(self._make_batch, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )

    def _make_batch(self, indices, shift, flip):
        images = tf.gather(self._images, indices)
        labels = tf.gather(self._labels, indices)
        if self.augmentation != "none":
            images = augment(images, shift, flip)
        return images, labels
