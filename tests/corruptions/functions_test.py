"""Each corruption against closed forms, plain loops and other libraries."""

import colorsys
import io
import itertools

import numpy as np
import PIL.Image
import pytest
import scipy.signal

from inres_tf import corruptions
from inres_tf.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    blur,
    digital,
    edges,
    filters,
    weather,
)


def parameter(name, severity):
    return CORRUPTIONS[name][1][severity - 1]


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def impulse(side=17):
    x = np.zeros((1, side, side, 1))
    x[0, side // 2, side // 2] = 1
    return x


class FixedGenerator:
    """A generator that returns the values of the test."""

    def __init__(self, values):
        self.values = np.asarray(values, float)

    def uniform(self, low, high, shape):
        self.limits = low, high
        return np.broadcast_to(self.values, shape)

    def standard_normal(self, shape):
        return np.broadcast_to(self.values, shape)


# Blur.


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_of_an_impulse_is_a_softened_disk(severity):
    radius, sigma = parameter("defocus_blur", severity)
    offsets = np.arange(-2, 3)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(float)
    assert disk.sum() == (1, 1, 1, 5, 9)[severity - 1]
    line = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2)
    kernel = scipy.signal.convolve2d(disk, np.outer(line, line))
    kernel /= kernel.sum()
    actual = blur.defocus_blur(None, impulse(7), (radius, sigma))[0, ..., 0]
    np.testing.assert_allclose(actual, kernel, atol=1e-12)
    # The image is mirrored beyond the borders.
    image = np.random.default_rng(0).random((9, 8))
    expected = scipy.signal.convolve2d(np.pad(image, 3, "reflect"), kernel, "valid")
    actual = blur.defocus_blur(None, image[None, ..., None], (radius, sigma))
    np.testing.assert_allclose(actual[0, ..., 0], expected, atol=1e-12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_of_an_impulse_is_a_gaussian(severity):
    sigma = parameter("gaussian_blur", severity)
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-8, 9)
    line = np.exp(-0.5 * (offsets / sigma) ** 2) * (np.abs(offsets) <= reach)
    line /= line.sum()
    actual = blur.gaussian_blur(None, impulse(), sigma)[0, ..., 0]
    np.testing.assert_allclose(actual, np.outer(line, line), atol=1e-12)


def test_glass_blur_copies_from_the_upper_left_only():
    """At severity 1, the Gaussian is too narrow to blur."""
    image = np.random.default_rng(0).permutation(256).reshape(16, 16).astype(np.uint8)
    images = np.stack([image] * 50)[..., None]
    actual = corruptions.corrupt(images, "glass_blur", 1)[..., 0]
    np.testing.assert_array_equal(actual[:, :2], images[:, :2, :, 0])
    np.testing.assert_array_equal(actual[:, :, :2], images[:, :, :2, 0])
    inner = actual[:, 2:, 2:]
    copied = [
        inner == image[2 - down : 16 - down, 2 - right : 16 - right]
        for down in (0, 1)
        for right in (0, 1)
    ]
    assert np.logical_or.reduce(copied).all()
    assert [c.mean() for c in copied] == pytest.approx([0.25] * 4, abs=0.02)


@pytest.mark.parametrize("sigma", [0.05, 0.4])
def test_glass_blur_is_the_published_loop(sigma):
    """Pixel by pixel in place, where a swap of two views of an array copies."""
    x = pixels((2, 9, 11, 3))

    def blurred(x):
        return scipy.ndimage.gaussian_filter(
            x / 255, (0, sigma, sigma, 0), mode="nearest"
        )

    offsets = np.random.default_rng(5).integers(-1, 1, (2, 2, 2, 9, 11))
    expected = np.uint8(255 * blurred(x))
    for image, by_round in zip(expected, offsets):
        for (down, right), h, w in itertools.product(
            by_round, range(8, 1, -1), range(10, 1, -1)
        ):
            a, b = image[h, w], image[h + down[h, w], w + right[h, w]]
            a[:], b[:] = b, a
    actual = blur.glass_blur(np.random.default_rng(5), x / 255, (sigma, 2))
    np.testing.assert_allclose(actual, blurred(expected), atol=1e-9)


def test_motion_blur_has_a_random_direction():
    images, generator = pixels((2, 9, 9, 3)), FixedGenerator([-40, 20])
    actual = blur.motion_blur(generator, images / 255, (6, 2.0))
    assert generator.limits == (-45, 45)
    expected = filters.motion(images, 6, 2.0, np.array([-40, 20]))
    np.testing.assert_allclose(255 * actual, expected, atol=1e-9)


