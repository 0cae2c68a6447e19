"""Spatter: drops of water or splashes of mud, and the classic filters they take.

The filters are those of OpenCV that the published code calls, for many grey images of
shape (number, height, width) at once. Beyond the borders images are mirrored at the
centres of the outermost pixels unless a function says otherwise.
"""

import numpy as np
from scipy import ndimage

from inres_tf.corruptions import filters

# The longest distance to an edge that counts, in pixels.
_FAR = 20
# Weights of a step to a side, over a corner and of a knight's move (Borgefors 1986),
# with OpenCV's values.
_SIDE, _CORNER, _KNIGHT = 1.0, 1.4, 2.1969
# Two neighbours, and the whole neighbourhood, of a pixel; images do not touch.
_AROUND = np.zeros((3, 3, 3))
_AROUND[1] = 1


def spatter(rng, x, c):
    """Covers parts of the image with pale turquoise water or brown mud.

    Where smoothed noise exceeds a threshold there is liquid. Water adds colour by the
    amount of liquid and the distance from its edge, embossed, relative to the image's
    largest; mud covers. Without any liquid the image stays as it is; the published
    code then divides by zero.

    Args:
        rng: `numpy.random.Generator` of the noise.
        x: images in [0, 1].
        c: (mean and standard deviation of the noise, standard deviation of its
            smoothing in pixels, threshold; the strength of water, or the standard
            deviation in pixels of the smoothing of mud; whether it is mud).
    """
    mean, std, sigma, threshold, last, mud = c
    channels = x.shape[-1]
    liquid = filters.gaussian(mean + std * rng.standard_normal(x.shape[:3]), sigma)
    if mud:
        cover = filters.gaussian((liquid > threshold).astype(float), last)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return x * (1 - cover) + filters.color(63, 42, 20, channels) * cover
    liquid = np.where(liquid < threshold, 0, np.clip(liquid, 0, 1))
    liquid = (255 * liquid).astype(np.uint8)
    amount = liquid * _relief(canny(liquid, 50, 150))
    most = amount.max((1, 2), keepdims=True)
    amount = np.divide(last * amount, most, out=np.zeros_like(amount), where=most > 0)
    return x + filters.color(175, 238, 238, channels) * amount[..., None]


def _relief(edges):
    """Distance from the edges, evened out and embossed: [0, 255]."""
    distances = np.minimum(chamfer(edges), _FAR)
    distances = ndimage.uniform_filter(distances, (0, 3, 3), mode="mirror")
    distances = equalize(np.floor(distances + 1e-6).astype(np.uint8), _FAR + 1)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    raised = ndimage.correlate(distances.astype(float), emboss[None], mode="mirror")
    raised = np.clip(raised, 0, 255)
    return np.rint(ndimage.uniform_filter(raised, (0, 3, 3), mode="mirror"))


def canny(pixels, low, high):
    """Canny's edges (1986) of uint8 images: booleans.

    Sobel gradients in the L1 norm, beyond the borders the outermost pixels going on;
    a pixel is kept that exceeds its two neighbours along the gradient, rounded to 45
    degrees, and is an edge if it is joined to one of more than `high`.

    Args:
        pixels: uint8, (number, height, width).
        low: what an edge's gradient exceeds.
        high: what the gradient exceeds somewhere on every edge.
    """
    x = pixels.astype(np.int32)
    right, down = (ndimage.sobel(x, axis, mode="nearest") for axis in (2, 1))
    size = np.abs(right) + np.abs(down)
    padded = np.pad(size, ((0, 0), (1, 1), (1, 1)))

    def beside(rows, columns):
        height, width = size.shape[1:]
        return padded[:, 1 + rows :, 1 + columns :][:, :height, :width]

    tan = np.tan(np.pi / 8)
    level = np.abs(down) < tan * np.abs(right)
    upright = np.abs(down) > (tan + 2) * np.abs(right)
    rising = (right < 0) ^ (down < 0)
    # Of two equal neighbours in a row or column the latter is kept.
    largest = np.select(
        [level, upright, rising],
        [
            (size > beside(0, -1)) & (size >= beside(0, 1)),
            (size > beside(-1, 0)) & (size >= beside(1, 0)),
            (size > beside(-1, 1)) & (size > beside(1, -1)),
        ],
        (size > beside(-1, -1)) & (size > beside(1, 1)),
    )
    kept = largest & (size > low)
    parts, count = ndimage.label(kept, _AROUND)
    strong = np.zeros(count + 1, bool)
    strong[parts[kept & (size > high)]] = True
    return strong[parts]


def chamfer(edges):
    """Distance to the nearest edge, infinite without one: floats.

    The length of the shortest way by steps to the 8 neighbours and knight's moves,
    found in a pass from the upper left and one from the lower right (Borgefors 1986).

    Args:
        edges: booleans, (number, height, width).
    """
    distances = np.where(edges, 0.0, np.inf)
    height, width = edges.shape[1:]
    ahead = _SIDE * np.arange(width)
    moves = [
        (1, 0, _SIDE),
        *((1, side, _CORNER) for side in (-1, 1)),
        *((1, side, _KNIGHT) for side in (-2, 2)),
        *((2, side, _KNIGHT) for side in (-1, 1)),
    ]
    for _ in range(2):
        for row in range(height):
            here = distances[:, row]
            for up, side, length in moves:
                if up <= row and abs(side) < width:
                    to = slice(max(0, side), width + min(0, side))
                    by = slice(max(0, -side), width + min(0, -side))
                    there = distances[:, row - up, by] + length
                    here[:, to] = np.minimum(here[:, to], there)
            here[:] = np.minimum.accumulate(here - ahead, 1) + ahead
        distances = distances[:, ::-1, ::-1]
    return distances


def equalize(pixels, levels):
    """Equalises the histogram of each image to [0, 255]; constant ones stay.

    Args:
        pixels: uint8 below `levels`, (number, height, width).
        levels: how many values there can be.
    """
    counts = np.stack([(pixels == value).sum((1, 2)) for value in range(levels)], 1)
    below = counts.cumsum(1)
    first = np.take_along_axis(counts, (counts > 0).argmax(1)[:, None], 1)
    rest = below[:, -1:] - first
    table = np.rint(255 * np.clip(below - first, 0, None) / np.maximum(rest, 1))
    table = np.where(rest > 0, table, np.arange(levels)).astype(np.uint8)
    return np.take_along_axis(table, pixels.reshape(len(pixels), -1), 1).reshape(
        pixels.shape
    )
