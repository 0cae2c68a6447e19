"""The functions of `corruptions.edges` against plain loops and closed forms."""

import numpy as np
import scipy.ndimage

from inres_tf.corruptions import edges


def test_canny_detects_steps_and_weak_edges_connected_to_strong_ones():
    step = np.zeros((3, 12, 12), np.uint8)
    step[:, :, 6:] = 20  # Sobel: 4 * 20, between the thresholds
    step[1, :3, 6:] = 100  # strong at the top, weak below
    step[2] = 200  # constant
    detected = edges.canny(step, 50, 150)
    assert not detected[0].any() and not detected[2].any()
    assert detected[1, 5:, 5].all() and detected[1, :2, 5].all()
    assert not detected[1, 6:].sum(1).max() > 1  # one pixel wide
    turned = edges.canny(step.swapaxes(1, 2), 50, 150)
    np.testing.assert_array_equal(turned, detected.swapaxes(1, 2))


def test_canny_is_its_definition(rng):
    """Pixel by pixel: gradient, maximum along it, connection to a strong edge."""
    noise = 127 + 300 * scipy.ndimage.gaussian_filter(
        rng.standard_normal((8, 14, 11)), (0, 1, 1)
    )
    images = np.clip(noise, 0, 255).astype(np.uint8)
    detected = edges.canny(images, 50, 150)
    assert 0.05 < detected.mean() < 0.5
    for image, actual in zip(images.astype(int), detected):
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
            # Of equal pixels in a row or column the first, of diagonal ones none.
            first = octant % 2 == 0 and here == after
            largest = here > before and (here > after or first)
            kept[r + 1, c + 1] = largest and here > 50
        strong = kept & (size > 150)
        connected = scipy.ndimage.binary_propagation(strong, np.ones((3, 3)), kept)
        np.testing.assert_array_equal(actual, connected[1:-1, 1:-1])


def test_chamfer_is_the_shortest_path(rng):
    """Its closed form: knight's moves, and straight or diagonal steps for the rest."""
    outline = rng.random((6, 13, 10)) > 0.96
    outline[5] = False
    distances = edges.chamfer(outline)
    assert np.isinf(distances[5]).all() and outline[:5].any((1, 2)).all()
    rows, columns = np.mgrid[:13, :10]
    for image, actual in zip(outline[:5], distances):
        lengths = []
        for row, column in np.argwhere(image):
            down, right = np.abs(rows - row), np.abs(columns - column)
            low, high = np.minimum(down, right), np.maximum(down, right)
            flat = (high - 2 * low) + 2.1969 * low
            steep = 2.1969 * (high - low) + 1.4 * (2 * low - high)
            lengths.append(np.where(high >= 2 * low, flat, steep))
        np.testing.assert_allclose(actual, np.min(lengths, 0), atol=1e-9)


def test_equalize_spreads_the_histogram():
    image = np.array([[[3, 3, 5, 5], [5, 5, 7, 9]], [[4] * 4] * 2], np.uint8)
    equalized = edges.equalize(image, 12)
    # Of the six pixels above the lowest value, 4, 5 and 6 are at most 5, 7 and 9.
    expected = [[0, 0, 170, 170], [170, 170, 212, 255]]  # 212.5 is rounded to even
    np.testing.assert_array_equal(equalized[0], expected)
    np.testing.assert_array_equal(equalized[1], image[1])
