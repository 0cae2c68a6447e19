"""Ready-made corrupted test sets: CIFAR-10-C from TensorFlow Datasets or its files."""

import numbers
import os
import pathlib

import numpy as np

from inres_tf import labels as label_checks
from inres_tf import spelling
from inres_tf.corruptions.generate import EXTRA, SEVERITIES, STANDARD
from inres_tf.data import tfds
from inres_tf.data.images import Images
from inres_tf.errors import UserError

TFDS = "cifar10_corrupted"
_NAMES = (*STANDARD, *EXTRA)
# Corruptions that have another name in TensorFlow Datasets.
_TFDS_NAMES = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}


def load(
    source: str,
    name: str,
    severity: int,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Images:
    """Loads the test images of one corruption at one severity.

    Args:
        source: `"cifar10_corrupted"` of TensorFlow Datasets, or `"folder:PATH"` with
            files in the format of CIFAR-10-C: `NAME.npy` of uint8 pixels, (5 N, height,
            width, channels), for each corruption, the N images of severity 1 first, and
            `labels.npy` of 5 N integers, or of N for all severities. The files are
            memory-mapped.
        name: name of the corruption, from `inres_tf.corruptions.STANDARD` or `EXTRA`.
        severity: its severity, 1 to 5.
        data_dir: folder of the prepared TensorFlow Datasets; None for their default.
        download: whether to download (2.7 GiB) and prepare a set that is missing in
            `data_dir`.

    Returns:
        The N images, whose pixels may be a read-only view of the file.

    Raises:
        UserError: if the source, name or severity is unknown, or the set is missing or
            damaged.

    Example:
        >>> import numpy as np
        >>> from inres_tf.corruptions import cifar10_c
        >>> np.save("fog.npy", np.zeros((10, 32, 32, 3), np.uint8))
        >>> np.save("labels.npy", [3, 8])
        >>> images = cifar10_c.load("folder:.", "fog", severity=5)
        >>> images.images.shape, images.labels
        ((2, 32, 32, 3), array([3, 8]))

    Reference:
        Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common
        Corruptions and Perturbations, ICLR 2019; https://zenodo.org/records/2535967.
    """
    if name not in _NAMES:
        hint = spelling.did_you_mean(name, _NAMES)
        raise UserError(
            f"unknown corruption {name!r}; {hint}known: {', '.join(_NAMES)}"
        )
    if not isinstance(severity, numbers.Integral) or severity not in SEVERITIES:
        raise UserError(f"severity must be an integer from 1 to 5; got {severity!r}")
    if source == TFDS:
        return _from_tfds(name, severity, data_dir, download)
    if source.startswith("folder:") and source != "folder:":
        root = pathlib.Path(source.removeprefix("folder:")).expanduser()
        return _from_folder(root, name, severity)
    raise UserError(
        f"unknown source of corrupted images {source!r}; pass {TFDS!r} or "
        "'folder:PATH' with the .npy files of CIFAR-10-C"
    )


def _from_tfds(name, severity, data_dir, download) -> Images:
    # Without a configuration, TensorFlow Datasets would load brightness_1.
    full_name = f"{TFDS}/{_TFDS_NAMES.get(name, name)}_{severity}"
    return tfds.read_tfds(
        full_name,
        data_dir,
        download,
        lambda builder: tfds.read_split(builder, "test", ("image", "label"), full_name),
        "pass another `data_dir`, 'folder:PATH' with the .npy files of CIFAR-10-C, or "
        "fetch it (2.7 GiB) with inres_tf.corruptions.cifar10_c.load and download=True",
    )


def _from_folder(root, name, severity) -> Images:
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder; folder:PATH must be one with the .npy files of "
            "CIFAR-10-C"
        )
    path = root / f"{name}.npy"
    if not path.is_file():
        available = [n for n in _NAMES if (root / f"{n}.npy").is_file()]
        raise UserError(
            f"{root} has no {path.name} (corruptions found there: "
            f"{', '.join(available) or 'none'}); pass a folder with the .npy files of "
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
            f"{path} holds {len(images)} images; the number must be a multiple of 5, "
            "with the same number of each severity, from 1 to 5"
        )
    number = len(images) // len(SEVERITIES)
    part = slice((severity - 1) * number, severity * number)
    return Images(images[part], _labels(root / "labels.npy", number, part, path))


def _labels(path, number, part, images_path) -> np.ndarray:
    """Reads the labels of the images of one severity."""
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no labels.npy; copy that of CIFAR-10-C next to "
            f"{images_path.name}"
        )
    labels = label_checks.checked(_map(path), name=str(path))
    total = number * len(SEVERITIES)
    if len(labels) not in (number, total):
        raise UserError(
            f"{path} has the shape {labels.shape}; for {images_path.name} it must be "
            f"({total},), or ({number},) for all severities"
        )
    return labels[part] if len(labels) == total else labels


def _map(path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a .npy file: {error}") from error
