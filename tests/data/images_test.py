import numpy as np
import pytest

from inres_tf import data
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


def test_datasets_larger_than_memory_are_rejected():
    with pytest.raises(UserError, match="'huge' takes .* GiB decoded"):
        images.allocate(10**9, (224, 224, 3), "huge")
