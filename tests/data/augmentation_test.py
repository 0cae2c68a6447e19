import numpy as np
import pytest

from inres_tf.data import augmentation


def augment_in_numpy(image, shift, flip, pad):
    """Reflect-pads, crops and mirrors one image."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    top, left = pad + shift[0], pad + shift[1]
    crop = padded[top : top + height, left : left + width]
    return crop[:, ::-1] if flip else crop


def test_augment_pads_crops_and_mirrors(rng):
    images = rng.integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    plan = augmentation.plan_epoch(50, (32, 32, 3), "crop_flip", seed=0, epoch=0)
    pad = augmentation.crop_pad((32, 32, 3))
    augmented = augmentation.augment(images, plan.shift, plan.flip).numpy()
    for image, shift, flip, result in zip(images, plan.shift, plan.flip, augmented):
        expected = augment_in_numpy(image, shift, flip, pad)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("shape", "pad"), [((8, 8), 1), ((32, 32), 2), ((80, 48), 3)])
def test_padding_is_a_sixteenth_of_the_shorter_side(shape, pad):
    assert augmentation.crop_pad((*shape, 3)) == pad


def test_plan_draws_shifts_and_flips_uniformly():
    plan = augmentation.plan_epoch(20_000, (32, 32, 3), "crop_flip", seed=1, epoch=3)
    np.testing.assert_array_equal(np.sort(plan.order), np.arange(20_000))
    values, counts = np.unique(plan.shift, return_counts=True)
    assert list(values) == [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.01)
    assert plan.flip.mean() == pytest.approx(0.5, abs=0.02)


def test_plan_follows_the_augmentation():
    crop = augmentation.plan_epoch(100, (32, 32, 3), "crop", seed=1, epoch=3)
    assert not crop.flip.any() and crop.shift.any()
    none = augmentation.plan_epoch(100, (32, 32, 3), "none", seed=1, epoch=3)
    assert not none.flip.any() and not none.shift.any()


def test_alternating_flip_shows_each_image_in_both_orientations():
    first, second, third = (
        augmentation.plan_epoch(1000, (32, 32, 3), "crop_alternating_flip", 1, epoch)
        for epoch in (0, 1, 2)
    )
    assert (first.flip != second.flip).all() and (first.flip == third.flip).all()
    assert 400 < first.flip.sum() < 600
    assert not (first.order == second.order).all()
    other = augmentation.plan_epoch(1000, (32, 32, 3), "crop_alternating_flip", 2, 0)
    assert not (first.flip == other.flip).all()