@pytest.mark.parametrize("degrees, down, right", [(0, 0, 1), (90, 1, 0), (-45, -1, 1)])
def test_motion_blur_of_an_impulse_is_a_line(degrees, down, right):
    radius, sigma = 4, 3.0
    # Along a diagonal, distances are rounded to whole pixels, halves down.
    steps = np.arange(2 * radius + 1)
    length = np.ceil(steps / np.hypot(down, right) - 0.5).astype(int)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    expected = np.zeros((25, 25))
    np.add.at(
        expected,
        (12 - down * length, 12 - right * length),
        255 * weights / weights.sum(),
    )
    x = (255 * impulse(25)).astype(np.uint8)
    actual = filters.motion(x, radius, sigma, np.array([degrees]))[0, ..., 0]
    np.testing.assert_array_equal(actual, np.floor(expected + 1e-3))
    assert np.count_nonzero(actual) == length[-1] + 1


def test_motion_blur_repeats_the_borders_and_has_a_direction_per_image():
    x = np.zeros((2, 6, 6, 1), np.uint8)
    x[:, :, 3:] = 100
    actual = filters.motion(x, 6, 5.0, np.array([0, 90]))
    assert (actual[0, :, 3:] >= 99).all() and (actual[1] // 99 == x[1] // 99).all()
    row = actual[0, 0, :4, 0].astype(int)
    assert (np.diff(row) > 0).all() and row[0] > 0


@pytest.mark.parametrize("factor", [1, 1.13, 1.25, 1.75, 2.25])
@pytest.mark.parametrize("size", [8, 13, 32])
def test_zoom_is_scipys(size, factor, rng):
    image = rng.random((size, size))
    crop = int(np.ceil(size / factor))
    top = (size - crop) // 2
    middle = image[top : top + crop, top : top + crop]
    expected = scipy.ndimage.zoom(middle, factor, order=1, mode="nearest")
    trim = (len(expected) - size) // 2
    expected = expected[trim : trim + size, trim : trim + size]
    actual = filters.sum_of_zooms(image[None, ..., None], [factor])[0, ..., 0]
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    both = filters.sum_of_zooms(image[None, ..., None], [1, factor])[0, ..., 0]
    np.testing.assert_allclose(both, image + expected, atol=1e-12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_is_a_mean_over_magnifications(severity):
    constant = np.full((1, 32, 20, 3), 77, np.uint8)
    actual = corruptions.corrupt(constant, "zoom_blur", severity).astype(int)
    assert np.abs(actual - 77).max() <= 1  # truncated
    # A magnification divides the slope of a ramp by its factor.
    ramp = np.linspace(-1, 1, 33)[None, :, None, None] * np.ones((1, 33, 33, 1))
    factors = np.arange(1, parameter("zoom_blur", severity), 0.01)
    assert len(factors) == (7, 12, 16, 21, 26)[severity - 1]
    actual = blur.zoom_blur(None, ramp, parameter("zoom_blur", severity))
    expected = (1 + (1 / factors).sum()) / (1 + len(factors))
    slope = (actual[0, 20, 5, 0] - actual[0, 12, 5, 0]) / (
        ramp[0, 20, 5] - ramp[0, 12, 5]
    )
    assert slope == pytest.approx(expected, rel=0.02)


# Weather.


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_whitens_and_adds_flakes_twice(severity):
    black = np.zeros((20, 32, 32, 3), np.uint8)
    actual = corruptions.corrupt(black, "snow", severity)
    # The layer and its copy turned by 180°, the same in all channels.
    np.testing.assert_array_equal(actual, actual[:, ::-1, ::-1])
    np.testing.assert_array_equal(actual[..., 0], actual[..., 2])
    ground = int(255 * 0.5 * (1 - parameter("snow", severity)[-1]) + 1e-6)
    assert actual.min() == ground and actual.max() > ground + 10
    white = np.full((2, 8, 8, 1), 255, np.uint8)
    np.testing.assert_array_equal(corruptions.corrupt(white, "snow", severity), white)


@pytest.mark.parametrize("last, right", [(0, 0), (9, 1), (-9, -1)])
def test_snow_falls_along_its_direction(last, right):
    """The extreme directions are 45 degrees from the vertical."""
    draws = np.full((1, 15 * 15 + 1), -9.0)
    draws[0, 7 * 15 + 7], draws[0, -1] = 4, last
    x = np.zeros((1, 15, 15, 3))
    actual = weather.snow(FixedGenerator(draws), x, (0.1, 0.2, 1, 0.6, 2, 9, 0.9))[
        0, ..., 0
    ]
    flakes = np.argwhere(actual > 0.05 + 1e-9)
    # On a diagonal, pixels are d rows and d columns from the flake.
    assert len(flakes) > 4 and (flakes[:, 1] - 7 == right * (7 - flakes[:, 0])).all()


def test_snow_without_flakes_only_whitens():
    x = pixels((3, 5, 4, 3)) / 255
    actual = weather.snow(FixedGenerator(-9), x, (0.1, 0.2, 1, 0.6, 8, 3, 0.8))
    grey = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
    expected = 0.8 * x + 0.2 * np.maximum(x, 1.5 * grey[..., None] + 0.5)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_is_bounded_and_keeps_the_maximum(severity):
    images = pixels((10, 32, 32, 3)) // 2
    strength = parameter("fog", severity)[0]
    largest = images.max((1, 2, 3), keepdims=True) / 255
    actual = corruptions.corrupt(images, "fog", severity).astype(int)
    scale = largest / (largest + strength) * 255
    low, high = scale * (images / 255), scale * (images / 255 + strength)
    assert (actual >= np.floor(low - 1e-9)).all() and (actual <= high + 1e-9).all()
    assert (actual.max((1, 2, 3)) <= 255 * largest[:, 0, 0, 0] + 1e-9).all()
    assert (actual - low).std() > 1


def test_clouds_are_made_by_the_diamond_square_algorithm(rng):
    """Point by point, on a torus."""
    side, decay = 8, 2.5
    uniform = rng.random((2, side * side - 1))
    actual = weather.plasma(uniform, decay)
    for cloud, numbers in zip(actual, uniform):
        field, number = np.zeros((side, side)), iter(numbers)
        step, amplitude = side, 100.0

        def fill(rows, columns, neighbours):
            for r, c in itertools.product(rows, columns):
                values = [
                    field[(r + dr) % side, (c + dc) % side]  # noqa: B023
                    for dr, dc in neighbours
                ]
                noise = amplitude**2 * (2 * next(number) - 1)  # noqa: B023
                field[r, c] = np.mean(values) + noise  # noqa: B023

        while step >= 2:
            h = step // 2
            on, off = range(0, side, step), range(h, side, step)
            fill(off, off, [(-h, -h), (-h, h), (h, -h), (h, h)])
            fill(on, off, [(-h, 0), (h, 0), (0, -h), (0, h)])
            fill(off, on, [(-h, 0), (h, 0), (0, -h), (0, h)])
            step, amplitude = h, amplitude / decay
        expected = (field - field.min()) / (field.max() - field.min())
        np.testing.assert_allclose(cloud, expected, atol=1e-12)


def in_hsv(images, change):
    """Applies a function of hue, saturation and value to each pixel."""
    changed = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel)))
        for pixel in images.reshape(-1, 3) / 255
    ]
    return 255 * np.array(changed).reshape(images.shape)


