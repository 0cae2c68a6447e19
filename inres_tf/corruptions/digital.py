"""Digital: contrast, elastic, pixelate, JPEG, and saturate of the extra ones."""

import io

import numpy as np
import PIL.Image

from inres_tf.corruptions import filters


def contrast(rng, x, factor):
    """Scales the distance from the image's mean, a channel at a time."""
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * factor + mean


def saturate(rng, x, c):
    """Makes the saturation of HSV c[0] times as large plus c[1], within [0, 1].

    At constant hue and value the distance from the value scales with the saturation.
    Grey pixels have hue 0, red, so that c[1] reddens them, as published. Images of one
    channel stay as they are.

    Args:
        rng: not used.
        x: images in [0, 1].
        c: (factor, summand).
    """
    if x.shape[-1] == 1:
        return x
    factor, summand = c
    value = x.max(-1, keepdims=True)
    span = value - x.min(-1, keepdims=True)
    saturation = np.divide(span, value, out=np.zeros_like(span), where=value > 0)
    wanted = np.clip(saturation * factor + summand, 0, 1)
    # How far below the value each channel lies, as a share of the largest such.
    red = np.broadcast_to(np.array([0.0, 1.0, 1.0]), x.shape).copy()
    share = np.divide(value - x, span, out=red, where=span > 0)
    return value * (1 - wanted * share)


def elastic_transform(rng, x, c):
    """Distorts by a random affine map, then by a smooth random field.

    The affine map moves three corners of a square in the middle, whose half side is a
    third of the image, by up to c[2] pixels. The published one, OpenCV's, rounds its
    coordinates to 1/32 pixel; here they are exact.

    Args:
        rng: `numpy.random.Generator` of the distortions.
        x: images in [0, 1].
        c: (strength of the field, standard deviation of its smoothing, reach of the
            affine map), in pixels.
    """
    strength, sigma, reach = c
    number, height, width, _ = x.shape
    drawn = rng.uniform(-1, 1, (number, 6 + 2 * height * width))
    rows, columns = np.mgrid[:height, :width].astype(float)

    center = np.array([height, width]) // 2  # as published: (x, y) of height and width
    half = min(height, width) // 3
    corners = center + half * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + reach * drawn[:, :6].reshape(number, 3, 2)
    ones = np.ones((number, 3, 1))
    # Where each pixel comes from: the map that takes `moved` to `corners`.
    back = np.linalg.solve(np.concatenate([moved, ones], -1), corners[None])
    places = np.stack([columns, rows, np.ones_like(rows)], -1) @ back[:, None]
    x = filters.sample(x, places[..., 1], places[..., 0], "mirror")
    if not strength:
        return x
    field = drawn[:, 6:].reshape(2 * number, height, width)
    field = filters.gaussian(field, sigma, "reflect", truncate=3.0)
    right, down = strength * field.reshape(number, 2, height, width).swapaxes(0, 1)
    return filters.sample(x, rows + down, columns + right, "reflect")


def pixelate(rng, x, factor):
    """Resizes with a box filter to `factor` times the size, rounded down, and back."""
    height, width = x.shape[1:3]
    small = max(1, int(width * factor)), max(1, int(height * factor))
    box = PIL.Image.Resampling.BOX
    return _each(x, lambda image: image.resize(small, box).resize((width, height), box))


def jpeg_compression(rng, x, quality):
    """Encodes as JPEG in Pillow's `quality` and decodes."""

    def through(image):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return PIL.Image.open(file)

    return _each(x, through)


def _each(x, function):
    """What a function of a Pillow image makes of every image."""
    pixels = filters.to_pixels(x)
    if x.shape[-1] == 1:
        pixels = pixels[..., 0]
    images = (function(PIL.Image.fromarray(image)) for image in pixels)
    return np.stack([np.asarray(image) for image in images]).reshape(x.shape) / 255
