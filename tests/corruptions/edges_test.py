"""The filters of `corruptions.edges` against plain loops and closed forms."""

import numpy as np
import scipy.ndimage

from inres_tf.corruptions import edges


def test_canny_finds_steps_and_joins_weak_edges_to_strong():
    step = np.zeros((3, 12, 12), np.uint8)
    step[:, :, 6:] = 20  # Sobel: 4 * 20, between the thresholds
    step[1, :3, 6:] = 100  # strong at the top, the weak rest below
    step[2] = 200  # constant
    found = edges.canny(step, 50, 150)
    assert not found[0].any() and not found[2].any()
    assert found[1, 5:, 5].all() and found[1, :2, 5].all()
    assert not found[1, 6:].sum(1).max() > 1  # one pixel wide
    turned = edges.canny(step.swapaxes(1, 2), 50, 150)
    np.testing.assert_array_equal(turned, found.swapaxes(1, 2))


def test_canny_is_its_definition(rng):
    """Pixel by pixel: gradient, largest along it, joined to what is strong."""
    noise = 127 + 300 * scipy.ndimage.gaussian_filter(
        rng.standard_normal((8, 14, 11)), (0, 1, 1)
    )
    images = np.clip(noise, 0, 255).astype(np.uint8)
    found = edges.canny(images, 50, 150)
    assert 0.05 < found.mean() < 0.5
    for image, ours in zip(images.astype(int), found):
        wide = np.pad(image, 1, "edge")
        kernel = np.outer([1, 2, 1], [-1, 0, 1])
        size, kept = np.zeros((16, 13)), np.zeros((16, 13), bool)
        gradient = {}
        for r, c in np.ndindex(14, 11):
            part = wide[r : r + 3, c : c + 3]
            gradient[r, c] = (part * kernel).sum(), (part * kernel.T).sum()
            size[r + 1, c + 1] = sum(map(abs, gradient[r, c]))
        for (r, c), (right, down) in gradient.items():
            angle = np.degrees(np.arctan2(down, right)) % 180
            octant = int((angle + 22.5) // 45) % 4
            dr, dc = ((0, 1), (1, 1), (1, 0), (1, -1))[octant]
            here = size[r + 1, c + 1]
            before, after = size[r + 1 - dr, c + 1 - dc], size[r + 1 + dr, c + 1 + dc]
            # Of equal ones in a row or column the first, of those aslant none.
            first = octant % 2 == 0 and here == after
            largest = here > before and (here > after or first)
            kept[r + 1, c + 1] = largest and here > 50
        strong = kept & (size > 150)
        joined = scipy.ndimage.binary_propagation(strong, np.ones((3, 3)), kept)
        np.testing.assert_array_equal(ours, joined[1:-1, 1:-1])


def test_chamfer_is_the_shortest_way(rng):
    """Against its closed form: knight's moves, and sides or corners for the rest."""
    found = rng.random((6, 13, 10)) > 0.96
    found[5] = False
    distances = edges.chamfer(found)
    assert np.isinf(distances[5]).all() and found[:5].any((1, 2)).all()
    rows, columns = np.mgrid[:13, :10]
    for image, ours in zip(found[:5], distances):
        ways = []
        for row, column in np.argwhere(image):
            down, right = np.abs(rows - row), np.abs(columns - column)
            low, high = np.minimum(down, right), np.maximum(down, right)
            flat = (high - 2 * low) + 2.1969 * low
            steep = 2.1969 * (high - low) + 1.4 * (2 * low - high)
            ways.append(np.where(high >= 2 * low, flat, steep))
        np.testing.assert_allclose(ours, np.min(ways, 0), atol=1e-9)


def test_equalizing_spreads_the_histogram():
    image = np.array([[[3, 3, 5, 5], [5, 5, 7, 9]], [[4] * 4] * 2], np.uint8)
    found = edges.equalize(image, 12)
    # Of the six pixels above the lowest value, 4, 5 and 6 are at most 5, 7 and 9.
    expected = [[0, 0, 170, 170], [170, 170, 212, 255]]  # 212.5 to even
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], image[1])
