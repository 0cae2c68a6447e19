import dataclasses

import numpy as np
import PIL.Image
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


def mixed_sizes(folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        for i in range(2):
            pixels = np.full((4 + i, 4, 3), i, np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return f"folder:{folder}"


def test_advice_names_arguments_in_python_and_flags_in_settings(tmp_path):
    name, missing = mixed_sizes(tmp_path), tmp_path / "none"
    for load, size, where, download in (
        (data.load, "`image_size=64`", f"`data_dir={missing}`", "`download=True`"),
        (
            lambda name, data_dir=None: DataConfig(name, data_dir).load(),
            "--image_size=64",
            f"--data_dir={missing}",
            "--download",
        ),
    ):
        with pytest.raises(UserError, match=f"set .*image_size.?, such as {size}$"):
            load(name)
        with pytest.raises(UserError) as caught:
            load("cifar100", data_dir=missing)
        assert f"is not in {where} (found" in str(caught.value)
        assert f"pass {download} to get it" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar-10", "did you mean 'cifar10'. "),
        ("CIFAR10", "did you mean 'cifar10'. "),
        ("Digits", "did you mean 'digits'. "),
        ("nothing", "TensorFlow Datasets lists all"),
    ],
)
@pytest.mark.parametrize("download", [False, True])
def test_misspelt_datasets(name, hint, download, tmp_path):
    with pytest.raises(UserError, match=f"there is no dataset '{name}'; {hint}"):
        data.load(name, tmp_path, download)


def test_a_folder_without_its_prefix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("photos", "photos/", f"{tmp_path}/photos"):
        with pytest.raises(UserError, match=f"no dataset .* pass 'folder:{name}'"):
            data.load(name)


def test_prepared_datasets_are_suggested(tmp_path):
    info = tmp_path / "my_flowers" / "1.0.0" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.touch()
    with pytest.raises(UserError, match="'my-flower'; did you mean 'my_flowers'"):
        data.load("my-flower", tmp_path)


def test_a_home_and_a_negative_size(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/photos is not a folder"):
        data.load("folder:~/photos")
    with pytest.raises(UserError, match="`image_size` must be at least 0; got -3"):
        data.load("digits", image_size=-3)
