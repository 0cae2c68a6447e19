import numpy as np
import pytest
import tensorflow as tf

from inres_tf.data import Images
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.errors import UserError


def numbered_images(count=23):
    """Images whose pixels and label equal their index."""
    index = np.arange(count)
    pixels = np.tile(index[:, None, None, None], (1, 8, 8, 1)).astype(np.uint8)
    return Images(pixels, index)


def collect_labels(dataset):
    """Stacks the labels of numbered images, and checks that the images match."""
    images, labels = zip(*dataset.as_numpy_iterator())
    for image, label in zip(images, labels):
        np.testing.assert_array_equal(image[:, 0, 0, 0], label)
    return np.stack(labels)


def test_order_depends_on_seed_and_epoch():
    def order(seed, epoch):
        pipeline = TrainingPipeline(numbered_images(), 5, "crop", seed)
        return collect_labels(pipeline.batches(epoch))

    first = order(0, 0)
    assert first.shape == (4, 5) and len(np.unique(first)) == 20
    np.testing.assert_array_equal(order(0, 0), first)
    assert (order(0, 1) != first).any() and (order(1, 0) != first).any()


def test_epoch_can_start_at_any_step(rng):
    data = Images(rng.integers(0, 256, (23, 8, 8, 1)).astype(np.uint8), np.arange(23))
    pipeline = TrainingPipeline(data, 5, "crop_flip", seed=2)
    whole = list(pipeline.batches(7).as_numpy_iterator())
    rest = list(pipeline.batches(7, first_step=2).as_numpy_iterator())
    assert len(whole) == 4 and len(rest) == 2
    for (images, labels), (expected_images, expected_labels) in zip(rest, whole[2:]):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize(("pipelines", "replicas"), [(1, 2), (2, 2), (2, 4)])
def test_shards_make_up_the_same_global_batches(pipelines, replicas):
    pipeline = TrainingPipeline(numbered_images(), 8, "none", seed=0)
    whole = collect_labels(pipeline.batches(1))
    contexts = [
        tf.distribute.InputContext(pipelines, i, replicas) for i in range(pipelines)
    ]
    shards = [collect_labels(pipeline.batches(1, context=c)) for c in contexts]
    steps = [shard.reshape(len(whole), 8 // pipelines) for shard in shards]
    np.testing.assert_array_equal(np.concatenate(steps, axis=1), whole)


def test_invalid_arguments_are_rejected():
    with pytest.raises(UserError, match="--batch_size must be .* images, 23; got 24"):
        TrainingPipeline(numbered_images(), 24, "none", 0)
    with pytest.raises(UserError, match="one of none, crop.*; got 'cutout'"):
        TrainingPipeline(numbered_images(), 5, "cutout", 0)
    context = tf.distribute.InputContext(1, 0, 2)
    with pytest.raises(UserError, match="batch size 5 is not a multiple of the 2"):
        TrainingPipeline(numbered_images(), 5, "none", 0).batches(0, context=context)
