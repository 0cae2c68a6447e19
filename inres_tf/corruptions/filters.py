"""What several corruptions are made of: filters of many images at once.

All take images of shape (number, height, width, channels).
"""

import functools
import math

import numpy as np
from scipy import ndimage, sparse

# Rec. 601, as in OpenCV's conversion to grey.
_LUMA = np.array([0.299, 0.587, 0.114])


def luminance(x):
    """Grey value of RGB images, (..., 1); images of one channel as they are."""
    return x if x.shape[-1] == 1 else x @ _LUMA[:, None]


def color(red, green, blue, channels):
    """A colour given in [0, 255] as one in [0, 1] of 3 channels, or its luminance."""
    rgb = np.array([red, green, blue]) / 255
    return rgb if channels == 3 else luminance(rgb)


def to_pixels(x):
    """The uint8 pixels of values k / 255."""
    return np.rint(255 * x).astype(np.uint8)


def gaussian(x, sigma, mode="nearest", truncate=4.0):
    """Gaussian blur along height and width.

    Args:
        x: floats, (number, height, width, channels) or without the last.
        sigma: standard deviation in pixels.
        mode: how the image goes on beyond its borders, in SciPy's words.
        truncate: where the kernel ends, in standard deviations.
    """
    sigmas = (0, sigma, sigma, 0)[: x.ndim]
    return ndimage.gaussian_filter(x, sigmas, mode=mode, truncate=truncate)


def motion(pixels, radius, sigma, degrees):
    """Motion blur as ImageMagick's `MotionBlurImage` defines it.

    A pixel becomes the mean of those that lie in one direction from it, at distances 0
    to 2 * radius rounded to whole pixels, weighted with one half of a Gaussian. Beyond
    the borders the outermost pixels go on.

    Args:
        pixels: uint8.
        radius: half the length of the line, in whole pixels.
        sigma: standard deviation of the Gaussian in pixels.
        degrees: direction for each image, (number,): 0 is right and 90 down.

    Returns:
        uint8 pixels: rounded to 16 bits and cut to 8, as ImageMagick writes them.
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
    each = np.arange(len(pixels))
    total = np.zeros(pixels.shape, np.float32)
    for step, weight in enumerate(weights):
        moved = windows[each, reach + down[:, step], reach + right[:, step]]
        total += np.multiply(moved, weight, dtype=np.float32)
    return (np.rint(257 * total).astype(np.uint16) // 257).astype(np.uint8)


def sum_of_zooms(x, factors):
    """Sum of magnifications, each cropped to the image's size.

    As the published `clipped_zoom`: the middle of the image, of 1 / factor its size
    rounded up, is interpolated bilinearly from corner to corner, and the middle of the
    result kept. Here each axis by its own size; there the image is square.

    Args:
        x: floats.
        factors: magnifications, at least 1.
    """
    number, height, width, channels = x.shape
    matrix = _zooms(height, width, tuple(factors)).astype(x.dtype)
    x = matrix @ x.transpose(1, 2, 0, 3).reshape(height * width, -1)
    return x.reshape(height, width, number, channels).transpose(2, 0, 1, 3)


@functools.lru_cache(maxsize=8)
def _zooms(height, width, factors):
    """Sparse linear map of an image's pixels under several magnifications, added up."""
    return sum(
        sparse.kron(*(sparse.csr_array(_zoom_matrix(s, f)) for s in (height, width)))
        for f in factors
    ).tocsr()


def _zoom_matrix(size, factor):
    """Linear map of one axis under a magnification: (size, size)."""
    crop = math.ceil(size / factor)
    zoomed = round(crop * factor)
    trim = (zoomed - size) // 2
    positions = np.linspace(0, crop - 1, zoomed)[trim : trim + size]
    positions += (size - crop) // 2
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(size)))


def sample(x, rows, columns, mode):
    """Bilinear interpolation of each image at its own places.

    Args:
        x: floats.
        rows: vertical coordinates in pixels, (number, height, width).
        columns: horizontal ones, of the same shape.
        mode: how the image goes on beyond its borders, in SciPy's words: `"mirror"` at
            the centres of the outermost pixels or `"reflect"` at their edges.
    """
    number, height, width, channels = x.shape
    flat = x.reshape(-1, channels)
    top, down = _split(rows, height, mode)
    left, right = _split(columns, width, mode)
    first = np.arange(number)[:, None, None] * (height * width) + top * width + left
    below, beside = width * (height > 1), int(width > 1)
    down, right = (f[..., None].astype(x.dtype) for f in (down, right))

    def along(at):
        start = flat[at]
        return start + right * (flat[at + beside] - start)

    upper = along(first)
    return upper + down * (along(first + below) - upper)


def _split(positions, size, mode):
    """Whole and fractional part of positions folded back into [0, size - 1]."""
    edge, half = (0.0, size - 1) if mode == "mirror" else (0.5, size)
    half = max(half, 1)
    folded = np.abs((positions + edge + half) % (2 * half) - half) - edge
    folded = np.clip(folded, 0, size - 1)
    whole = np.minimum(folded.astype(int), max(size - 2, 0))
    return whole, folded - whole
