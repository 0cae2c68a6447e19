import dataclasses

import numpy as np
import pytest

from inres_tf import data
from inres_tf.data import DataConfig
from inres_tf.errors import UserError


def test_digits_are_those_of_scikit_learn(digits):
    from sklearn.datasets import load_digits

    raw = load_digits()
    assert digits.shape == (8, 8, 1)
    assert len(digits.train) + len(digits.test) == len(raw.target) == 1797
    assert digits.class_names == tuple("0123456789")
    assert digits.augmentation == "crop"
    images = np.concatenate([digits.train.images, digits.test.images])[..., 0]
    assert images.dtype == np.uint8 and images.max() == 255
    rescaled = {(image / 255 * 16).round().astype(int).tobytes() for image in images}
    assert rescaled == {image.astype(int).tobytes() for image in raw.images}
    assert np.bincount(digits.test.labels).min() >= 34


def test_digits_can_be_resized():
    assert data.load("digits", image_size=12).shape == (12, 12, 1)


def test_invalid_settings_are_rejected():
    with pytest.raises(UserError, match="--image_size must be from 0 to 4096; got -3"):
        DataConfig(image_size=-3)
    with pytest.raises(UserError, match="needs a path"):
        data.load("folder:")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10", "crop_flip"),
        ("svhn_cropped", "crop"),
        ("emnist/letters", "crop"),
        ("folder:/mnist", "crop_flip"),
    ],
)
def test_symbols_are_not_mirrored(name, expected, digits):
    assert dataclasses.replace(digits, name=name).augmentation == expected
