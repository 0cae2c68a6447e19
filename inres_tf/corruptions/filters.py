"""Filters that the corruptions share.

All take several images, (number, height, width, channels).
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import scipy  # whose parts load when they are used

# Rec. 601, as in OpenCV.
_LUMA = np.array([0.299, 0.587, 0.114])


def luminance(x: np.ndarray) -> np.ndarray:
    """Converts images to grey.

    Args:
        x: images, (..., 1 or 3).

    Returns:
        Grey images, (..., 1).
    """
    return x if x.shape[-1] == 1 else x @ _LUMA[:, None]


def color(red: float, green: float, blue: float, channels: int) -> np.ndarray:
    """Returns a colour in [0, 1] with 3 channels, or its luminance for 1 channel.

    Args:
        red: red in [0, 255].
        green: green in [0, 255].
        blue: blue in [0, 255].
        channels: 1 or 3.
    """
    rgb = np.array([red, green, blue]) / 255
    return rgb if channels == 3 else luminance(rgb)


def to_pixels(x: np.ndarray) -> np.ndarray:
    """Converts images in [0, 1] to uint8 pixels, rounded to the nearest."""
    return np.rint(255 * x).astype(np.uint8)


def gaussian(
    x: np.ndarray, sigma: float, mode: str = "nearest", truncate: float = 4.0
) -> np.ndarray:
    """Convolves with a Gaussian along height and width.

    Args:
        x: floats, (number, height, width, channels) or (number, height, width).
        sigma: standard deviation in pixels.
        mode: SciPy's name of the padding.
        truncate: radius of the kernel, in standard deviations.
    """
    sigmas = (0, sigma, sigma, 0)[: x.ndim]
    return scipy.ndimage.gaussian_filter(x, sigmas, mode=mode, truncate=truncate)


def motion(
    pixels: np.ndarray, radius: int, sigma: float, degrees: np.ndarray
) -> np.ndarray:
    """Blurs along a direction, as `MotionBlurImage` of ImageMagick does.

    A pixel becomes the mean of those in one direction from it, at distances from 0 to
    2 * radius, rounded to whole pixels, with the weights of one half of a Gaussian.
    Beyond the borders, the outermost pixels are repeated.

    Args:
        pixels: uint8, (number, height, width, channels).
        radius: half the length of the line, in whole pixels.
        sigma: standard deviation of the Gaussian in pixels.
        degrees: direction for each image, (number,): 0 is right and 90 down.

    Returns:
        uint8 pixels: rounded to 16 bits and truncated to 8, as ImageMagick writes them.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    angle = np.deg2rad(degrees)[:, None]
    down, right = (
        np.ceil(steps * f(angle) - 0.5).astype(int) for f in (np.sin, np.cos)
    )
    reach = steps[-1]
    padded = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)), "edge")
    shape = pixels.shape[1:3]
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape, (1, 2))
    windows = np.moveaxis(windows, 3, 5)  # number, down, right, height, width, channels
    image = np.arange(len(pixels))
    total = np.zeros(pixels.shape, np.float32)
    for step, weight in enumerate(weights):
        moved = windows[image, reach + down[:, step], reach + right[:, step]]
        total += np.multiply(moved, weight, dtype=np.float32)
    return (np.rint(257 * total).astype(np.uint16) // 257).astype(np.uint8)


def sum_of_zooms(x: np.ndarray, factors: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the sum of magnifications, each cropped to the size of the image.

    As in the published `clipped_zoom`, the middle of the image, 1 / factor of its size
    rounded up, is interpolated bilinearly from corner to corner, and the middle of the
    result is kept. Here each axis has its own size; there images are square.

    Args:
        x: floats, (number, height, width, channels).
        factors: magnifications, at least 1.
    """
    number, height, width, channels = x.shape
    matrix = _zooms(height, width, tuple(factors)).astype(x.dtype)
    x = matrix @ x.transpose(1, 2, 0, 3).reshape(height * width, -1)
    return x.reshape(height, width, number, channels).transpose(2, 0, 1, 3)


@functools.lru_cache(maxsize=8)
def _zooms(height, width, factors):
    """Returns a sparse matrix that maps an image to the sum of its magnifications."""
    return sum(
        scipy.sparse.kron(
            *(scipy.sparse.csr_array(_zoom_matrix(s, f)) for s in (height, width))
        )
        for f in factors
    ).tocsr()


def _zoom_matrix(size, factor):
    """Returns the matrix of a magnification along one axis: (size, size)."""
    crop = math.ceil(size / factor)
    zoomed = round(crop * factor)
    trim = (zoomed - size) // 2
    positions = np.linspace(0, crop - 1, zoomed)[trim : trim + size]
    positions += (size - crop) // 2
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(size)))


def sample(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str
) -> np.ndarray:
    """Interpolates each image bilinearly at its own coordinates.

    Args:
        x: floats, (number, height, width, channels).
        rows: vertical coordinates in pixels, (number, height, width).
        columns: horizontal coordinates in pixels, of the same shape.
        mode: SciPy's name of the padding: `"mirror"` at the centres of the outermost
            pixels, or `"reflect"` at their edges.
    """
    number, height, width, channels = x.shape
    flat = x.reshape(-1, channels)
    top, down = _split(rows, height, mode)
    left, right = _split(columns, width, mode)
    first = np.arange(number)[:, None, None] * (height * width) + top * width + left
    next_row, next_column = width * (height > 1), int(width > 1)
    down, right = (f[..., None].astype(x.dtype) for f in (down, right))

    def along_row(indices):
        start = flat[indices]
        return start + right * (flat[indices + next_column] - start)

    upper = along_row(first)
    return upper + down * (along_row(first + next_row) - upper)


def _split(positions, size, mode):
    """Splits positions, reflected into [0, size - 1], into integers and fractions."""
    edge, half = (0.0, size - 1) if mode == "mirror" else (0.5, size)
    half = max(half, 1)
    folded = np.abs((positions + edge + half) % (2 * half) - half) - edge
    folded = np.clip(folded, 0, size - 1)
    whole = np.minimum(folded.astype(int), max(size - 2, 0))
    return whole, folded - whole
