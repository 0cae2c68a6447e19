"""Weather: snow, fog, brightness, and spatter of the extra ones."""

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from inres_tf.corruptions import edges, filters


def snow(rng, x, c):
    """Whitens the image and lays blurred flakes over it, twice: as drawn and turned.

    Args:
        rng: `numpy.random.Generator` of the flakes and their direction.
        x: images in [0, 1].
        c: (mean and standard deviation of the layer, its magnification, the value below
            which there is no flake, radius and standard deviation of the motion blur in
            pixels, weight of the image against its whitened self).
    """
    mean, std, zoom, threshold, radius, sigma, weight = c
    number, height, width, _ = x.shape
    # Per image: a layer and, last, what its direction is drawn from.
    normal = rng.standard_normal((number, height * width + 1))
    degrees = -135 + 90 * ndtr(normal[:, -1])
    layer = mean + std * normal[:, :-1].reshape(number, height, width, 1)
    layer = filters.sum_of_zooms(layer, [zoom])
    layer = np.where(layer < threshold, 0, np.clip(layer, 0, 1))
    layer = (255 * layer).astype(np.uint8)
    layer = filters.motion(layer, radius, sigma, degrees) / 255
    white = np.maximum(x, 1.5 * filters.luminance(x) + 0.5)
    x = weight * x + (1 - weight) * white
    return x + layer + np.rot90(layer, 2, (1, 2))


def fog(rng, x, c):
    """Adds a cloud and scales back to the image's own maximum.

    Args:
        rng: `numpy.random.Generator` of the clouds.
        x: images in [0, 1].
        c: (strength, decay of the cloud's detail from one scale to the next).
    """
    strength, decay = c
    _, height, width, _ = x.shape
    side = max(32, 1 << (max(height, width) - 1).bit_length())
    cloud = plasma(rng.random((len(x), side * side - 1)), decay)
    x_max = x.max((1, 2, 3), keepdims=True)
    x = x + strength * cloud[:, :height, :width, None]
    return x * x_max / (x_max + strength)


def plasma(uniform, decay):
    """Clouds by the diamond-square algorithm on a torus.

    From scale to scale the centres of squares, then those of their sides, become the
    mean of their four neighbours plus noise in +-a^2, where a is 100 at first and is
    divided by `decay`.

    Args:
        uniform: random numbers in [0, 1), (number, side * side - 1); the side is a
            power of two.
        decay: what a is divided by.

    Returns:
        Clouds that reach from 0 to 1 each, (number, side, side).
    """
    number, count = uniform.shape
    side = int(np.sqrt(count + 1))
    cloud = np.zeros((number, side, side))
    step, amplitude, used = side, 100.0, 0

    def mean_and_noise(total):
        nonlocal used
        size = total[0].size
        drawn = uniform[:, used : used + size].reshape(total.shape)
        used += size
        return total / 4 + amplitude**2 * (2 * drawn - 1)

    while step >= 2:
        half = step // 2
        corners = cloud[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        centers = mean_and_noise(pairs + np.roll(pairs, -1, 2))
        cloud[:, half::step, half::step] = centers
        cloud[:, ::step, half::step] = mean_and_noise(
            centers + np.roll(centers, 1, 1) + corners + np.roll(corners, -1, 2)
        )
        cloud[:, half::step, ::step] = mean_and_noise(
            centers + np.roll(centers, 1, 2) + corners + np.roll(corners, -1, 1)
        )
        step, amplitude = half, amplitude / decay
    cloud -= cloud.min((1, 2), keepdims=True)
    return cloud / cloud.max((1, 2), keepdims=True)


def brightness(rng, x, amount):
    """Adds `amount` to the value of HSV, at most to 1.

    At constant hue and saturation the pixel is scaled with its value, the largest of
    its channels; black becomes grey.
    """
    value = x.max(-1, keepdims=True)
    ratio = np.divide(x, value, out=np.ones_like(x), where=value > 0)
    return ratio * np.minimum(value + amount, 1)


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
    liquid = np.where(liquid < threshold, 0, liquid)
    # As published, what exceeds 1 starts again from 0.
    liquid = (255 * liquid).astype(np.int64).astype(np.uint8)
    amount = liquid * _relief(edges.canny(liquid, 50, 150))
    most = amount.max((1, 2), keepdims=True)
    amount = np.divide(last * amount, most, out=np.zeros_like(amount), where=most > 0)
    return x + filters.color(175, 238, 238, channels) * amount[..., None]


def _relief(outline):
    """Distance from the edges, up to 20, evened out and embossed: [0, 255]."""
    distance = np.minimum(edges.chamfer(outline), 20)
    distance = _mean(distance)
    # What is whole but for rounding stays so.
    distance = edges.equalize(np.floor(distance + 1e-6).astype(np.uint8), 21)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    raised = ndimage.correlate(distance.astype(float), emboss[None], mode="mirror")
    return np.rint(_mean(np.clip(raised, 0, 255)))


def _mean(x):
    """Mean over 3x3 pixels of images (number, height, width)."""
    return ndimage.uniform_filter(x, (0, 3, 3), mode="mirror")