def colors():
    """Random, grey, black and white pixels."""
    images = pixels((2, 6, 6, 3))
    images[0, 0] = images[0, 0, :, :1]
    images[0, 1], images[0, 2] = 0, 255
    return images


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_adds_to_the_value(severity):
    c = parameter("brightness", severity)
    expected = in_hsv(colors(), lambda h, s, v: (h, s, min(v + c, 1)))
    actual = 255 * weather.brightness(None, colors() / 255, c)
    np.testing.assert_allclose(actual, expected, atol=1e-9)
    grey = pixels((2, 5, 5, 1))
    expected = np.minimum(grey + 255 * c, 255)
    actual = corruptions.corrupt(grey, "brightness", severity)
    np.testing.assert_allclose(actual, np.floor(expected), atol=1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate_scales_the_saturation(severity):
    factor, summand = parameter("saturate", severity)
    expected = in_hsv(
        colors(), lambda h, s, v: (h, np.clip(s * factor + summand, 0, 1), v)
    )
    actual = 255 * digital.saturate(None, colors() / 255, (factor, summand))
    np.testing.assert_allclose(actual, expected, atol=1e-9)
    grey = pixels((2, 5, 5, 1))
    actual = corruptions.corrupt(grey, "saturate", severity)
    np.testing.assert_array_equal(actual, grey)


# Digital.


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_scales_about_the_mean_of_image_and_channel(severity):
    images = np.full((2, 2, 2, 3), 40, np.uint8)
    images[0, 0, :, 0], images[1, 0, :, 1] = 160, 240  # means 100 and 140
    actual = corruptions.corrupt(images, "contrast", severity).astype(int)
    c = parameter("contrast", severity)
    np.testing.assert_allclose(actual[0, :, 0, 0], [100 + 60 * c, 100 - 60 * c], atol=1)
    np.testing.assert_allclose(
        actual[1, :, 0, 1], [140 + 100 * c, 140 - 100 * c], atol=1
    )
    np.testing.assert_allclose(actual[..., 2], 40, atol=1)


@pytest.mark.parametrize("mode", ["mirror", "reflect"])
@pytest.mark.parametrize("shape", [(7, 5), (1, 4), (2, 1)])
def test_sampling_is_scipys(mode, shape, rng):
    x = rng.random((3, *shape, 2))
    rows, columns = rng.uniform(-30, 30, (2, 3, *shape))
    actual = filters.sample(x, rows, columns, mode)
    for image, r, c, sampled in zip(x, rows, columns, actual):
        for channel in range(2):
            expected = scipy.ndimage.map_coordinates(
                image[..., channel], [r, c], order=1, mode=mode
            )
            np.testing.assert_allclose(sampled[..., channel], expected, atol=1e-12)


def test_elastic_moves_pixels_by_the_random_displacements():
    images = pixels((2, 14, 11, 3)) / 255
    nothing = np.zeros(6 + 2 * 14 * 11)
    actual = digital.elastic_transform(FixedGenerator(nothing), images, (2, 1, 2))
    np.testing.assert_allclose(actual, images, atol=1e-12)
    # All corners move 2 pixels to the right.
    moved = nothing.copy()
    moved[0:6:2] = 1
    actual = digital.elastic_transform(FixedGenerator(moved), images, (0, 0, 2))
    np.testing.assert_allclose(actual[:, :, 2:], images[:, :, :-2], atol=1e-12)
    np.testing.assert_allclose(actual[:, :, 0], images[:, :, 2], atol=1e-12)
    # A constant field takes pixels from 3 to the right or, its second half, below.
    field = nothing.copy()
    field[6 : 6 + 14 * 11] = 1
    actual = digital.elastic_transform(FixedGenerator(field), images, (3, 1, 2))
    np.testing.assert_allclose(actual[:, :, :-3], images[:, :, 3:], atol=1e-12)
    np.testing.assert_allclose(actual[:, :, -1], images[:, :, -3], atol=1e-12)
    actual = digital.elastic_transform(
        FixedGenerator(nothing + (1 - field)), images, (3, 1, 0)
    )
    np.testing.assert_allclose(actual[:, :-3], images[:, 3:], atol=1e-12)


def test_displacement_field_of_elastic_is_smoothed_noise(rng):
    x, draws = rng.random((1, 12, 15, 1)), rng.uniform(-1, 1, 6 + 2 * 12 * 15)
    draws[:6] = 0
    right, down = (
        3.2 * scipy.ndimage.gaussian_filter(f, 1.28, mode="reflect", truncate=3)
        for f in draws[6:].reshape(2, 12, 15)
    )
    rows, columns = np.mgrid[:12, :15]
    expected = scipy.ndimage.map_coordinates(
        x[0, ..., 0], [rows + down, columns + right], order=1, mode="reflect"
    )
    actual = digital.elastic_transform(FixedGenerator(draws), x, (3.2, 1.28, 1.6))
    np.testing.assert_allclose(actual[0, ..., 0], expected, atol=1e-9)


def test_elastic_moves_the_corners_to_the_random_points():
    """On a ramp, which bilinear interpolation reproduces, at the moved corners."""
    reach, draws = 2.0, np.zeros(6 + 2 * 33 * 33)
    draws[:6] = [0.5, -0.5, 1, 0.5, -0.5, 1]
    rows, columns = np.mgrid[:33, :33] / 33
    x = np.stack([rows, columns], -1)[None, ..., [0, 1, 1]]
    actual = digital.elastic_transform(FixedGenerator(draws), x, (0, 0, reach))[0]
    corners = np.array([[27, 27], [27, 5], [5, 5]])  # (x, y): 16 +- 33 // 3
    moved = (corners + reach * draws[:6].reshape(3, 2)).astype(int)
    for (to_x, to_y), (from_x, from_y) in zip(moved, corners):
        assert actual[to_y, to_x, :2] == pytest.approx([from_y / 33, from_x / 33])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_and_jpeg_are_pillows(severity, channels):
    images = pixels((3, 20, 32, channels))
    factor = parameter("pixelate", severity)
    pixelated = corruptions.corrupt(images, "pixelate", severity)
    compressed = corruptions.corrupt(images, "jpeg_compression", severity)
    for image, small, lossy in zip(images, pixelated, compressed):
        picture = PIL.Image.fromarray(image.squeeze())
        box = PIL.Image.Resampling.BOX
        expected = picture.resize((int(32 * factor), int(20 * factor)), box)
        expected = np.asarray(expected.resize((32, 20), box))
        np.testing.assert_array_equal(small.squeeze(), expected)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=parameter("jpeg_compression", severity))
        expected = np.asarray(PIL.Image.open(file))
        np.testing.assert_array_equal(lossy.squeeze(), expected)


