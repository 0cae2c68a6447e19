"""Labelled images: digits, TensorFlow Datasets and folders, as uint8 arrays."""

import os
import pathlib
from dataclasses import dataclass, replace

import numpy as np

from inres_tf.config import setting
from inres_tf.errors import UserError
from inres_tf.progress import bar

# Mirrored, these are other symbols, so the default augmentation does not flip them.
_SYMBOLS = ("digits", "mnist", "emnist", "kmnist", "svhn", "binarized", "omniglot")
_TEST_FRACTION = 0.2


@dataclass(frozen=True)
class DataConfig:
    """Which images; each field is a flag of the binaries that read images."""

    dataset: str = setting(
        "digits",
        "digits (embedded), a TensorFlow Datasets name such as cifar10, or folder:PATH "
        "with one sub-folder a class.",
    )
    data_dir: str | None = setting(None, "Folder of the prepared TensorFlow Datasets.")
    download: bool = setting(False, "Download and prepare a dataset not in --data_dir.")
    image_size: int = setting(0, "Side in pixels to resize images to; 0: as they are.")

    def __post_init__(self):
        if not 0 <= self.image_size <= 4096:
            raise UserError(
                f"--image_size must be from 0 to 4096; got {self.image_size}"
            )

    def load(self) -> "Dataset":
        """Loads the images; see `load`."""
        return load(self.dataset, self.data_dir, self.download, self.image_size)


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        images: uint8 pixels, shape (number, height, width, channels).
        labels: integer class of each image, shape (number,).
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, where) -> "Images":
        """The images at the given indices or slice."""
        return Images(self.images[where], self.labels[where])


@dataclass(frozen=True)
class Dataset:
    """Images to train on and to test on.

    Attributes:
        name: as given to `load`.
        train: the training images.
        test: the test images.
        class_names: name of each class, in the order of the labels.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return tuple(int(n) for n in self.train.images.shape[1:])

    @property
    def augmentation(self) -> str:
        """The augmentation fit for these images: `"crop_flip"` or `"crop"`."""
        symbols = self.name.split("/")[0].startswith(_SYMBOLS)
        return "crop" if symbols else "crop_flip"


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
        return _folder(name, pathlib.Path(name.removeprefix("folder:")), image_size)
    else:
        return _tfds(name, data_dir, download, image_size)
    if image_size:
        resize = _resizer(image_size)
        train, test = (
            replace(part, images=np.stack([resize(image) for image in part.images]))
            for part in (dataset.train, dataset.test)
        )
        dataset = replace(dataset, train=train, test=test)
    return dataset


def hold_out(images: Images, fraction: float) -> tuple[Images, Images]:
    """Splits off a fraction of every class, always the same images.

    Args:
        images: what to split.
        fraction: part of each class to split off, in (0, 1).

    Returns:
        (the rest, the part split off), each in the original order.

    Raises:
        UserError: if no class has an image to spare.
    """
    rng = np.random.default_rng(0)
    out = np.zeros(len(images), bool)
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        out[rng.permutation(members)[:count]] = True
    if not out.any():
        raise UserError("no class has the 2 images it takes to hold one out")
    return images.take(~out), images.take(out)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    train, test = hold_out(Images(pixels, bunch.target.astype(np.int64)), 0.2)
    return Dataset("digits", train, test, tuple(map(str, range(10))))


def _tfds(name, data_dir, download, image_size) -> Dataset:
    return read_tfds(
        name,
        data_dir,
        download,
        lambda builder: _read_builder(builder, name, image_size),
        "give 'digits', 'folder:PATH', another --data_dir, or --download to fetch it "
        "from TensorFlow Datasets",
    )


def read_tfds(name, data_dir, download, read, advice):
    """What a function reads from a dataset of TensorFlow Datasets.

    Args:
        name: of the dataset, with its configuration if it has several.
        data_dir: folder of the prepared datasets; None for the default one.
        download: whether a dataset not in `data_dir` is downloaded and prepared.
        read: function of the dataset's builder.
        advice: what to do where it is not prepared, as the error says it.

    Raises:
        UserError: if it is neither prepared nor to be downloaded, or TensorFlow
            Datasets fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    root = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser()
    folder = _prepared(root, name)
    if folder is None and not download:
        infos = [*root.glob("*/*/dataset_info.json")]  # with configurations deeper
        infos += root.glob("*/*/*/dataset_info.json")
        found = sorted({p.relative_to(root).parts[0] for p in infos})
        raise UserError(
            f"dataset {name!r} is not in --data_dir={root} (found there: "
            f"{', '.join(found) or 'nothing'}); {advice}"
        )
    try:
        if folder is not None:
            builder = tfds.builder_from_directory(folder)
        else:
            builder = tfds.builder(name, data_dir=root)
            builder.download_and_prepare()
        return read(builder)
    except UserError:
        raise
    except Exception as error:  # TFDS raises of many kinds, many lines long
        reason = str(error).strip().splitlines() or [type(error).__name__]
        what = "read from" if folder is not None else "prepared into"
        raise UserError(
            f"dataset {name!r} could not be {what} {folder or root}: {reason[0]}"
        ) from error


