"""Edges and what OpenCV computes from them, for `weather.spatter`.

All take many grey images, (number, height, width), at once.
"""

import numpy as np
from scipy import ndimage

# Weights of a step to a side, over a corner and of a knight's move (Borgefors 1986),
# with OpenCV's values.
_SIDE, _CORNER, _KNIGHT = 1.0, 1.4, 2.1969
# The neighbourhood of a pixel within its own image.
_AROUND = np.zeros((3, 3, 3))
_AROUND[1] = 1


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
    right, down = (_sobel(x, axis) for axis in (2, 1))
    size = np.abs(right) + np.abs(down)
    padded = np.pad(size, ((0, 0), (1, 1), (1, 1)))

    def beside(rows, columns):
        height, width = size.shape[1:]
        return padded[:, 1 + rows :, 1 + columns :][:, :height, :width]

    tan = np.tan(np.pi / 8)
    level = np.abs(down) < tan * np.abs(right)
    upright = np.abs(down) > (tan + 2) * np.abs(right)
    rising = (right < 0) ^ (down < 0)
    # Of two equal neighbours in a row or column the first is kept.
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


def _sobel(x, axis):
    smooth = ndimage.correlate1d(x, [1, 2, 1], 3 - axis, mode="nearest")
    return ndimage.correlate1d(smooth, [-1, 0, 1], axis, mode="nearest")


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
    scale = np.float32(255) / np.maximum(rest, 1).astype(np.float32)
    table = np.rint(np.maximum(below - first, 0).astype(np.float32) * scale)
    table = np.where(rest > 0, table, np.arange(levels)).astype(np.uint8)
    return np.take_along_axis(table, pixels.reshape(len(pixels), -1), 1).reshape(
        pixels.shape
    )
