"""Images in folders, one sub-folder per class."""

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


def load_folder(name, root, image_size) -> Dataset:
    """The images of a folder with one sub-folder per class; see `load`."""
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder; folder:PATH takes one with a sub-folder of "
            "images for each class"
        )
    names = ("test", "val", "valid", "validation")
    tests = [root / s for s in names if (root / s).is_dir()]
    if tests and (root / "train").is_dir():
        classes = _classes(root / "train")
        if _classes(tests[0]) != classes:
            raise UserError(
                f"{root / 'train'} and {tests[0]} hold different classes: "
                f"{', '.join(classes)} and {', '.join(_classes(tests[0]))}"
            )
        train, test = (
            _read_classes(p, classes, image_size) for p in (root / "train", tests[0])
        )
        if train.images.shape[1:] != test.images.shape[1:]:
            raise UserError(
                f"the images in {root / 'train'} and {tests[0]} differ in size: give "
                "--image_size, such as --image_size=64"
            )
    else:
        classes = _classes(root)
        whole = _read_classes(root, classes, image_size)
        train, test = hold_out(whole, TEST_FRACTION)
    # Mixed, so that the first images of a set are of all classes.
    mix = np.random.default_rng(0).permutation
    train, test = (part.take(mix(len(part))) for part in (train, test))
    return Dataset(name, train, test, tuple(classes))


def _classes(root) -> list[str]:
    names = sorted(
        p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")
    )
    if len(names) < 2:
        raise UserError(
            f"{root} holds {len(names)} class folder(s) "
            f"({', '.join(names) or 'none'}); a classifier needs at least 2"
        )
    return names


def _read_classes(root, classes, image_size) -> Images:
    files = []
    for label, name in enumerate(classes):
        members = [
            p
            for p in sorted((root / name).rglob("*"))
            if not p.is_dir() and not p.name.startswith(".")
        ]
        if len(members) < 2:
            raise UserError(
                f"class folder {root / name} holds {len(members)} image(s); it needs "
                "at least 2"
            )
        files += [(path, label) for path in members]
    resize = resizer(image_size) if image_size else np.asarray
    images, first = None, None
    for i, (path, _) in enumerate(bar(files, f"reading {root.name}", "img")):
        image = resize(_read_image(path))
        if images is None:
            images, first = allocate(len(files), image.shape, str(root)), path
        if image.shape != images.shape[1:]:
            raise UserError(
                f"{first} is {images.shape[2]}x{images.shape[1]} pixels and {path} is "
                f"{image.shape[1]}x{image.shape[0]}: give --image_size, such as "
                "--image_size=64"
            )
        images[i] = image
    return Images(images, np.array([label for _, label in files], np.int64))


def _read_image(path) -> np.ndarray:
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (
        OSError,
        SyntaxError,
        ValueError,
        PIL.Image.DecompressionBombError,
    ) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
