"""Noise: gaussian, shot, impulse, speckle."""

import numpy as np


def gaussian_noise(rng, x, std):
    """Adds N(0, std)."""
    return x + std * rng.standard_normal(x.shape)


def shot_noise(rng, x, photons):
    """Counts light: Poisson(x * photons) / photons."""
    return rng.poisson(x * photons) / photons


def impulse_noise(rng, x, amount):
    """Salt and pepper: each value is 0 or 1 with probability amount / 2 each."""
    u = rng.random(x.shape)
    return np.where(u < amount / 2, 0.0, np.where(u >= 1 - amount / 2, 1.0, x))


def speckle_noise(rng, x, std):
    """Adds x * N(0, std)."""
    return x + x * (std * rng.standard_normal(x.shape))