# Spatter.


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_water_is_turquoise_and_of_the_published_strength(severity):
    rng, strength = np.random.default_rng(0), parameter("spatter", severity)[4]
    black = np.zeros((10, 32, 32, 3))
    actual = weather.spatter(rng, black, parameter("spatter", severity))
    np.testing.assert_allclose(
        actual.max((1, 2)),
        [[175 / 255 * strength, 238 / 255 * strength, 238 / 255 * strength]] * 10,
    )
    np.testing.assert_allclose(238 * actual[..., 0], 175 * actual[..., 2], atol=1e-9)
    assert 0 < (actual > 0).mean() < 0.7


def test_water_is_liquid_times_relief():
    """Liquid above 255/255 wraps around to 0."""
    draws = np.random.default_rng(0).standard_normal((5, 20, 20))
    x = np.zeros((5, 20, 20, 3))
    actual = weather.spatter(FixedGenerator(draws), x, (0.9, 0.3, 0.7, 0.7, 0.5, False))
    noise = 0.9 + 0.3 * draws
    liquid = scipy.ndimage.gaussian_filter(noise, (0, 0.7, 0.7), mode="nearest")
    liquid = np.floor(np.where(liquid < 0.7, 0, 255 * liquid)).astype(int)
    assert liquid.max() > 255
    liquid = (liquid % 256).astype(np.uint8)
    amount = liquid * weather._relief(edges.canny(liquid, 50, 150))
    amount *= 0.5 / amount.max((1, 2), keepdims=True)
    np.testing.assert_allclose(actual[..., 1], amount * 238 / 255, atol=1e-9)


