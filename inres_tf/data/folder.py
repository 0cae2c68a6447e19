"""Images in folders, one sub-folder per class."""

import pathlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inres_tf import spelling
from inres_tf.data.folder_layout import Walk, find_splits, sub_folders
from inres_tf.data.image_files import read_image
from inres_tf.data.images import (
    TEST_FRACTION,
    Dataset,
    Images,
    allocate,
    content_key,
    held_out,
    resizer,
)
from inres_tf.errors import UserError
from inres_tf.progress import bar

_LISTED = 10  # unreadable images in a message


def load_folder(name: str, root: pathlib.Path, image_size: int) -> Dataset:
    """Loads images from a folder with one sub-folder per class.

    Counts on stderr what is left out, transparent images, and test images that are
    copies of training images.

    Args:
        name: name of the dataset.
        root: the folder, or the parent of `train` and `test` (or `val`) folders.
        image_size: side length in pixels to resize the images to; 0 keeps their size.

    Returns:
        The images, each split in a fixed random order, and the names of the classes in
        Unicode NFC.

    Raises:
        UserError: if the folder is not of this form, or an image cannot be used.
    """
    if not root.is_dir():
        beside = sub_folders(root.parent) if root.parent.is_dir() else ()
        raise UserError(
            f"{root} is not a folder; {spelling.did_you_mean(root.name, beside)}"
            "folder:PATH needs one with a sub-folder of images for each class"
        )
    reader = _Reader(root, image_size)
    splits = find_splits(root)
    if splits:
        reader.walk.note_outside(root, splits)
        classes, train, test = _read_splits(reader, *splits)
    else:
        classes, train, test = _hold_out_test(reader)
    for note in reader.notes(train, test):
        print(f"{root}: {note}", file=sys.stderr)
    # Shuffled, so that the first images of a split are of all classes.
    shuffle = np.random.default_rng(0).permutation
    first, second = (s.images.take(shuffle(len(s.paths))) for s in (train, test))
    return Dataset(name, first, second, classes)


@dataclass(frozen=True)
class _Side:
    """Images, the path of each, and a number of its decoded pixels."""

    images: Images
    paths: np.ndarray
    pictures: np.ndarray

    def take(self, where: np.ndarray) -> "_Side":
        return _Side(self.images.take(where), self.paths[where], self.pictures[where])


class _Reader:
    """Reads folders of classes.

    Args:
        root: the folder of the dataset.
        image_size: side length in pixels to resize the images to; 0 keeps their size.
    """

    def __init__(self, root: pathlib.Path, image_size: int):
        self.walk = Walk(root)
        self.transparent: list[pathlib.Path] = []
        self.resize = resizer(image_size) if image_size else lambda pixels: pixels

    def read(self, folder: pathlib.Path, classes: Mapping[str, pathlib.Path]) -> _Side:
        """Reads the images of classes, the folders of which lie in one folder."""
        self.walk.note_outside(folder, classes.values())
        paths, labels = [], []
        for label, class_folder in enumerate(classes.values()):
            found = self.walk.images(class_folder)
            if len(found) < 2:
                raise UserError(
                    f"class folder {class_folder} holds {len(found)} image(s); it "
                    "needs at least 2"
                )
            paths += found
            labels += [label] * len(found)
        images, first = None, None
        keys, pictures = np.empty((2, len(paths)), np.uint64)
        unreadable: list[str] = []
        for i, path in enumerate(bar(paths, f"reading {folder.name}", "img")):
            try:
                picture = read_image(path)
            except UserError as error:
                unreadable.append(str(error))
                continue
            pixels = self.resize(picture.pixels)
            if images is None:
                images, first = allocate(len(paths), pixels.shape, str(folder)), path
            shape = images.shape[1:]
            if pixels.shape != shape:
                raise UserError(
                    f"{first} is {shape[1]}x{shape[0]} pixels and {path} is "
                    f"{pixels.shape[1]}x{pixels.shape[0]}; set `image_size`, such as "
                    "`image_size=64`"
                )
            images[i], keys[i] = pixels, picture.key
            shown = np.ascontiguousarray(picture.pixels)
            pictures[i] = content_key(shown.data, seed=shown.shape[0])
            if picture.transparent:
                self.transparent.append(path)
        if unreadable or images is None:
            more = len(unreadable) - _LISTED
            rest = f"; and {more} more" if more > 0 else ""
            raise UserError("; ".join(unreadable[:_LISTED]) + rest)
        labelled = Images(images, np.array(labels, np.int64), keys)
        return _Side(labelled, np.array(paths, object), pictures)

    def notes(self, train: _Side, test: _Side) -> list[str]:
        """Returns what a user should know about the images, one line per kind."""
        lines = self.walk.notes()
        if self.transparent:
            count = self.walk.counted(self.transparent)
            lines.append(f"transparent images, shown on white: {count}")
        first: dict[int, int] = {}  # the first image of each picture
        pictures = [*train.pictures, *test.pictures]
        copied = [first.setdefault(picture, i) for i, picture in enumerate(pictures)]
        paths = np.concatenate([train.paths, test.paths])
        labels = np.concatenate([train.images.labels, test.images.labels])
        is_test = np.arange(len(paths)) >= len(train.paths)
        for kind, where in (
            (
                f"copies of training images among the {len(test.paths)} test images",
                is_test & ~is_test[copied],
            ),
            ("copies of images of another class", labels != labels[copied]),
        ):
            if where.any():
                count = self.walk.counted(paths[where], paths[copied][where])
                lines.append(f"{kind}: {count}")
        return lines


def _hold_out_test(reader):
    """Reads a folder of classes and splits it, without keeping the whole in memory."""
    root = reader.walk.root
    folders = _class_folders(root)
    whole = reader.read(root, folders)
    # The seed differs from that of the images held out of the rest for validation.
    is_test = held_out(whole.images, TEST_FRACTION, seed=1)
    return tuple(folders), whole.take(~is_test), whole.take(is_test)


def _read_splits(reader, train_folder, test_folder):
    train_classes, test_classes = map(_class_folders, (train_folder, test_folder))
    if list(train_classes) != list(test_classes):
        raise UserError(
            f"{train_folder} and {test_folder} hold different classes: "
            f"{', '.join(train_classes)} and {', '.join(test_classes)}"
        )
    train = reader.read(train_folder, train_classes)
    test = reader.read(test_folder, test_classes)
    if train.images.images.shape[1:] != test.images.images.shape[1:]:
        raise UserError(
            f"the images in {train_folder} and {test_folder} differ in size; set "
            "`image_size`, such as `image_size=64`"
        )
    return tuple(train_classes), train, test


def _class_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    folders = sub_folders(root)
    if len(folders) < 2:
        raise UserError(
            f"{root} holds {len(folders)} class folder(s) "
            f"({', '.join(folders) or 'none'}); a classifier needs at least 2"
        )
    return folders
