"""Weather corruptions: snow, fog, brightness and spatter."""

import numpy as np
import scipy  # whose parts load when they are used

from inres_tf.corruptions import edges, filters


def snow(
    rng: np.random.Generator,
    x: np.ndarray,
    c: tuple[float, float, float, float, int, float, float],
) -> np.ndarray:
    """Whitens the image and adds a layer of blurred flakes and its copy turned by 180°.

    Args:
        rng: generator of the flakes and their direction.
        x: images in [0, 1].
        c: (mean and standard deviation of the layer, its magnification, threshold below
            which there is no flake, radius and standard deviation of the motion blur in
            pixels, weight of the original against the whitened image).
    """
    mean, std, zoom, threshold, radius, sigma, weight = c
    number, height, width, _ = x.shape
    # The last value of each image determines the direction.
    normal = rng.standard_normal((number, height * width + 1))
    degrees = -135 + 90 * scipy.special.ndtr(normal[:, -1])
    layer = mean + std * normal[:, :-1].reshape(number, height, width, 1)
    layer = filters.sum_of_zooms(layer, [zoom])
    layer = np.where(layer < threshold, 0, np.clip(layer, 0, 1))
    layer = (255 * layer).astype(np.uint8)
    layer = filters.motion(layer, radius, sigma, degrees) / 255
    white = np.maximum(x, 1.5 * filters.luminance(x) + 0.5)
    x = weight * x + (1 - weight) * white
    return x + layer + np.rot90(layer, 2, (1, 2))


def fog(rng: np.random.Generator, x: np.ndarray, c: tuple[float, float]) -> np.ndarray:
    """Adds a cloud and rescales by the maximum of the image.

    Args:
        rng: generator of the clouds.
        x: images in [0, 1].
        c: (strength, factor by which the cloud's detail decays from scale to scale).
    """
    strength, decay = c
    _, height, width, _ = x.shape
    side = max(32, 1 << (max(height, width) - 1).bit_length())
    cloud = plasma(rng.random((len(x), side * side - 1)), decay)
    x_max = x.max((1, 2, 3), keepdims=True)
    x = x + strength * cloud[:, :height, :width, None]
    return x * x_max / (x_max + strength)


def plasma(uniform: np.ndarray, decay: float) -> np.ndarray:
    """Makes clouds by the diamond-square algorithm on a torus.

    At each scale, the centres of squares, then those of their sides, become the mean of
    their four neighbours plus noise in [-a², a²], where a is 100 at first and is
    divided by `decay` at each scale.

    Args:
        uniform: random numbers in [0, 1), (number, side * side - 1); the side must be a
            power of two.
        decay: divisor of a.

    Returns:
        Clouds, each with minimum 0 and maximum 1: (number, side, side).
    """
    number, count = uniform.shape
    side = int(np.sqrt(count + 1))
    cloud = np.zeros((number, side, side))
    step, amplitude, used = side, 100.0, 0

    def mean_and_noise(total):
        nonlocal used
        size = total[0].size
        noise = 2 * uniform[:, used : used + size].reshape(total.shape) - 1
        used += size
        return total / 4 + amplitude**2 * noise

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


def brightness(rng: np.random.Generator, x: np.ndarray, amount: float) -> np.ndarray:
    """Adds to the value of HSV, and clips it to 1; black becomes grey.

    Args:
        rng: not used.
        x: images in [0, 1].
        amount: amount to add.
    """
    value = x.max(-1, keepdims=True)
    # At constant hue and saturation, all channels scale with the value.
    ratio = np.divide(x, value, out=np.ones_like(x), where=value > 0)
    return ratio * np.minimum(value + amount, 1)


def spatter(
    rng: np.random.Generator,
    x: np.ndarray,
    c: tuple[float, float, float, float, float, bool],
) -> np.ndarray:
    """Covers parts of the image with pale turquoise water or brown mud.

    There is liquid where smoothed noise exceeds a threshold. Water adds its colour in
    proportion to the amount of liquid and to the embossed distance from its edge,
    relative to the largest product in the image; mud replaces the image. Without any
    liquid, the image does not change; the published code divides by zero.

    Args:
        rng: generator of the noise.
        x: images in [0, 1].
        c: (mean and standard deviation of the noise, standard deviation of its
            smoothing in pixels, threshold, strength of water or standard deviation of
            the smoothing of mud in pixels, whether it is mud).
    """
    mean, std, sigma, threshold, last, mud = c
    channels = x.shape[-1]
    liquid = filters.gaussian(mean + std * rng.standard_normal(x.shape[:3]), sigma)
    if mud:
        cover = filters.gaussian((liquid > threshold).astype(float), last)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return x * (1 - cover) + filters.color(63, 42, 20, channels) * cover
    liquid = np.where(liquid < threshold, 0, liquid)
    # Values above 1 wrap around to 0, as in the published code.
    liquid = (255 * liquid).astype(np.int64).astype(np.uint8)
    water = liquid * _relief(edges.canny(liquid, 50, 150))
    largest = water.max((1, 2), keepdims=True)
    water = np.divide(
        last * water, largest, out=np.zeros_like(water), where=largest > 0
    )
    return x + filters.color(175, 238, 238, channels) * water[..., None]


def _relief(outline: np.ndarray) -> np.ndarray:
    """Equalises and embosses the distance from the edges, up to 20: [0, 255]."""
    distance = np.minimum(edges.chamfer(outline), 20)
    distance = _mean(distance)
    # The margin keeps rounding errors from lowering integers by 1.
    distance = edges.equalize(np.floor(distance + 1e-6).astype(np.uint8), 21)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    raised = scipy.ndimage.correlate(
        distance.astype(float), emboss[None], mode="mirror"
    )
    return np.rint(_mean(np.clip(raised, 0, 255)))


def _mean(x: np.ndarray) -> np.ndarray:
    """Averages over 3x3 pixels of images (number, height, width)."""
    return scipy.ndimage.uniform_filter(x, (0, 3, 3), mode="mirror")
