"""The units of pixels: images in [0, 255], distances in 1/255 of the pixel range."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_RANGE = 255


class PixelWarning(UserWarning):
    """A number that is probably of the pixel range [0, 1], not [0, 255]."""


def parse(text: str) -> float:
    """Reads a distance between pixels, such as `8` or, the same, `8/255`.

    Args:
        text: a number, in 1/255 of the pixel range, which `/255` may follow.

    Raises:
        ValueError: if it is anything else.

    Example:
        >>> from inres_tf import pixels
        >>> pixels.parse("8/255"), pixels.parse("8")
        (8.0, 8.0)
    """
    number, slash, unit = text.partition("/")
    if slash and unit.strip() != str(_RANGE):
        raise ValueError(f"{text!r} must be a number in 1/255, such as 8 or 8/255")
    return float(number)


def check_distance(name: str, value: float, least: float = 0.5) -> None:
    """Warns of a distance that is probably of a pixel range [0, 1].

    Args:
        name: name of the argument or setting.
        value: the distance, in 1/255 of the pixel range.
        least: the smallest plausible one.
    """
    if 0 < value < least:
        warn(
            f"{name}={value:.3g} is {value:.3g}/255 of the pixel range; if you mean "
            f"{value:.3g} of the range, pass {value * _RANGE:.3g}"
        )


@contextlib.contextmanager
def suppress_warnings() -> Iterator[None]:
    """Where distances follow from settings, which were checked: no warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PixelWarning)
        yield


def warn(message: str) -> None:
    """Warns of images or distances in the wrong unit."""
    # Not at the caller, so that what settings warn of, attacks do not repeat.
    warnings.warn(message, PixelWarning, stacklevel=1)


def check_images(images: np.ndarray) -> None:
    """Refuses images outside [0, 255], and warns of images in [0, 1].

    Args:
        images: pixels, of any shape.

    Raises:
        ValueError: if a pixel is outside [0, 255] or NaN.
    """
    if images.size and not (0 <= images.min() and images.max() <= 255):
        raise ValueError(
            "`images` must be pixels in [0, 255]. Received values from "
            f"{images.min():g} to {images.max():g}"
        )
    if images.size and 0 < images.max() <= 1:
        warn(
            f"no pixel exceeds {images.max():g}: images must be in [0, 255], not in "
            "[0, 1]; multiply them by 255, and pass radii in 1/255 of the pixel range"
        )
