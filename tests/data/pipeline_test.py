import numpy as np
import pytest
import tensorflow as tf

from inres_tf.data import Images, augmentation
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.errors import UserError


def reference_augment(image, shift, flip, pad):
    """Reflect-pad, crop, mirror: one image in NumPy, as the protocol says it."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    top, left = pad + shift[0], pad + shift[1]
    crop = padded[top : top + height, left : left + width]
    return crop[:, ::-1] if flip else crop


def test_augmentation_is_pad_crop_and_mirror(rng):
    images = rng.integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    plan = augmentation.plan_epoch(50, (32, 32, 3), "crop_flip", seed=0, epoch=0)
    pad = augmentation.crop_pad((32, 32, 3))
    assert pad == 2
    found = augmentation.augment(images, plan.shift, plan.flip).numpy()
    for image, shift, flip, got in zip(images, plan.shift, plan.flip, found):
        np.testing.assert_array_equal(got, reference_augment(image, shift, flip, pad))


def test_draws_cover_the_protocol_uniformly():
    plan = augmentation.plan_epoch(20_000, (32, 32, 3), "crop_flip", seed=1, epoch=3)
    np.testing.assert_array_equal(np.sort(plan.order), np.arange(20_000))
    values, counts = np.unique(plan.shift, return_counts=True)
    assert list(values) == [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.01)
    assert plan.flip.mean() == pytest.approx(0.5, abs=0.02)
    crop = augmentation.plan_epoch(100, (32, 32, 3), "crop", seed=1, epoch=3)
    assert not crop.flip.any() and crop.shift.any()
    none = augmentation.plan_epoch(100, (32, 32, 3), "none", seed=1, epoch=3)
    assert not none.flip.any() and not none.shift.any()


def numbered(count=23):
    """Images whose every pixel tells their index, and labels that do too."""
    index = np.arange(count)
    return Images(
        np.tile(index[:, None, None, None], (1, 8, 8, 1)).astype(np.uint8), index
    )


def collect(dataset):
    images, labels = zip(*dataset.as_numpy_iterator())
    for image, label in zip(images, labels):
        np.testing.assert_array_equal(image[:, 0, 0, 0], label)
    return np.stack(labels)


def test_epochs_differ_and_seeds_decide():
    def order(seed, epoch):
        return collect(TrainingPipeline(numbered(), 5, "crop", seed).batches(epoch))

    first = order(0, 0)
    assert first.shape == (4, 5) and len(np.unique(first)) == 20
    np.testing.assert_array_equal(order(0, 0), first)
    assert (order(0, 1) != first).any() and (order(1, 0) != first).any()


def test_any_step_can_be_started_from(rng):
    data = Images(rng.integers(0, 256, (23, 8, 8, 1)).astype(np.uint8), np.arange(23))
    batches = TrainingPipeline(data, 5, "crop_flip", seed=2)
    whole = list(batches.batches(7).as_numpy_iterator())
    rest = list(batches.batches(7, first_step=2).as_numpy_iterator())
    assert len(whole) == 4 and len(rest) == 2
    for a, b in zip(whole[2:], rest):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize(("pipelines", "replicas"), [(1, 2), (2, 2), (2, 4)])
def test_shards_make_up_the_same_global_batches(pipelines, replicas):
    batches = TrainingPipeline(numbered(), 8, "none", seed=0)
    whole = collect(batches.batches(1))
    parts = [
        collect(
            batches.batches(
                1, context=tf.distribute.InputContext(pipelines, i, replicas)
            )
        )
        for i in range(pipelines)
    ]
    local = replicas // pipelines
    steps = [p.reshape(len(whole), local * 8 // replicas) for p in parts]
    np.testing.assert_array_equal(np.concatenate(steps, axis=1), whole)


def test_errors_say_what_is_accepted():
    with pytest.raises(UserError, match="batch size 24 must be .* images, 23"):
        TrainingPipeline(numbered(), 24, "none", 0)
    with pytest.raises(UserError, match="'cutout'; known: none, crop, crop_flip"):
        TrainingPipeline(numbered(), 5, "cutout", 0)
    context = tf.distribute.InputContext(1, 0, 2)
    with pytest.raises(UserError, match="batch size 5 is not a multiple of the 2"):
        TrainingPipeline(numbered(), 5, "none", 0).batches(0, context=context)
