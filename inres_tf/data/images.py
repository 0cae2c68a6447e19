"""Labelled images in memory, as uint8 arrays."""

import os
from dataclasses import dataclass

import numpy as np

from inres_tf.errors import UserError

AUGMENTATIONS = ("none", "crop", "crop_flip")
# Mirrored, these are other symbols, so the default augmentation does not flip them.
_SYMBOLS = ("digits", "mnist", "emnist", "kmnist", "svhn", "binarized", "omniglot")
TEST_FRACTION = 0.2


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


def allocate(count, shape, name) -> np.ndarray:
    """An empty array for the images, refused if memory cannot hold it."""
    size = count * int(np.prod(shape))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory / 2:
        raise UserError(
            f"dataset {name!r} takes {size / 2**30:.0f} GiB decoded, more than half of "
            f"this machine's {memory / 2**30:.0f} GiB; give a smaller --image_size"
        )
    return np.empty((count, *shape), np.uint8)


def resizer(size):
    """A function that resizes an image to a square of `size` pixels."""
    import PIL.Image

    def resize(image):
        gray = image.shape[-1] == 1
        picture = PIL.Image.fromarray(image[..., 0] if gray else image)
        pixels = np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR))
        return pixels[..., None] if gray else pixels

    return resize
