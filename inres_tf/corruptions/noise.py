"""Noise corruptions: Gaussian, shot, impulse and speckle noise."""

import numpy as np


def gaussian_noise(rng: np.random.Generator, x: np.ndarray, std: float) -> np.ndarray:
    """Adds Gaussian noise.

    Args:
        rng: generator of the noise.
        x: images in [0, 1].
        std: standard deviation.
    """
    return x + std * rng.standard_normal(x.shape)


def shot_noise(rng: np.random.Generator, x: np.ndarray, photons: float) -> np.ndarray:
    """Counts photons: Poisson(x * photons) / photons.

    Args:
        rng: generator of the noise.
        x: images in [0, 1].
        photons: expected number of photons at value 1.
    """
    return rng.poisson(x * photons) / photons


def impulse_noise(rng: np.random.Generator, x: np.ndarray, amount: float) -> np.ndarray:
    """Sets some values to 0 or 1, each with the same probability.

    Args:
        rng: generator of the noise.
        x: images in [0, 1].
        amount: probability that a value is replaced.
    """
    uniform = rng.random(x.shape)
    salted = np.where(uniform >= 1 - amount / 2, 1.0, x)
    return np.where(uniform < amount / 2, 0.0, salted)


def speckle_noise(rng: np.random.Generator, x: np.ndarray, std: float) -> np.ndarray:
    """Adds Gaussian noise in proportion to the value.

    Args:
        rng: generator of the noise.
        x: images in [0, 1].
        std: standard deviation at value 1.
    """
    return x + x * (std * rng.standard_normal(x.shape))
