"""Labelled images: digits, TensorFlow Datasets and folders, as uint8 arrays."""

import pathlib
from dataclasses import dataclass, replace

import numpy as np

from inres_tf.config import Config, config_field
from inres_tf.data.folder import load_folder
from inres_tf.data.images import Dataset, Images, hold_out, resizer
from inres_tf.data.tfds import load_tfds
from inres_tf.errors import UserError


@dataclass(frozen=True)
class DataConfig(Config):
    """Which images; each field is a flag of the binaries that read images."""

    dataset: str = config_field(
        "digits",
        "digits (embedded), a TensorFlow Datasets name such as cifar10, or folder:PATH "
        "with one sub-folder a class.",
    )
    data_dir: str | None = config_field(
        None, "Folder of the prepared TensorFlow Datasets."
    )
    download: bool = config_field(
        False, "Download and prepare a dataset not in --data_dir."
    )
    image_size: int = config_field(
        0, "Side in pixels to resize images to; 0: as they are.", bounds="[0, 4096]"
    )

    def load(self) -> "Dataset":
        """Loads the images; see `load`."""
        return load(self.dataset, self.data_dir, self.download, self.image_size)


def load(name, data_dir=None, download=False, image_size=0) -> Dataset:
    """Loads a dataset whole, as uint8 arrays.

    Args:
        name: `"digits"` (scikit-learn's 1,797 handwritten digits of 8x8 pixels, of
            which 359 are the test set), a name of TensorFlow Datasets such as
            `"cifar10"`, or `"folder:PATH"` with one sub-folder a class. If PATH holds
            `train` and `test` (or `val`), these hold the classes; otherwise every
            fifth image or so of each class is a test image, always the same ones.
        data_dir: folder of the prepared TensorFlow Datasets; None for their default.
        download: whether a dataset not in `data_dir` is downloaded and prepared.
        image_size: side in pixels to resize to; 0 keeps the images as they are, which
            then must all have the same size.

    Raises:
        UserError: if the dataset cannot be had; the message says what can.
    """
    if name == "digits":
        dataset = _digits()
    elif name == "folder:":
        raise UserError("--dataset=folder: needs a path, as in folder:PATH")
    elif name.startswith("folder:"):
        return load_folder(name, pathlib.Path(name.removeprefix("folder:")), image_size)
    else:
        return load_tfds(name, data_dir, download, image_size)
    if image_size:
        resize = resizer(image_size)
        train, test = (
            replace(part, images=np.stack([resize(image) for image in part.images]))
            for part in (dataset.train, dataset.test)
        )
        dataset = replace(dataset, train=train, test=test)
    return dataset


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    train, test = hold_out(Images(pixels, bunch.target.astype(np.int64)), 0.2)
    return Dataset("digits", train, test, tuple(map(str, range(10))))
