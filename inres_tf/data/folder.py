"""Images in folders, one sub-folder per class."""

import pathlib

import numpy as np

from inres_tf.data.images import (
    TEST_FRACTION,
    Dataset,
    Images,
    allocate,
    hold_out,
    resizer,
)
from inres_tf.errors import UserError
from inres_tf.progress import bar

_TEST_FOLDERS = ("test", "val", "valid", "validation")


def load_folder(name: str, root: pathlib.Path, image_size: int) -> Dataset:
    """Loads images from a folder with one sub-folder per class.

    Args:
        name: name of the dataset.
        root: the folder, or the parent of `train` and `test` (or `val`) folders.
        image_size: side length in pixels to resize the images to; 0 keeps their size.

    Returns:
        The images, each split in a fixed random order.

    Raises:
        UserError: if the folder is not of this form, or an image cannot be used.
    """
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder; folder:PATH needs one with a sub-folder of "
            "images for each class"
        )
    train_folder = root / "train"
    test_folders = [root / n for n in _TEST_FOLDERS if (root / n).is_dir()]
    if test_folders and train_folder.is_dir():
        classes = _class_names(train_folder)
        train, test = _read_splits(train_folder, test_folders[0], classes, image_size)
    else:
        classes = _class_names(root)
        train, test = hold_out(_read_classes(root, classes, image_size), TEST_FRACTION)
    # Shuffled, so that the first images of a split are of all classes.
    shuffle = np.random.default_rng(0).permutation
    train, test = (split.take(shuffle(len(split))) for split in (train, test))
    return Dataset(name, train, test, tuple(classes))


def _read_splits(train_folder, test_folder, classes, image_size):
    test_classes = _class_names(test_folder)
    if test_classes != classes:
        raise UserError(
            f"{train_folder} and {test_folder} hold different classes: "
            f"{', '.join(classes)} and {', '.join(test_classes)}"
        )
    train, test = (
        _read_classes(folder, classes, image_size)
        for folder in (train_folder, test_folder)
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"the images in {train_folder} and {test_folder} differ in size; set "
            "--image_size, such as --image_size=64"
        )
    return train, test


def _class_names(root: pathlib.Path) -> list[str]:
    names = sorted(
        p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")
    )
    if len(names) < 2:
        raise UserError(
            f"{root} holds {len(names)} class folder(s) "
            f"({', '.join(names) or 'none'}); a classifier needs at least 2"
        )
    return names


def _read_classes(root: pathlib.Path, classes: list[str], image_size: int) -> Images:
    files = []
    for label, name in enumerate(classes):
        paths = [
            p
            for p in sorted((root / name).rglob("*"))
            if not p.is_dir() and not p.name.startswith(".")
        ]
        if len(paths) < 2:
            raise UserError(
                f"class folder {root / name} holds {len(paths)} image(s); it needs "
                "at least 2"
            )
        files += [(path, label) for path in paths]
    first = files[0][0]
    shape = _read_image(first, image_size).shape
    images = allocate(len(files), shape, str(root))
    for i, (path, _) in enumerate(bar(files, f"reading {root.name}", "img")):
        image = _read_image(path, image_size)
        if image.shape != shape:
            raise UserError(
                f"{first} is {shape[1]}x{shape[0]} pixels and {path} is "
                f"{image.shape[1]}x{image.shape[0]}; set --image_size, such as "
                "--image_size=64"
            )
        images[i] = image
    return Images(images, np.array([label for _, label in files], np.int64))


def _read_image(path: pathlib.Path, image_size: int) -> np.ndarray:
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (
        OSError,
        SyntaxError,
        ValueError,
        PIL.Image.DecompressionBombError,
    ) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    return resizer(image_size)(pixels) if image_size else pixels
