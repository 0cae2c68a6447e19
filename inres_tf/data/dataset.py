"""Datasets by name: digits, TensorFlow Datasets and folders, as uint8 arrays."""

import os
import pathlib
from dataclasses import dataclass, replace

import numpy as np

from inres_tf import files
from inres_tf.config import Config, config_field
from inres_tf.data.folder import load_folder
from inres_tf.data.images import Dataset, Images, hold_out, resizer
from inres_tf.data.tfds import load_tfds
from inres_tf.errors import UserError, arguments_as_flags


@dataclass(frozen=True)
class DataConfig(Config):
    """Settings of the dataset; each is a flag of the programs that read images.

    Raises:
        UserError: for a value that is out of range.

    Example:
        >>> from inres_tf import data
        >>> config = data.DataConfig(dataset="digits", image_size=16)
        >>> config.load().shape
        (16, 16, 1)
    """

    dataset: str = config_field(
        "digits",
        "digits (embedded), a TensorFlow Datasets name such as cifar10, or folder:PATH "
        "with one sub-folder per class.",
        path=True,
    )
    data_dir: str | None = config_field(
        None, "Folder of the prepared TensorFlow Datasets.", path=True
    )
    download: bool = config_field(
        False, "Download and prepare a dataset that is not in --data_dir."
    )
    image_size: int = config_field(
        0,
        "Side length in pixels to resize images to; 0 keeps their size.",
        bounds="[0, 4096]",
    )

    def load(self) -> Dataset:
        """Loads the dataset; see `inres_tf.data.load`."""
        with arguments_as_flags():
            return load(self.dataset, self.data_dir, self.download, self.image_size)


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    image_size: int = 0,
) -> Dataset:
    """Loads a whole dataset into memory, as uint8 arrays.

    Args:
        name: `"digits"` (scikit-learn's 1,797 handwritten digits of 8x8 pixels, 359 of
            them for testing), a name of TensorFlow Datasets such as `"cifar10"`, or
            `"folder:PATH"` with one sub-folder per class. If PATH has the sub-folders
            `train` and `test` (or `val`, or similar), the class folders are expected in
            these; otherwise about a fifth of the images of each class is held out for
            testing, each by the content of its own file alone.
        data_dir: folder of the prepared TensorFlow Datasets; None for their default.
        download: whether to download and prepare a dataset that is not in `data_dir`.
        image_size: side length in pixels to resize the images to; 0 keeps their size,
            which must then be the same for all.

    Returns:
        The training and test images.

    Raises:
        UserError: if the dataset is missing or cannot be used.

    Example:
        >>> from inres_tf import data
        >>> digits = data.load("digits")
        >>> digits.train.images.shape, digits.test.images.shape
        ((1438, 8, 8, 1), (359, 8, 8, 1))
    """
    if image_size < 0:
        raise UserError(f"`image_size` must be at least 0; got {image_size}")
    if name.startswith("folder:"):
        path = name.removeprefix("folder:")
        if not path:
            raise UserError("folder: needs a path, as in folder:PATH")
        return load_folder(name, pathlib.Path(files.expand(path)), image_size)
    if name != "digits":
        return load_tfds(name, data_dir, download, image_size)
    digits = _load_digits()
    return _resize(digits, image_size) if image_size else digits


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    train, test = hold_out(Images(pixels, bunch.target.astype(np.int64)), 0.2)
    return Dataset("digits", train, test, tuple(map(str, range(10))))


def _resize(dataset: Dataset, size: int) -> Dataset:
    resize = resizer(size)
    train, test = (
        replace(split, images=np.stack([resize(image) for image in split.images]))
        for split in (dataset.train, dataset.test)
    )
    return replace(dataset, train=train, test=test)
