"""Blur corruptions: defocus, frosted glass, motion, zoom and Gaussian blur."""

import numpy as np
import scipy  # whose parts load when they are used

from inres_tf.corruptions import filters


def gaussian_blur(rng: np.random.Generator, x: np.ndarray, sigma: float) -> np.ndarray:
    """Convolves with a Gaussian.

    Args:
        rng: not used.
        x: images in [0, 1].
        sigma: standard deviation in pixels.
    """
    return filters.gaussian(x, sigma)


def defocus_blur(
    rng: np.random.Generator, x: np.ndarray, c: tuple[float, float]
) -> np.ndarray:
    """Convolves with a disk.

    Args:
        rng: not used.
        x: images in [0, 1].
        c: (radius of the disk, standard deviation of the 3x3 Gaussian that softens its
            edge), in pixels.
    """
    return scipy.ndimage.correlate(x, disk(*c)[None, :, :, None], mode="mirror")


def disk(radius: float, sigma: float) -> np.ndarray:
    """Returns the kernel of `defocus_blur`, a square of odd size that sums to 1.

    Args:
        radius: radius of the disk, in pixels.
        sigma: standard deviation of the 3x3 Gaussian that softens its edge, in pixels.
    """
    reach = int(radius) + 1
    line = np.arange(-reach, reach + 1)
    kernel = (line[:, None] ** 2 + line**2 <= radius**2).astype(float)
    gaussian = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2)
    gaussian /= gaussian.sum()
    for axis in (0, 1):
        kernel = scipy.ndimage.correlate1d(kernel, gaussian, axis, mode="constant")
    return kernel / kernel.sum()


def glass_blur(
    rng: np.random.Generator, x: np.ndarray, c: tuple[float, int]
) -> np.ndarray:
    """Blurs, replaces pixels by neighbours, and blurs again.

    The published code means to swap pixels, but swaps views of an array, and so copies
    the neighbour to the pixel. The offsets are -1 or 0 in each direction (random
    integers in [-1, 1)), and pixels are visited from the lower right, so that the
    neighbour has its value from before the round. The first two rows and columns are
    not visited.

    Args:
        rng: generator of the offsets.
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


def motion_blur(
    rng: np.random.Generator, x: np.ndarray, c: tuple[int, float]
) -> np.ndarray:
    """Blurs along a random direction between -45 and 45 degrees; see `filters.motion`.

    Args:
        rng: generator of the directions.
        x: images in [0, 1].
        c: (radius, standard deviation), in pixels.
    """
    degrees = rng.uniform(-45, 45, len(x))
    return filters.motion(filters.to_pixels(x), *c, degrees) / 255


def zoom_blur(rng: np.random.Generator, x: np.ndarray, stop: float) -> np.ndarray:
    """Returns the mean of the image and its magnifications by 1, 1.01, ... to `stop`.

    Args:
        rng: not used.
        x: images in [0, 1].
        stop: largest magnification. Rounding in NumPy's `arange(1, stop, 0.01)` decides
            whether it is included.
    """
    factors = np.arange(1, stop, 0.01)
    x = x.astype(np.float32)
    return (x + filters.sum_of_zooms(x, factors)) / (len(factors) + 1)