def _read_builder(builder, name, image_size) -> Dataset:
    """The splits of a TensorFlow dataset, if it is an image classification one."""
    import tensorflow_datasets as tfds

    info = builder.info
    keys = tuple(info.supervised_keys or ())
    image, label = (info.features[k] for k in keys) if len(keys) == 2 else (None, None)
    if (
        not isinstance(image, tfds.features.Image)
        or not isinstance(label, tfds.features.ClassLabel)
        or image.np_dtype != np.uint8
    ):
        raise UserError(
            f"dataset {name!r} is no image classification dataset: its supervised keys "
            f"are {keys}, where an 8-bit image and a class are needed"
        )
    tests = [s for s in ("test", "validation") if s in info.splits]
    if "train" not in info.splits:
        raise UserError(
            f"dataset {name!r} has no split 'train' (it has: {', '.join(info.splits)})"
        )
    train = read_split(builder, "train", keys, name, image_size)
    if tests:
        test = read_split(builder, tests[0], keys, name, image_size)
    else:
        train, test = hold_out(train, _TEST_FRACTION)
    return Dataset(name, train, test, tuple(label.names))


def _prepared(root: pathlib.Path, name: str) -> pathlib.Path | None:
    """Folder of the newest prepared version of a dataset; None if there is none.

    Looked for on the disk, since `tfds.builder` asks the network first.
    """
    infos = [p.parent for p in (root / name).glob("*/dataset_info.json")]
    versions = [p for p in infos if p.name.replace(".", "").isdigit()]
    if not versions:
        return None
    return max(versions, key=lambda p: tuple(map(int, p.name.split("."))))


def read_split(builder, split, keys, name, image_size=0) -> Images:
    """One split of a TensorFlow dataset.

    Args:
        builder: the prepared dataset.
        split: the split's name.
        keys: the features that are the image and the label.
        name: the dataset's, for errors.
        image_size: side in pixels to resize to; 0 keeps the images as they are.

    Raises:
        UserError: if the images differ in size or memory cannot hold them.
    """
    import tensorflow_datasets as tfds

    shape = builder.info.features[keys[0]].shape
    if image_size:
        shape = (image_size, image_size, shape[-1])
    elif None in shape[:2]:
        raise UserError(
            f"the images of dataset {name!r} differ in size: give --image_size, such "
            "as --image_size=64"
        )
    count = builder.info.splits[split].num_examples
    images = _allocate(count, shape, name)
    labels = np.empty(count, np.int64)
    resize = _resizer(image_size) if image_size else lambda image: image
    rows = tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True))
    for i, (image, label) in enumerate(bar(rows, f"reading {split}", "img", count)):
        images[i], labels[i] = resize(image), label
    return Images(images, labels)


def _allocate(count, shape, name) -> np.ndarray:
    """An empty array for the images, refused if memory cannot hold it."""
    size = count * int(np.prod(shape))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory / 2:
        raise UserError(
            f"dataset {name!r} takes {size / 2**30:.0f} GiB decoded, more than half of "
            f"this machine's {memory / 2**30:.0f} GiB; give a smaller --image_size"
        )
    return np.empty((count, *shape), np.uint8)


def _folder(name, root, image_size) -> Dataset:
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
        train, test = hold_out(whole, _TEST_FRACTION)
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
    resize = _resizer(image_size) if image_size else np.asarray
    images, first = None, None
    for i, (path, _) in enumerate(bar(files, f"reading {root.name}", "img")):
        image = resize(_read_image(path))
        if images is None:
            images, first = _allocate(len(files), image.shape, str(root)), path
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


def _resizer(size):
    import PIL.Image

    def resize(image):
        gray = image.shape[-1] == 1
        picture = PIL.Image.fromarray(image[..., 0] if gray else image)
        pixels = np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR))
        return pixels[..., None] if gray else pixels

    return resize
