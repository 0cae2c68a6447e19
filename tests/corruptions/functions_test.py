"""Each corruption against closed forms, references and other libraries."""

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


class Draws:
    """In place of a generator: gives what the test says."""

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
    near = np.arange(-2, 3)
    disk = (near[:, None] ** 2 + near**2 <= radius**2).astype(float)
    assert disk.sum() == (1, 1, 1, 5, 9)[severity - 1]
    line = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2)
    kernel = scipy.signal.convolve2d(disk, np.outer(line, line))
    kernel /= kernel.sum()
    found = blur.defocus_blur(None, impulse(7), (radius, sigma))[0, ..., 0]
    np.testing.assert_allclose(found, kernel, atol=1e-12)
    # Mirrored beyond the borders.
    image = np.random.default_rng(0).random((9, 8))
    expected = scipy.signal.convolve2d(np.pad(image, 3, "reflect"), kernel, "valid")
    found = blur.defocus_blur(None, image[None, ..., None], (radius, sigma))
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_of_an_impulse_is_a_gaussian(severity):
    sigma = parameter("gaussian_blur", severity)
    reach = int(4 * sigma + 0.5)
    at = np.arange(-8, 9)
    line = np.exp(-0.5 * (at / sigma) ** 2) * (np.abs(at) <= reach)
    line /= line.sum()
    found = blur.gaussian_blur(None, impulse(), sigma)[0, ..., 0]
    np.testing.assert_allclose(found, np.outer(line, line), atol=1e-12)


def test_glass_blur_copies_from_the_upper_left_only():
    """At severity 1, whose Gaussian is too narrow to blur."""
    image = np.random.default_rng(0).permutation(256).reshape(16, 16).astype(np.uint8)
    images = np.stack([image] * 50)[..., None]
    found = corruptions.corrupt(images, "glass_blur", 1)[..., 0]
    np.testing.assert_array_equal(found[:, :2], images[:, :2, :, 0])
    np.testing.assert_array_equal(found[:, :, :2], images[:, :, :2, 0])
    inner = found[:, 2:, 2:]
    came = [
        inner == image[2 - down : 16 - down, 2 - right : 16 - right]
        for down in (0, 1)
        for right in (0, 1)
    ]
    assert np.logical_or.reduce(came).all()
    assert [c.mean() for c in came] == pytest.approx([0.25] * 4, abs=0.02)


@pytest.mark.parametrize("sigma", [0.05, 0.4])
def test_glass_blur_is_the_published_loop(sigma):
    """Pixel by pixel in place, where swapping two views of an array copies."""
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
    found = blur.glass_blur(np.random.default_rng(5), x / 255, (sigma, 2))
    np.testing.assert_allclose(found, blurred(expected), atol=1e-9)


def test_motion_blur_draws_its_direction():
    images, draws = pixels((2, 9, 9, 3)), Draws([-40, 20])
    found = blur.motion_blur(draws, images / 255, (6, 2.0))
    assert draws.limits == (-45, 45)
    expected = filters.motion(images, 6, 2.0, np.array([-40, 20]))
    np.testing.assert_allclose(255 * found, expected, atol=1e-9)


@pytest.mark.parametrize("degrees, down, right", [(0, 0, 1), (90, 1, 0), (-45, -1, 1)])
def test_motion_blur_of_an_impulse_is_a_line(degrees, down, right):
    radius, sigma = 4, 3.0
    # Whole pixels along a diagonal: distances are rounded, halves down.
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
    found = filters.motion(x, radius, sigma, np.array([degrees]))[0, ..., 0]
    np.testing.assert_array_equal(found, np.floor(expected + 1e-3))
    assert np.count_nonzero(found) == length[-1] + 1


