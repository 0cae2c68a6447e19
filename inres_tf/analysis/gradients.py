"""Norms of the input gradient: how loss and pixels hang together, and masking."""

import dataclasses

import numpy as np

from inres_tf.analysis import compiled


@dataclasses.dataclass(frozen=True)
class GradientNorms:
    """Of each of n images, the gradient of the cross-entropy by the pixels.

    Attributes:
        l1: L1 norm, in nats by 1/255 of the pixel range, (n,): what the loss grows by,
            to first order, under an L-infinity attack of that size.
        l2: L2 norm, (n,).
        linf: greatest entry without its sign, (n,).
        zeros: share of the entries that are exactly 0, in [0, 1], (n,). At 1 an attack
            by gradients sees nothing, which is no robustness.
    """

    l1: np.ndarray
    l2: np.ndarray
    linf: np.ndarray
    zeros: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return dataclasses.asdict(self)

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean, median and maximum over the images."""
        rows = {
            "L1 norm": self.l1,
            "L2 norm": self.l2,
            "L∞ norm": self.linf,
            "share of zeros": self.zeros,
        }
        return {
            name: {
                "mean": values.mean(),
                "median": np.median(values),
                "max": values.max(),
            }
            for name, values in rows.items()
        }


def gradient_norms(model, images, labels, *, batch_size: int = 250) -> GradientNorms:
    """Norms of the input gradient of the cross-entropy of each image.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        batch_size: images at a time; the results do not depend on it.

    Returns:
        A `GradientNorms`.

    Raises:
        ValueError: if the logits cannot be found or an argument is wrong.

    Reference:
        Simon-Gabriel et al., First-Order Adversarial Vulnerability of Neural Networks
        and Input Dimension, ICML 2019, section 2. Zeros: Athalye, Carlini, Wagner,
        Obfuscated Gradients Give a False Sense of Security, ICML 2018.
    """
    model, images, labels = compiled.prepare(model, images, labels)
    rows = compiled.input_gradients(model, images, labels, "loss", batch_size)
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    size = np.abs(rows)
    return GradientNorms(
        size.sum(1), np.sqrt((rows**2).sum(1)), size.max(1), (rows == 0).mean(1)
    )
