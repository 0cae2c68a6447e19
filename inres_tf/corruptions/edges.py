"""Edge detection, distances and histogram equalisation as in OpenCV.

All take several grey images, (number, height, width); `weather.spatter` uses them.
"""

import numpy as np
import scipy  # whose parts load when they are used

# OpenCV's lengths of a horizontal or vertical step, a diagonal one and a knight's move
# (Borgefors 1986).
_SIDE, _CORNER, _KNIGHT = 1.0, 1.4, 2.1969
# The neighbourhood of a pixel within its own image.
_NEIGHBOURS = np.zeros((3, 3, 3))
_NEIGHBOURS[1] = 1


def canny(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Detects edges as Canny (1986) does.

    Gradients are Sobel's in the L1 norm, with the outermost pixels repeated beyond the
    borders. A pixel is a candidate if its gradient exceeds `low` and those of its two
    neighbours along the gradient, rounded to 45 degrees. It is an edge if candidates
    connect it to one whose gradient exceeds `high`.

    Args:
        pixels: uint8, (number, height, width).
        low: threshold that the gradient exceeds on every pixel of an edge.
        high: threshold that it exceeds on at least one pixel of every edge.

    Returns:
        Whether each pixel is an edge: booleans, (number, height, width).
    """
    x = pixels.astype(np.int32)
    right, down = (_sobel(x, axis) for axis in (2, 1))
    size = np.abs(right) + np.abs(down)
    padded = np.pad(size, ((0, 0), (1, 1), (1, 1)))

    def shifted(rows, columns):
        height, width = size.shape[1:]
        return padded[:, 1 + rows :, 1 + columns :][:, :height, :width]

    tan = np.tan(np.pi / 8)
    horizontal = np.abs(down) < tan * np.abs(right)
    vertical = np.abs(down) > (tan + 2) * np.abs(right)
    rising = (right < 0) ^ (down < 0)
    # Of equal neighbours in a row or column, the first is the maximum.
    maximum = np.select(
        [horizontal, vertical, rising],
        [
            (size > shifted(0, -1)) & (size >= shifted(0, 1)),
            (size > shifted(-1, 0)) & (size >= shifted(1, 0)),
            (size > shifted(-1, 1)) & (size > shifted(1, -1)),
        ],
        (size > shifted(-1, -1)) & (size > shifted(1, 1)),
    )
    candidates = maximum & (size > low)
    components, count = scipy.ndimage.label(candidates, _NEIGHBOURS)
    strong = np.zeros(count + 1, bool)
    strong[components[candidates & (size > high)]] = True
    return strong[components]


def _sobel(x, axis):
    smooth = scipy.ndimage.correlate1d(x, [1, 2, 1], 3 - axis, mode="nearest")
    return scipy.ndimage.correlate1d(smooth, [-1, 0, 1], axis, mode="nearest")


def chamfer(edges: np.ndarray) -> np.ndarray:
    """Returns the distance of each pixel to the nearest edge.

    It is the length of the shortest path of steps to the 8 neighbours and knight's
    moves, found by one pass from the upper left and one from the lower right (Borgefors
    1986).

    Args:
        edges: whether each pixel is an edge: booleans, (number, height, width).

    Returns:
        Distances in pixels, infinite in images without edges: (number, height, width).
    """
    distances = np.where(edges, 0.0, np.inf)
    height, width = edges.shape[1:]
    offsets = _SIDE * np.arange(width)
    moves = [
        (1, 0, _SIDE),
        *((1, side, _CORNER) for side in (-1, 1)),
        *((1, side, _KNIGHT) for side in (-2, 2)),
        *((2, side, _KNIGHT) for side in (-1, 1)),
    ]
    for _ in range(2):
        for row in range(height):
            line = distances[:, row]
            for up, side, length in moves:
                if up <= row and abs(side) < width:
                    target = slice(max(0, side), width + min(0, side))
                    source = slice(max(0, -side), width + min(0, -side))
                    path = distances[:, row - up, source] + length
                    line[:, target] = np.minimum(line[:, target], path)
            line[:] = np.minimum.accumulate(line - offsets, 1) + offsets
        distances = distances[:, ::-1, ::-1]
    return distances


def equalize(pixels: np.ndarray, levels: int) -> np.ndarray:
    """Equalises the histogram of each image; constant images do not change.

    Args:
        pixels: uint8 below `levels`, (number, height, width).
        levels: number of possible values.

    Returns:
        uint8 pixels in [0, 255], of the same shape.
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