def test_motion_blur_goes_on_beyond_the_borders_and_turns_each_image():
    x = np.zeros((2, 6, 6, 1), np.uint8)
    x[:, :, 3:] = 100
    found = filters.motion(x, 6, 5.0, np.array([0, 90]))
    assert (found[0, :, 3:] >= 99).all() and (found[1] // 99 == x[1] // 99).all()
    row = found[0, 0, :4, 0].astype(int)
    assert (np.diff(row) > 0).all() and row[0] > 0


@pytest.mark.parametrize("factor", [1, 1.13, 1.25, 1.75, 2.25])
@pytest.mark.parametrize("size", [8, 13, 32])
def test_zoom_is_that_of_scipy(size, factor, rng):
    image = rng.random((size, size))
    crop = int(np.ceil(size / factor))
    top = (size - crop) // 2
    middle = image[top : top + crop, top : top + crop]
    expected = scipy.ndimage.zoom(middle, factor, order=1, mode="nearest")
    trim = (len(expected) - size) // 2
    expected = expected[trim : trim + size, trim : trim + size]
    found = filters.sum_of_zooms(image[None, ..., None], [factor])[0, ..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    both = filters.sum_of_zooms(image[None, ..., None], [1, factor])[0, ..., 0]
    np.testing.assert_allclose(both, image + expected, atol=1e-12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_is_a_mean_over_magnifications(severity):
    constant = np.full((1, 32, 20, 3), 77, np.uint8)
    found = corruptions.corrupt(constant, "zoom_blur", severity).astype(int)
    assert np.abs(found - 77).max() <= 1  # truncated
    # Each row of a vertical ramp through the middle is pulled to it by 1 / factor.
    ramp = np.linspace(-1, 1, 33)[None, :, None, None] * np.ones((1, 33, 33, 1))
    factors = np.arange(1, parameter("zoom_blur", severity), 0.01)
    assert len(factors) == (7, 12, 16, 21, 26)[severity - 1]
    found = blur.zoom_blur(None, ramp, parameter("zoom_blur", severity))
    expected = (1 + (1 / factors).sum()) / (1 + len(factors))
    slope = (found[0, 20, 5, 0] - found[0, 12, 5, 0]) / (
        ramp[0, 20, 5] - ramp[0, 12, 5]
    )
    assert slope == pytest.approx(expected, rel=0.02)


# Weather.


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_whitens_and_falls_twice(severity):
    black = np.zeros((20, 32, 32, 3), np.uint8)
    found = corruptions.corrupt(black, "snow", severity)
    # The layer and itself turned by half a circle, the same in all channels.
    np.testing.assert_array_equal(found, found[:, ::-1, ::-1])
    np.testing.assert_array_equal(found[..., 0], found[..., 2])
    ground = int(255 * 0.5 * (1 - parameter("snow", severity)[-1]) + 1e-6)
    assert found.min() == ground and found.max() > ground + 10
    white = np.full((2, 8, 8, 1), 255, np.uint8)
    np.testing.assert_array_equal(corruptions.corrupt(white, "snow", severity), white)


@pytest.mark.parametrize("last, right", [(0, 0), (9, 1), (-9, -1)])
def test_snow_falls_along_its_direction(last, right):
    """From 45 degrees on one side of the vertical to 45 on the other."""
    draws = np.full((1, 15 * 15 + 1), -9.0)
    draws[0, 7 * 15 + 7], draws[0, -1] = 4, last
    x = np.zeros((1, 15, 15, 3))
    found = weather.snow(Draws(draws), x, (0.1, 0.2, 1, 0.6, 2, 9, 0.9))[0, ..., 0]
    flakes = np.argwhere(found > 0.05 + 1e-9)
    # The line's pixel at distance d is that d rows on and, aslant, as many columns.
    assert len(flakes) > 4 and (flakes[:, 1] - 7 == right * (7 - flakes[:, 0])).all()


def test_snow_without_flakes_only_whitens():
    x = pixels((3, 5, 4, 3)) / 255
    found = weather.snow(Draws(-9), x, (0.1, 0.2, 1, 0.6, 8, 3, 0.8))
    grey = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
    expected = 0.8 * x + 0.2 * np.maximum(x, 1.5 * grey[..., None] + 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_lies_between_none_and_all_and_keeps_the_maximum(severity):
    images = pixels((10, 32, 32, 3)) // 2
    strength = parameter("fog", severity)[0]
    most = images.max((1, 2, 3), keepdims=True) / 255
    found = corruptions.corrupt(images, "fog", severity).astype(int)
    scale = most / (most + strength) * 255
    low, high = scale * (images / 255), scale * (images / 255 + strength)
    assert (found >= np.floor(low - 1e-9)).all() and (found <= high + 1e-9).all()
    assert (found.max((1, 2, 3)) <= 255 * most[:, 0, 0, 0] + 1e-9).all()
    assert (found - low).std() > 1


def test_clouds_are_those_of_the_diamond_square_algorithm(rng):
    """Point by point, on a torus."""
    side, decay = 8, 2.5
    uniform = rng.random((2, side * side - 1))
    found = weather.plasma(uniform, decay)
    for cloud, draws in zip(found, uniform):
        field, draw = np.zeros((side, side)), iter(draws)
        step, amplitude = side, 100.0

        def fill(rows, columns, neighbours):
            for r, c in itertools.product(rows, columns):
                around = [
                    field[(r + dr) % side, (c + dc) % side]  # noqa: B023
                    for dr, dc in neighbours
                ]
                wobble = amplitude**2 * (2 * next(draw) - 1)  # noqa: B023
                field[r, c] = np.mean(around) + wobble  # noqa: B023

        while step >= 2:
            h = step // 2
            on, off = range(0, side, step), range(h, side, step)
            fill(off, off, [(-h, -h), (-h, h), (h, -h), (h, h)])
            fill(on, off, [(-h, 0), (h, 0), (0, -h), (0, h)])
            fill(off, on, [(-h, 0), (h, 0), (0, -h), (0, h)])
            step, amplitude = h, amplitude / decay
        expected = (field - field.min()) / (field.max() - field.min())
        np.testing.assert_allclose(cloud, expected, atol=1e-12)


def by_hsv(images, change):
    """What a change of (hue, saturation, value) makes of each pixel."""
    rows = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel)))
        for pixel in images.reshape(-1, 3) / 255
    ]
    return 255 * np.array(rows).reshape(images.shape)