def test_relief_is_an_embossed_and_equalised_distance():
    """On an image wider than 20 pixels, the largest distance that counts."""
    outline = np.zeros((1, 9, 40), bool)
    outline[0, 2:5, 3], outline[0, 6, 2:9] = True, True
    offsets = [(i, j) for i in range(3) for j in range(3)]

    def correlate(image, weights):
        padded = np.pad(image, 1, "reflect")
        return sum(weights[i][j] * padded[i : i + 9, j : j + 40] for i, j in offsets)

    mean = np.full((3, 3), 1 / 9)
    distance = correlate(np.minimum(edges.chamfer(outline)[0], 20), mean)
    assert (distance > 19.9).any()
    levels = np.floor(distance + 1e-6).astype(np.uint8)[None]
    equalized = edges.equalize(levels, 21)[0].astype(float)
    embossed = correlate(equalized, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    expected = np.rint(correlate(np.clip(embossed, 0, 255), mean))
    actual = weather._relief(outline)[0]
    assert np.abs(actual - expected).max() <= 1  # rounding of halves
    assert (actual != expected).mean() < 0.01


@pytest.mark.parametrize("severity", [4, 5])
def test_mud_replaces_the_image(severity):
    white = np.ones((10, 32, 32, 3))
    c = parameter("spatter", severity)
    actual = weather.spatter(np.random.default_rng(0), white, c)
    cover = (1 - actual) / (1 - np.array([63, 42, 20]) / 255)
    np.testing.assert_allclose(cover[..., 0], cover[..., 2], atol=1e-9)
    assert ((cover == 0) | (cover > 0.8 - 1e-9)).all() and cover.max() <= 1 + 1e-9
    assert 0.01 < (cover > 0).mean() < 0.5
    grey = weather.spatter(np.random.default_rng(0), white[..., :1], c)
    luminance = (0.299 * 63 + 0.587 * 42 + 0.114 * 20) / 255
    np.testing.assert_allclose(grey, 1 - (1 - luminance) * cover[..., :1], atol=1e-9)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_without_liquid_changes_nothing(severity):
    x = pixels((2, 8, 8, 3)) / 255
    actual = weather.spatter(FixedGenerator(0), x, parameter("spatter", severity))
    np.testing.assert_array_equal(actual, x)
