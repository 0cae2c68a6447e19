import numpy as np
import pytest

from inres_tf import data, environment
from inres_tf.data import Images, images
from inres_tf.errors import UserError


def test_hold_out_takes_a_fixed_part_of_each_class():
    labels = np.repeat([0, 1, 2], [10, 20, 2])
    whole = Images(np.arange(32, dtype=np.uint8).reshape(32, 1, 1, 1), labels)
    remaining, held_out = data.hold_out(whole, 0.2)
    np.testing.assert_array_equal(np.bincount(held_out.labels), [2, 4, 1])
    both = np.concatenate([remaining.images, held_out.images]).ravel()
    np.testing.assert_array_equal(np.sort(both), np.arange(32))
    _, again = data.hold_out(whole, 0.2)
    np.testing.assert_array_equal(again.images, held_out.images)


def test_hold_out_needs_a_class_with_two_images():
    few = Images(np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]))
    with pytest.raises(UserError, match="needs a class with at least 2 images"):
        data.hold_out(few, 0.5)


def test_images_take_labels_in_their_usual_forms():
    pixels = np.zeros((3, 1, 1, 1), np.uint8)
    for form in ([[2], [0], [1]], np.eye(3)[[2, 0, 1]], [2.0, 0.0, 1.0]):
        found = Images(pixels, form).labels
        assert found.dtype == np.int64 and found.tolist() == [2, 0, 1]
    for wrong in ([0, -1, 1], [0, 1], [0.5, 0, 1]):
        with pytest.raises(UserError, match="`labels` must be"):
            Images(pixels, wrong)


def test_every_class_of_a_dataset_has_a_name():
    images_of = {n: Images(np.zeros((n, 1, 1, 1), np.uint8), range(n)) for n in (2, 3)}
    data.Dataset("mine", images_of[2], images_of[2], ("a", "b"))
    with pytest.raises(UserError, match="the test images of 'mine' .* are 2 classes"):
        data.Dataset("mine", images_of[2], images_of[3], ("a", "b"))


def test_images_with_keys_are_held_out_by_their_own_key_alone():
    keys = np.random.default_rng(0).integers(0, 2**63, 600).astype(np.uint64)
    whole = Images(np.zeros((600, 1, 1, 1), np.uint8), np.arange(600) % 3, keys)
    _, held_out = data.hold_out(whole, 0.2)
    np.testing.assert_allclose(np.bincount(held_out.labels), 40, atol=17)  # 3 s.d.
    half = whole.take(slice(0, 300))
    _, of_half = data.hold_out(half, 0.2)
    assert set(of_half.keys) == set(held_out.keys) & set(half.keys)
    _, of_other_seed = data.hold_out(whole, 0.2, seed=1)
    assert len(set(of_other_seed.keys) & set(held_out.keys)) < 50


def test_datasets_larger_than_memory_are_rejected():
    with pytest.raises(UserError, match="'huge' takes 140190.1 GiB decoded"):
        images.allocate(10**9, (224, 224, 3), "huge")


def test_the_memory_is_that_of_the_container(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(environment, "_CGROUP_LIMIT", limit)
    machine = environment.memory()
    for text in ("max\n", "57600\n"):  # three times the images
        limit.write_text(text)
        images.allocate(100, (8, 8, 3), "small")
    limit.write_text("57599\n")
    assert environment.memory() == 57599 < machine
    with pytest.raises(UserError, match="more than a third of the 0.0 GiB of memory"):
        images.allocate(100, (8, 8, 3), "small")


def test_hold_out_does_not_take_the_first_of_each_class():
    """Files and datasets are often in the order in which they were made."""
    labels = np.repeat(np.arange(3), 100)
    pixels = np.tile(np.arange(100, dtype=np.uint8), 3).reshape(-1, 1, 1, 1)
    remaining, held_out = data.hold_out(data.Images(pixels, labels), 0.2)
    for part in (remaining, held_out):
        for label in range(3):
            places = part.images[part.labels == label].ravel()
            assert places.min() < 20 and places.max() >= 80