def colors():
    """Random pixels, and grey, black and white ones."""
    images = pixels((2, 6, 6, 3))
    images[0, 0] = images[0, 0, :, :1]
    images[0, 1], images[0, 2] = 0, 255
    return images


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_adds_to_the_value(severity):
    c = parameter("brightness", severity)
    expected = by_hsv(colors(), lambda h, s, v: (h, s, min(v + c, 1)))
    found = 255 * weather.brightness(None, colors() / 255, c)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    grey = pixels((2, 5, 5, 1))
    expected = np.minimum(grey + 255 * c, 255)
    found = corruptions.corrupt(grey, "brightness", severity)
    np.testing.assert_allclose(found, np.floor(expected), atol=1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate_scales_the_saturation(severity):
    factor, summand = parameter("saturate", severity)
    expected = by_hsv(
        colors(), lambda h, s, v: (h, np.clip(s * factor + summand, 0, 1), v)
    )
    found = 255 * digital.saturate(None, colors() / 255, (factor, summand))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    grey = pixels((2, 5, 5, 1))
    found = corruptions.corrupt(grey, "saturate", severity)
    np.testing.assert_array_equal(found, grey)


# Digital.


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_scales_about_the_mean_of_image_and_channel(severity):
    images = np.full((2, 2, 2, 3), 40, np.uint8)
    images[0, 0, :, 0], images[1, 0, :, 1] = 160, 240  # means 100 and 140
    found = corruptions.corrupt(images, "contrast", severity).astype(int)
    c = parameter("contrast", severity)
    np.testing.assert_allclose(found[0, :, 0, 0], [100 + 60 * c, 100 - 60 * c], atol=1)
    np.testing.assert_allclose(
        found[1, :, 0, 1], [140 + 100 * c, 140 - 100 * c], atol=1
    )
    np.testing.assert_allclose(found[..., 2], 40, atol=1)


@pytest.mark.parametrize("mode", ["mirror", "reflect"])
@pytest.mark.parametrize("shape", [(7, 5), (1, 4), (2, 1)])
def test_sampling_is_that_of_scipy(mode, shape, rng):
    x = rng.random((3, *shape, 2))
    rows, columns = rng.uniform(-30, 30, (2, 3, *shape))
    found = filters.sample(x, rows, columns, mode)
    for image, r, c, ours in zip(x, rows, columns, found):
        for channel in range(2):
            expected = scipy.ndimage.map_coordinates(
                image[..., channel], [r, c], order=1, mode=mode
            )
            np.testing.assert_allclose(ours[..., channel], expected, atol=1e-12)


def test_elastic_moves_pixels_by_what_is_drawn():
    images = pixels((2, 14, 11, 3)) / 255
    nothing = np.zeros(6 + 2 * 14 * 11)
    found = digital.elastic_transform(Draws(nothing), images, (2, 1, 2))
    np.testing.assert_allclose(found, images, atol=1e-12)
    # All corners 2 pixels to the right: what was 2 pixels to the left.
    moved = nothing.copy()
    moved[0:6:2] = 1
    found = digital.elastic_transform(Draws(moved), images, (0, 0, 2))
    np.testing.assert_allclose(found[:, :, 2:], images[:, :, :-2], atol=1e-12)
    np.testing.assert_allclose(found[:, :, 0], images[:, :, 2], atol=1e-12)
    # A constant field: what is 3 pixels to the right and, of the other half, down.
    field = nothing.copy()
    field[6 : 6 + 14 * 11] = 1
    found = digital.elastic_transform(Draws(field), images, (3, 1, 2))
    np.testing.assert_allclose(found[:, :, :-3], images[:, :, 3:], atol=1e-12)
    np.testing.assert_allclose(found[:, :, -1], images[:, :, -3], atol=1e-12)
    found = digital.elastic_transform(Draws(nothing + (1 - field)), images, (3, 1, 0))
    np.testing.assert_allclose(found[:, :-3], images[:, 3:], atol=1e-12)


def test_field_of_elastic_is_smoothed_noise(rng):
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
    found = digital.elastic_transform(Draws(draws), x, (3.2, 1.28, 1.6))
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-9)


