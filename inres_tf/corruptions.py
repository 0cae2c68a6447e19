"""The noise group of CIFAR-10-C, generated on the fly and deterministic.

Definitions and severities are those of Hendrycks & Dietterich, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations", ICLR 2019, for CIFAR-10-C
(the constants of ImageNet-C are 2 to 6 times as large).
"""

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)

# Images at a time: bounds the memory of the float64 copies.
_CHUNK = 1000


def _gaussian(rng, x, c):
    return x + c * rng.standard_normal(x.shape)


def _shot(rng, x, c):
    return rng.poisson(x * c) / c


def _impulse(rng, x, c):
    u = rng.random(x.shape)
    return np.where(u < c / 2, 0.0, np.where(u >= 1 - c / 2, 1.0, x))


def _speckle(rng, x, c):
    return x + x * (c * rng.standard_normal(x.shape))


# name: (function of (generator, x in [0, 1], parameter), parameter by severity).
CORRUPTIONS = {
    "gaussian_noise": (_gaussian, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (_shot, (500, 250, 100, 75, 50)),
    "impulse_noise": (_impulse, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": (_speckle, (0.06, 0.10, 0.12, 0.16, 0.20)),
}


def corrupt(images, name, severity, seed=0):
    """Corrupts images.

    The same arguments give the same result, and the first images of a longer array are
    corrupted as if they were alone.

    Args:
        images: uint8 pixels, (number, height, width, channels).
        name: a key of `CORRUPTIONS`, such as `"gaussian_noise"`.
        severity: 1 to 5.
        seed: of the noise; non-negative.

    Returns:
        uint8 pixels of the same shape: clipped to [0, 1], times 255, truncated.

    Raises:
        ValueError: for an unknown name, another severity, or images not uint8.
    """
    if name not in CORRUPTIONS:
        raise ValueError(
            f"`name` must be one of {', '.join(map(repr, CORRUPTIONS))}. "
            f"Received: name={name!r}"
        )
    if severity not in SEVERITIES:
        raise ValueError(
            "`severity` must be an integer from 1 to 5. "
            f"Received: severity={severity!r}"
        )
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(
            f"`images` must be uint8 pixels. Received: images of type {images.dtype}"
        )
    function, parameters = CORRUPTIONS[name]
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name), severity])
    result = np.empty_like(images)
    for at in range(0, len(images), _CHUNK):
        x = images[at : at + _CHUNK] / 255.0
        noisy = np.clip(function(rng, x, parameters[severity - 1]), 0.0, 1.0)
        result[at : at + _CHUNK] = (noisy * 255.0).astype(np.uint8)
    return result
