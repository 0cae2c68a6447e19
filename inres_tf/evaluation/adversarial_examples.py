"""A few adversarial images as PNG, for reports."""

import base64

import numpy as np
import tensorflow as tf

# Larger images are thinned out, since a report shows them small.
_LARGEST = 96


def encode_examples(
    row: dict, images, labels, adversarial, predicted, which
) -> list[dict]:
    """Some of an attack's examples, as a result file holds them.

    Args:
        row: the attack, as a row of the result.
        images: clean pixels, (number, height, width, channels).
        labels: true classes, (number,).
        adversarial: adversarial pixels, like `images`.
        predicted: classes they are taken for, (number,).
        which: indices of those wanted.
    """
    found = []
    for index in which:
        clean, change = images[index], adversarial[index] - images[index]
        largest = float(np.abs(change).max())
        found.append(
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
    return found


def _png(pixels) -> str:
    """Pixels (height, width, 1 or 3) as the base64 of a PNG."""
    thin = -(-max(pixels.shape[:2]) // _LARGEST)
    pixels = np.clip(np.rint(pixels[::thin, ::thin]), 0, 255).astype(np.uint8)
    return base64.b64encode(tf.io.encode_png(pixels).numpy()).decode()
