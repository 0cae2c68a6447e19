"""Labelled images in memory, as uint8 arrays."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inres_tf import environment
from inres_tf import labels as label_checks
from inres_tf.errors import UserError

AUGMENTATIONS = ("none", "crop", "crop_flip", "crop_alternating_flip")
# Datasets of symbols, whose mirror images are other symbols.
_SYMBOLS = ("digits", "mnist", "emnist", "kmnist", "svhn", "binarized", "omniglot")
TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        images: uint8 pixels of shape (number, height, width, channels).
        labels: class of each image, int64, (number,). Whole floats, columns (number, 1)
            and one-hot rows are converted.
        keys: uint64 number of the content of each image's file, (number,), by which
            `hold_out` splits; None for datasets that never change.

    Raises:
        inres_tf.labels.LabelError: if `labels` are not one class from 0 for each image;
            a `UserError` and a `ValueError`.

    Example:
        >>> import numpy as np
        >>> from inres_tf import data
        >>> images = data.Images(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5))
        >>> len(images), images.take(slice(2)).labels
        (5, array([0, 1]))
    """

    images: np.ndarray
    labels: np.ndarray
    keys: np.ndarray | None = None

    def __post_init__(self) -> None:
        labels = label_checks.checked(self.labels, len(self.images))
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, where: slice | np.ndarray) -> "Images":
        """Returns the images at the given indices, mask or slice."""
        keys = None if self.keys is None else self.keys[where]
        return Images(self.images[where], self.labels[where], keys)


@dataclass(frozen=True)
class Dataset:
    """Training and test images.

    Attributes:
        name: name of the dataset, as passed to `load`.
        train: the training images.
        test: the test images.
        class_names: name of each class, in the order of the labels.

    Raises:
        inres_tf.labels.LabelError: if an image is of a class that has no name.

    Example:
        >>> from inres_tf import data
        >>> digits = data.load("digits")
        >>> digits.shape, digits.augmentation, len(digits.class_names)
        ((8, 8, 1), 'crop', 10)
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for split, images in (("training", self.train), ("test", self.test)):
            name = f"the labels of the {split} images of {self.name!r}"
            label_checks.checked(images.labels, None, len(self.class_names), name)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        height, width, channels = map(int, self.train.images.shape[1:])
        return height, width, channels

    @property
    def augmentation(self) -> str:
        """The default augmentation: `"crop"` for symbols, otherwise `"crop_flip"`."""
        symbols = self.name.split("/")[0].startswith(_SYMBOLS)
        return "crop" if symbols else "crop_flip"


def hold_out(images: Images, fraction: float, seed: int = 0) -> tuple[Images, Images]:
    """Splits off a fixed fraction of every class.

    Images with `keys` are held out if a random number drawn from their own key and the
    seed is below the fraction. So each image keeps its side when others are added, and
    copies of a file are on one side; the fraction of a class is only about that asked
    for. Of images without keys, exactly the fraction is held out.

    Args:
        images: the images to split.
        fraction: fraction of each class to hold out, in (0, 1). At least one image of
            every class stays, and at least one is held out of every class with two:
            that with the smallest number if none is below the fraction.
        seed: seed of the choice.

    Returns:
        (remaining images, held-out images), each in the original order.

    Raises:
        UserError: if every class has fewer than two images.

    Example:
        >>> from inres_tf import data
        >>> digits = data.load("digits")
        >>> training, validation = data.hold_out(digits.train, 0.1)
        >>> len(training), len(validation)
        (1295, 143)
    """
    where = held_out(images, fraction, seed)
    if not where.any():
        raise UserError("holding out images needs a class with at least 2 images")
    return images.take(~where), images.take(where)


def held_out(images: Images, fraction: float, seed: int = 0) -> np.ndarray:
    """Returns which images `hold_out` holds out: booleans, (number,)."""
    rng = np.random.default_rng(seed)
    draws = None if images.keys is None else _draws(images.keys, seed)
    chosen = np.zeros(len(images), bool)
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        if draws is None:
            members, count = rng.permutation(members), round(fraction * len(members))
        else:
            members = members[np.argsort(draws[members], kind="stable")]
            count = int(np.count_nonzero(draws[members] < fraction))
        chosen[members[: min(max(1, count), len(members) - 1)]] = True
    return chosen


def content_key(content: bytes | memoryview, seed: int = 0) -> int:
    """Returns a 64-bit number that depends on some bytes and a seed alone."""
    salt = seed.to_bytes(8, "little")
    digest = hashlib.blake2b(content, digest_size=8, salt=salt).digest()
    return int.from_bytes(digest, "little")


def _draws(keys, seed):
    """Random numbers in [0, 1), one per key, that depend on it and the seed alone."""
    return np.array([content_key(key.tobytes(), seed + 1) for key in keys]) / 2.0**64


def allocate(count: int, shape: Sequence[int], name: str) -> np.ndarray:
    """Allocates a uint8 array for the images of a dataset.

    Args:
        count: number of images.
        shape: (height, width, channels) of an image.
        name: the dataset's name, for the error message.

    Returns:
        Uninitialised array of shape (count, height, width, channels).

    Raises:
        UserError: if the array takes more than a third of the memory.
    """
    size = count * int(np.prod(shape))
    memory = environment.memory()
    if size > memory / 3:
        raise UserError(
            f"dataset {name!r} takes {size / 2**30:.1f} GiB decoded, more than a third "
            f"of the {memory / 2**30:.1f} GiB of memory, though loading and training "
            "need copies of it; set a smaller `image_size`"
        )
    return np.empty((count, *shape), np.uint8)


def resizer(size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that resizes an image to `size` by `size` pixels."""
    import PIL.Image

    def resize(image):
        gray = image.shape[-1] == 1
        picture = PIL.Image.fromarray(image[..., 0] if gray else image)
        pixels = np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR))
        return pixels[..., None] if gray else pixels

    return resize
