"""Corruptions of CIFAR-10-C, generated on the fly.

Definitions and constants are those of the published `make_cifar_c.py` for CIFAR-10-C,
not those of ImageNet-C (whose noise is 2 to 6 times as strong). Sizes in pixels are
meant for 32x32 images and are not rescaled for others. docs/corruptions.md lists the
differences from the published code.

Frost is not generated, since it requires third-party photographs; see
`inres_tf.corruptions.cifar10_c`.

Reference:
    Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common Corruptions
    and Perturbations, ICLR 2019.
"""

import numbers
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from inres_tf import spelling
from inres_tf.corruptions import blur, digital, noise, weather

SEVERITIES = (1, 2, 3, 4, 5)

# Number of values at a time, which limits the memory of float64 copies and fits caches.
_CHUNK = 2**19

# The function of each corruption, of a generator, images in [0, 1] and a parameter, and
# its parameter by severity. The seed depends on the position: append new ones.
CORRUPTIONS: dict[str, tuple[Callable[..., np.ndarray], tuple[Any, ...]]] = {
    "gaussian_noise": (noise.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (noise.shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (noise.impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": (noise.speckle_noise, (0.06, 0.10, 0.12, 0.16, 0.20)),
    "defocus_blur": (
        blur.defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    ),
    "glass_blur": (
        blur.glass_blur,
        ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)),
    ),
    "motion_blur": (blur.motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (blur.zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (
        weather.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "fog": (weather.fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (weather.brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (digital.contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": (
        digital.elastic_transform,
        (
            (0, 0, 2.56),
            (1.6, 6.4, 2.24),
            (2.56, 1.92, 1.92),
            (3.2, 1.28, 1.6),
            (3.2, 0.96, 0.96),
        ),
    ),
    "pixelate": (digital.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": (digital.jpeg_compression, (80, 65, 58, 50, 40)),
    "gaussian_blur": (blur.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "spatter": (
        weather.spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
    ),
    "saturate": (
        digital.saturate,
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    ),
}

# The 15 corruptions of the mean corruption error, in the order of the paper.
STANDARD = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
# Corruptions for tuning, which the mean corruption error does not include.
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")

# Groups of generated corruptions.
GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": EXTRA,
    "all": tuple(CORRUPTIONS),
}


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Replaces the names of groups by their members.

    Args:
        names: names of corruptions (`STANDARD` and `EXTRA`) and of `GROUPS`.

    Returns:
        Names of corruptions, without repetitions.

    Raises:
        ValueError: if a name is unknown; the message suggests similar ones.

    Example:
        >>> from inres_tf import corruptions
        >>> corruptions.expand(["fog", "weather"])
        ('fog', 'snow', 'brightness')
    """
    names, known = tuple(names), (*STANDARD, *EXTRA)
    for name in names:
        if name not in known and name not in GROUPS:
            raise ValueError(
                f"unknown corruption {name!r}; {_suggest(name, (*known, *GROUPS))}"
            )
    members = (m for name in names for m in GROUPS.get(name, (name,)))
    return tuple(dict.fromkeys(members))


def corrupt(
    images: npt.ArrayLike, name: str, severity: int, seed: int = 0
) -> np.ndarray:
    """Corrupts images.

    The result is deterministic, and an image is corrupted in the same way whichever
    images follow it.

    Args:
        images: uint8 pixels, (number, height, width, channels) with 1 or 3 channels.
        name: name of the corruption, a key of `CORRUPTIONS`.
        severity: its severity, 1 to 5.
        seed: seed of the random numbers; non-negative.

    Returns:
        uint8 pixels of the same shape: clipped to [0, 1], times 255, truncated.

    Raises:
        ValueError: if the name or severity is unknown, or `images` has another type or
            shape.

    Example:
        >>> from inres_tf import corruptions, data
        >>> images = data.load("digits").test.images[:4]
        >>> noisy = corruptions.corrupt(images, "gaussian_noise", severity=3)
        >>> noisy.shape, noisy.dtype
        ((4, 8, 8, 1), dtype('uint8'))
    """
    if name == "frost":
        raise ValueError(
            "'frost' cannot be generated, since it requires third-party photographs. "
            "Load a ready-made set with `inres_tf.corruptions.cifar10_c.load`."
        )
    if name not in CORRUPTIONS:
        raise ValueError(
            f"`name` must be a corruption; {_suggest(name, CORRUPTIONS)}. "
            f"Received: name={name!r}"
        )
    if not isinstance(severity, numbers.Integral) or severity not in SEVERITIES:
        raise ValueError(
            "`severity` must be an integer from 1 to 5. "
            f"Received: severity={severity!r}"
        )
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(
            f"`images` must be uint8 pixels. Received: images of type {images.dtype}"
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise ValueError(
            "`images` must have the shape (number, height, width, 1 or 3). "
            f"Received: images of shape {images.shape}"
        )
    function, parameters = CORRUPTIONS[name]
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name), severity])
    result = np.empty_like(images)
    chunk = max(1, _CHUNK // images[:1].size) if len(images) else 1
    for start in range(0, len(images), chunk):
        x = images[start : start + chunk] / 255.0
        x = np.clip(function(rng, x, parameters[severity - 1]), 0.0, 1.0)
        result[start : start + chunk] = (x * 255.0).astype(np.uint8)
    return result


def _suggest(name: str, known: Iterable[str]) -> str:
    known = tuple(known)
    hint = spelling.did_you_mean(name, known).strip()
    return hint or f"known: {', '.join(known)}"
