"""Norms of the input gradient: sensitivity of the loss, and gradient masking."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from inres_tf.analysis import compiled

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class GradientNorms:
    """Norms of the cross-entropy's gradient with respect to the pixels of n images.

    Norms are in nats per 1/255 of the pixel range.

    Attributes:
        l1: L1 norm, (n,): to first order, the increase of the loss under an L-infinity
            attack of radius 1/255.
        l2: L2 norm, (n,).
        linf: L-infinity norm, (n,).
        zeros: share of the entries that are exactly 0, in [0, 1], (n,). At 1 a gradient
            attack cannot work, which does not mean that the network is robust.
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


def gradient_norms(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    batch_size: int = 250,
) -> GradientNorms:
    """Norms of the cross-entropy's gradient with respect to the pixels.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        batch_size: number of images per batch; results do not depend on it.

    Returns:
        A `GradientNorms`.

    Raises:
        ValueError: if the logits cannot be found or an argument is invalid.

    Example:
        >>> from inres_tf import analysis, data
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> test = data.load("digits").test.take(slice(2))
        >>> analysis.gradient_norms(model, test.images, test.labels).l1.shape
        (2,)

    Reference:
        Simon-Gabriel et al., First-Order Adversarial Vulnerability of Neural Networks
        and Input Dimension, ICML 2019, section 2. Zeros: Athalye, Carlini, Wagner,
        Obfuscated Gradients Give a False Sense of Security, ICML 2018.
    """
    model, images, labels = compiled.prepare(model, images, labels)
    rows = compiled.input_gradients(model, images, labels, "loss", batch_size)
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    magnitudes = np.abs(rows)
    return GradientNorms(
        l1=magnitudes.sum(1),
        l2=np.sqrt((rows**2).sum(1)),
        linf=magnitudes.max(1),
        zeros=(rows == 0).mean(1),
    )
