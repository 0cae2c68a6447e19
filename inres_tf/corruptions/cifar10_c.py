"""Ready-made corrupted test sets: CIFAR-10-C from TensorFlow Datasets or its files."""

import difflib
import pathlib

import numpy as np

from inres_tf.corruptions.generate import EXTRA, SEVERITIES, STANDARD
from inres_tf.data import tfds
from inres_tf.data.images import Images
from inres_tf.errors import UserError

TFDS = "cifar10_corrupted"
_NAMES = (*STANDARD, *EXTRA)
# Where TensorFlow Datasets calls a corruption otherwise.
_TFDS_NAMES = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}


def load(source, name, severity, data_dir=None, download=False) -> Images:
    """Loads the test images of one corruption at one severity.

    Args:
        source: `"cifar10_corrupted"` of TensorFlow Datasets, or `"folder:PATH"` with
            the files of CIFAR-10-C (Hendrycks & Dietterich 2019,
            https://zenodo.org/records/2535967) or such: for each corruption `NAME.npy`
            of uint8 pixels, (5 N, height, width, channels), the N images of severity 1
            first, and `labels.npy` of 5 N integers, or of N for all severities. The
            files are mapped into memory, so that only what is used is read.
        name: of the corruption: one of `inres_tf.corruptions.STANDARD` and `EXTRA`.
        severity: 1 to 5.
        data_dir: folder of the prepared TensorFlow Datasets; None for their default.
        download: whether a set not in `data_dir` is downloaded (2.7 GiB) and prepared.

    Returns:
        The N images, whose pixels may be a read-only view of the file.

    Raises:
        UserError: for an unknown source, name or severity, a set that is not there,
            and files that are not as above.
    """
    if name not in _NAMES:
        close = difflib.get_close_matches(str(name), _NAMES, 3, 0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise UserError(
            f"unknown corruption {name!r}; {hint}known: {', '.join(_NAMES)}"
        )
    if severity not in SEVERITIES:
        raise UserError(f"severity must be an integer from 1 to 5; got {severity!r}")
    if source == TFDS:
        return _from_tfds(name, severity, data_dir, download)
    if source.startswith("folder:") and source != "folder:":
        root = pathlib.Path(source.removeprefix("folder:")).expanduser()
        return _from_folder(root, name, severity)
    raise UserError(
        f"unknown source of corrupted images {source!r}; give {TFDS!r} or "
        "'folder:PATH' with the .npy files of CIFAR-10-C"
    )


def _from_tfds(name, severity, data_dir, download) -> Images:
    # Without a configuration it would be brightness_1, whatever was asked.
    full = f"{TFDS}/{_TFDS_NAMES.get(name, name)}_{severity}"
    return tfds.read_tfds(
        full,
        data_dir,
        download,
        lambda builder: tfds.read_split(builder, "test", ("image", "label"), full),
        "give another --data_dir, 'folder:PATH' with the .npy files of CIFAR-10-C, or "
        "--download to fetch it (2.7 GiB) from TensorFlow Datasets",
    )


def _from_folder(root, name, severity) -> Images:
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder; folder:PATH takes one with the .npy files of "
            "CIFAR-10-C"
        )
    path = root / f"{name}.npy"
    if not path.is_file():
        found = [n for n in _NAMES if (root / f"{n}.npy").is_file()]
        raise UserError(
            f"{root} has no {path.name} (corruptions found there: "
            f"{', '.join(found) or 'none'}); give a folder with the .npy files of "
            "CIFAR-10-C"
        )
    images = _map(path)
    if images.dtype != np.uint8:
        raise UserError(f"{path} holds {images.dtype}; it must hold uint8 pixels")
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UserError(
            f"{path} has the shape {images.shape}; it must be (5 N, height, width, 1 "
            "or 3)"
        )
    if not len(images) or len(images) % len(SEVERITIES):
        raise UserError(
            f"{path} holds {len(images)} images, which is no multiple of 5; it must "
            "hold as many of each severity, 1 to 5 in order"
        )
    number = len(images) // len(SEVERITIES)
    part = slice((severity - 1) * number, severity * number)
    return Images(images[part], _labels(root / "labels.npy", number, part, path))


def _labels(path, number, part, images_path) -> np.ndarray:
    """The labels of the images of one severity."""
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no labels.npy; put that of CIFAR-10-C beside "
            f"{images_path.name}"
        )
    labels = _map(path)
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path} holds {labels.dtype}; it must hold integer classes")
    whole = number * len(SEVERITIES)
    if labels.shape not in ((number,), (whole,)):
        raise UserError(
            f"{path} has the shape {labels.shape}; for {images_path.name} it must be "
            f"({whole},), or ({number},) for all severities"
        )
    labels = labels[part] if len(labels) == whole else labels
    if labels.min() < 0:
        raise UserError(f"{path} holds {labels.min()}; classes must be at least 0")
    return np.array(labels, np.int64)


def _map(path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a .npy file: {error}") from error
