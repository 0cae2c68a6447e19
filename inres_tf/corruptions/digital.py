"""Digital corruptions: contrast, saturation, elastic maps, pixelation and JPEG."""

import io
from collections.abc import Callable

import numpy as np
import PIL.Image

from inres_tf.corruptions import filters


def contrast(rng: np.random.Generator, x: np.ndarray, factor: float) -> np.ndarray:
    """Scales the differences from the mean of each image and channel.

    Args:
        rng: not used.
        x: images in [0, 1].
        factor: the factor.
    """
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * factor + mean


def saturate(
    rng: np.random.Generator, x: np.ndarray, c: tuple[float, float]
) -> np.ndarray:
    """Scales and shifts the saturation of HSV, and clips it to [0, 1].

    Grey pixels have hue 0, red, so that the offset reddens them, as in the published
    code. Images of one channel do not change.

    Args:
        rng: not used.
        x: images in [0, 1].
        c: (factor, offset).
    """
    if x.shape[-1] == 1:
        return x
    factor, offset = c
    value = x.max(-1, keepdims=True)
    span = value - x.min(-1, keepdims=True)
    saturation = np.divide(span, value, out=np.zeros_like(span), where=value > 0)
    saturation = np.clip(saturation * factor + offset, 0, 1)
    # At constant hue and value, this share of the span of each channel is constant.
    red = np.broadcast_to(np.array([0.0, 1.0, 1.0]), x.shape).copy()
    share = np.divide(value - x, span, out=red, where=span > 0)
    return value * (1 - saturation * share)


def elastic_transform(
    rng: np.random.Generator, x: np.ndarray, c: tuple[float, float, float]
) -> np.ndarray:
    """Distorts by a random affine map, then by a smooth random displacement field.

    The affine map moves three corners of a central square, whose half side is a third
    of the image. The published code uses OpenCV, which rounds coordinates to 1/32
    pixel; here they are exact.

    Args:
        rng: generator of the distortions.
        x: images in [0, 1].
        c: (strength of the field, standard deviation of its smoothing, largest
            displacement of a corner), in pixels.
    """
    strength, sigma, reach = c
    number, height, width, _ = x.shape
    uniform = rng.uniform(-1, 1, (number, 6 + 2 * height * width))
    rows, columns = np.mgrid[:height, :width].astype(float)

    # (x, y) of height and width, as in the published code.
    center = np.array([height, width]) // 2
    half = min(height, width) // 3
    corners = center + half * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + reach * uniform[:, :6].reshape(number, 3, 2)
    ones = np.ones((number, 3, 1))
    # The inverse map, from `moved` to `corners`: where each pixel comes from.
    inverse = np.linalg.solve(np.concatenate([moved, ones], -1), corners[None])
    sources = np.stack([columns, rows, np.ones_like(rows)], -1) @ inverse[:, None]
    x = filters.sample(x, sources[..., 1], sources[..., 0], "mirror")
    if not strength:
        return x
    field = uniform[:, 6:].reshape(2 * number, height, width)
    field = filters.gaussian(field, sigma, "reflect", truncate=3.0)
    right, down = strength * field.reshape(number, 2, height, width).swapaxes(0, 1)
    return filters.sample(x, rows + down, columns + right, "reflect")


def pixelate(rng: np.random.Generator, x: np.ndarray, factor: float) -> np.ndarray:
    """Resizes with a box filter to a smaller size and back.

    Args:
        rng: not used.
        x: images in [0, 1].
        factor: ratio of the sizes, of which the smaller one is rounded down.
    """
    height, width = x.shape[1:3]
    small = max(1, int(width * factor)), max(1, int(height * factor))
    box = PIL.Image.Resampling.BOX
    return _map(x, lambda image: image.resize(small, box).resize((width, height), box))


def jpeg_compression(
    rng: np.random.Generator, x: np.ndarray, quality: int
) -> np.ndarray:
    """Compresses as JPEG and decodes.

    Args:
        rng: not used.
        x: images in [0, 1].
        quality: Pillow's quality, 1 to 95.
    """

    def compress(image):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return PIL.Image.open(file)

    return _map(x, compress)


def _map(
    x: np.ndarray, function: Callable[[PIL.Image.Image], PIL.Image.Image]
) -> np.ndarray:
    """Applies a function of Pillow images to every image."""
    pixels = filters.to_pixels(x)
    if x.shape[-1] == 1:
        pixels = pixels[..., 0]
    images = (function(PIL.Image.fromarray(image)) for image in pixels)
    return np.stack([np.asarray(image) for image in images]).reshape(x.shape) / 255
