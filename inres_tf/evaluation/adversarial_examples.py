"""Adversarial images as PNG, for reports."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

# Larger images are subsampled, since reports show them small.
_LARGEST_SIDE = 96


def encode_examples(
    row: Mapping[str, Any],
    images: np.ndarray,
    labels: np.ndarray,
    adversarial: np.ndarray,
    predicted: np.ndarray,
    which: Iterable[int],
) -> list[dict[str, Any]]:
    """Encodes some adversarial examples of an attack for a result file.

    Args:
        row: the attack, a row of the result.
        images: clean pixels, (number, height, width, channels).
        labels: true classes, (number,).
        adversarial: adversarial pixels, of the shape of `images`.
        predicted: predicted classes of the adversarial pixels, (number,).
        which: indices of the examples to encode.

    Returns:
        One dict per example, with three images as base64 of a PNG.
    """
    samples = []
    for index in which:
        clean, change = images[index], adversarial[index] - images[index]
        largest = float(np.abs(change).max())
        samples.append(
            {
                "attack": row["name"],
                "norm": row["norm"],
                "eps": row["eps"],
                "index": int(index),
                "label": int(labels[index]),
                "predicted": int(predicted[index]),
                "clean": _png(clean),
                "adversarial": _png(adversarial[index]),
                "perturbation": _png(128 + 127 * change / max(largest, 1e-6)),
                "largest": largest,
            }
        )
    return samples


def _png(pixels: np.ndarray) -> str:
    """Encodes pixels, (height, width, 1 or 3), as base64 of a PNG."""
    stride = -(-max(pixels.shape[:2]) // _LARGEST_SIDE)
    pixels = np.clip(np.rint(pixels[::stride, ::stride]), 0, 255).astype(np.uint8)
    return base64.b64encode(tf.io.encode_png(pixels).numpy()).decode()