def test_elastic_takes_the_corners_where_they_were_drawn():
    """On a ramp, which bilinear interpolation keeps, read at the moved corners."""
    reach, draws = 2.0, np.zeros(6 + 2 * 33 * 33)
    draws[:6] = [0.5, -0.5, 1, 0.5, -0.5, 1]
    rows, columns = np.mgrid[:33, :33] / 33
    x = np.stack([rows, columns], -1)[None, ..., [0, 1, 1]]
    found = digital.elastic_transform(Draws(draws), x, (0, 0, reach))[0]
    corners = np.array([[27, 27], [27, 5], [5, 5]])  # (x, y): 16 +- 33 // 3
    moved = (corners + reach * draws[:6].reshape(3, 2)).astype(int)
    for (to_x, to_y), (from_x, from_y) in zip(moved, corners):
        assert found[to_y, to_x, :2] == pytest.approx([from_y / 33, from_x / 33])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_and_jpeg_are_pillow(severity, channels):
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
def test_water_is_turquoise_and_as_strong_as_published(severity):
    rng, strength = np.random.default_rng(0), parameter("spatter", severity)[4]
    black = np.zeros((10, 32, 32, 3))
    found = weather.spatter(rng, black, parameter("spatter", severity))
    np.testing.assert_allclose(
        found.max((1, 2)),
        [[175 / 255 * strength, 238 / 255 * strength, 238 / 255 * strength]] * 10,
    )
    np.testing.assert_allclose(238 * found[..., 0], 175 * found[..., 2], atol=1e-9)
    assert 0 < (found > 0).mean() < 0.7


def test_water_is_liquid_times_relief():
    """Liquid in 1/255 that exceeds 255 starts again from 0."""
    draws = np.random.default_rng(0).standard_normal((5, 20, 20))
    x = np.zeros((5, 20, 20, 3))
    found = weather.spatter(Draws(draws), x, (0.9, 0.3, 0.7, 0.7, 0.5, False))
    noise = 0.9 + 0.3 * draws
    liquid = scipy.ndimage.gaussian_filter(noise, (0, 0.7, 0.7), mode="nearest")
    liquid = np.floor(np.where(liquid < 0.7, 0, 255 * liquid)).astype(int)
    assert liquid.max() > 255
    liquid = (liquid % 256).astype(np.uint8)
    amount = liquid * weather._relief(edges.canny(liquid, 50, 150))
    amount *= 0.5 / amount.max((1, 2), keepdims=True)
    np.testing.assert_allclose(found[..., 1], amount * 238 / 255, atol=1e-9)


def test_relief_is_an_embossed_and_equalised_distance():
    """Pixel by pixel, on an image that is wider than distances count."""
    outline = np.zeros((1, 9, 40), bool)
    outline[0, 2:5, 3], outline[0, 6, 2:9] = True, True
    near = [(i, j) for i in range(3) for j in range(3)]

    def around(image, weights):
        wide = np.pad(image, 1, "reflect")
        return sum(weights[i][j] * wide[i : i + 9, j : j + 40] for i, j in near)

    mean = np.full((3, 3), 1 / 9)
    distance = around(np.minimum(edges.chamfer(outline)[0], 20), mean)
    assert (distance > 19.9).any()
    levels = np.floor(distance + 1e-6).astype(np.uint8)[None]
    even = edges.equalize(levels, 21)[0].astype(float)
    raised = around(even, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    expected = np.rint(around(np.clip(raised, 0, 255), mean))
    found = weather._relief(outline)[0]
    assert np.abs(found - expected).max() <= 1  # halves
    assert (found != expected).mean() < 0.01


@pytest.mark.parametrize("severity", [4, 5])
def test_mud_covers(severity):
    white = np.ones((10, 32, 32, 3))
    c = parameter("spatter", severity)
    found = weather.spatter(np.random.default_rng(0), white, c)
    cover = (1 - found) / (1 - np.array([63, 42, 20]) / 255)
    np.testing.assert_allclose(cover[..., 0], cover[..., 2], atol=1e-9)
    assert ((cover == 0) | (cover > 0.8 - 1e-9)).all() and cover.max() <= 1 + 1e-9
    assert 0.01 < (cover > 0).mean() < 0.5
    grey = weather.spatter(np.random.default_rng(0), white[..., :1], c)
    luminance = (0.299 * 63 + 0.587 * 42 + 0.114 * 20) / 255
    np.testing.assert_allclose(grey, 1 - (1 - luminance) * cover[..., :1], atol=1e-9)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_without_liquid_spatter_changes_nothing(severity):
    x = pixels((2, 8, 8, 3)) / 255
    found = weather.spatter(Draws(0), x, parameter("spatter", severity))
    np.testing.assert_array_equal(found, x)
