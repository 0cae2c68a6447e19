"""Blur: defocus, frosted glass, motion, zoom, and gaussian of the extra ones."""

import numpy as np
from scipy import ndimage

from inres_tf.corruptions import filters


def gaussian_blur(rng, x, sigma):
    """Gaussian blur; `sigma` in pixels."""
    return filters.gaussian(x, sigma)


def defocus_blur(rng, x, c):
    """Convolves with a disk.

    Args:
        rng: not used.
        x: images in [0, 1].
        c: (radius of the disk, standard deviation of the 3x3 Gaussian that softens its
            edge), in pixels.
    """
    return ndimage.correlate(x, disk(*c)[None, :, :, None], mode="mirror")


def disk(radius, sigma):
    """The kernel of `defocus_blur`, of sum 1; its side is odd."""
    reach = int(radius) + 1
    line = np.arange(-reach, reach + 1)
    inside = (line[:, None] ** 2 + line**2 <= radius**2).astype(float)
    soft = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2)
    soft /= soft.sum()
    for axis in (0, 1):
        inside = ndimage.correlate1d(inside, soft, axis, mode="constant")
    return inside / inside.sum()


def glass_blur(rng, x, c):
    """Blurs, lets pixels change places with near ones, and blurs again.

    In the published code the change of places, of two views of one array, copies: the
    pixel takes the value of the other, which stays. The offsets are -1 or 0 in each
    direction (random integers in [-1, 1)), and pixels are visited from the lower right,
    so that each takes its value from before the round. The first two rows and columns
    are not visited.

    Args:
        rng: `numpy.random.Generator` of the offsets.
        x: images in [0, 1].
        c: (standard deviation of the blur in pixels, rounds of copying).
    """
    sigma, rounds = c
    number, height, width, _ = x.shape
    x = np.floor(255 * filters.gaussian(x, sigma)) / 255
    offsets = rng.integers(-1, 1, (number, rounds, 2, height, width))
    offsets[..., :2, :] = 0
    offsets[..., :2] = 0
    image, row, column = np.ogrid[:number, :height, :width]
    for down, right in offsets.transpose(1, 2, 0, 3, 4):
        x = x[image, row + down, column + right]
    return filters.gaussian(x, sigma)


def motion_blur(rng, x, c):
    """Motion blur in a direction drawn from -45 to 45 degrees; see `filters.motion`.

    Args:
        rng: `numpy.random.Generator` of the directions.
        x: images in [0, 1].
        c: (radius, standard deviation), in pixels.
    """
    degrees = rng.uniform(-45, 45, len(x))
    return filters.motion(filters.to_pixels(x), *c, degrees) / 255


def zoom_blur(rng, x, stop):
    """Mean of the image and its magnifications by 1, 1.01, ... up to `stop`.

    The factors are those that NumPy's `arange(1, stop, 0.01)` gives: of `stop` itself,
    rounding decides.
    """
    factors = np.arange(1, stop, 0.01)
    x = x.astype(np.float32)
    return (x + filters.sum_of_zooms(x, factors)) / (len(factors) + 1)
