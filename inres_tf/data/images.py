"""Labelled images in memory, as uint8 arrays."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inres_tf.errors import UserError

AUGMENTATIONS = ("none", "crop", "crop_flip")
# Datasets of symbols, whose mirror images are other symbols.
_SYMBOLS = ("digits", "mnist", "emnist", "kmnist", "svhn", "binarized", "omniglot")
TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        images: uint8 pixels of shape (number, height, width, channels).
        labels: integer class of each image, (number,).

    Example:
        >>> import numpy as np
        >>> from inres_tf import data
        >>> images = data.Images(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5))
        >>> len(images), images.take(slice(2)).labels
        (5, array([0, 1]))
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, where: slice | np.ndarray) -> "Images":
        """Returns the images at the given indices, mask or slice."""
        return Images(self.images[where], self.labels[where])


@dataclass(frozen=True)
class Dataset:
    """Training and test images.

    Attributes:
        name: name of the dataset, as passed to `load`.
        train: the training images.
        test: the test images.
        class_names: name of each class, in the order of the labels.

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


def hold_out(images: Images, fraction: float) -> tuple[Images, Images]:
    """Splits off a fixed fraction of every class.

    Args:
        images: the images to split.
        fraction: fraction of each class to hold out, in (0, 1). At least one image of
            every class stays, and at least one is held out of every class with two.

    Returns:
        (remaining images, held-out images), each in the original order. The split
        depends only on the labels and the fraction.

    Raises:
        UserError: if every class has fewer than two images.

    Example:
        >>> from inres_tf import data
        >>> digits = data.load("digits")
        >>> training, validation = data.hold_out(digits.train, 0.1)
        >>> len(training), len(validation)
        (1295, 143)
    """
    rng = np.random.default_rng(0)
    held_out = np.zeros(len(images), bool)
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out[rng.permutation(members)[:count]] = True
    if not held_out.any():
        raise UserError("holding out images needs a class with at least 2 images")
    return images.take(~held_out), images.take(held_out)


def allocate(count: int, shape: Sequence[int], name: str) -> np.ndarray:
    """Allocates a uint8 array for the images of a dataset.

    Args:
        count: number of images.
        shape: (height, width, channels) of an image.
        name: the dataset's name, for the error message.

    Returns:
        Uninitialised array of shape (count, height, width, channels).

    Raises:
        UserError: if the array takes more than half of the machine's memory.
    """
    size = count * int(np.prod(shape))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory / 2:
        raise UserError(
            f"dataset {name!r} takes {size / 2**30:.0f} GiB decoded, more than half of "
            f"this machine's {memory / 2**30:.0f} GiB; set a smaller --image_size"
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
