"""Certified radii of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inres_tf import labels as label_checks
from inres_tf.errors import UserError
from inres_tf.progress import bar
from inres_tf.verifier.chain import Chain

_BATCH = 50


def certified_radii(
    logits: npt.ArrayLike, labels: npt.ArrayLike, constants: npt.ArrayLike
) -> np.ndarray:
    """The distances up to which no image is classified differently.

    Args:
        logits: (number, classes).
        labels: true classes, (number,).
        constants: Lipschitz constants of the differences of two logits, (classes,
            classes), of which the diagonal is not used.

    Returns:
        min over j of (f_y - f_j) / L_yj, float64, (number,), in the units of the
        constants; -1 for images that are not predicted as y.

    Example:
        >>> from inres_tf import verifier
        >>> constants = [[0, 2], [2, 0]]
        >>> verifier.certified_radii([[5, 1], [0, 3]], [0, 0], constants).tolist()
        [2.0, -1.0]

    Reference:
        Tsuzuku, Sato, Sugiyama: Lipschitz-Margin Training, NeurIPS 2018, proposition 1.
    """
    logits, constants = np.asarray(logits, float), np.asarray(constants, float)
    labels = label_checks.checked(labels, *logits.shape)
    own = np.arange(logits.shape[1]) == labels[:, None]
    margins = logits[np.arange(len(labels)), labels][:, None] - logits
    # Logits that always differ by the same certify any distance.
    with np.errstate(divide="ignore", invalid="ignore"):
        radii = np.where(margins > 0, margins / constants[labels], -1.0)
    return np.where(own, np.inf, radii).min(1)


def verify(
    chain: Chain,
    images: np.ndarray,
    labels: np.ndarray,
    radii: Sequence[float] = (36.0, 72.0, 108.0),
    progress: bool = False,
) -> dict[str, Any]:
    """Certifies images.

    Args:
        chain: the classifier.
        images: pixels in [0, 255], (number, height, width, channels).
        labels: true classes, integers, (number,).
        radii: L2 radii of the certified accuracy, in 1/255 of the pixel range.
        progress: whether to show a progress bar.

    Returns:
        Dict with `num_examples`, `clean` and `certificates` as in a result file, the
        `lipschitz` constant of each layer, and the certified radius of each image in
        `radii`, in 1/255 of the pixel range: -1 for misclassified images, and at most
        the largest distance within the pixel range.

    Raises:
        UserError: if the images have another shape or more classes than the chain.

    Example:
        >>> import keras
        >>> from inres_tf import data, verifier
        >>> model = zoo.get_model("cpl_tiny", input_shape=(8, 8, 1))
        >>> model.save("model.keras")
        >>> test = data.load("digits").test.take(slice(20))
        >>> chain = verifier.read_chain("model.keras")
        >>> report = verifier.verify(chain, test.images, test.labels, radii=[36])
        >>> report["num_examples"], list(report["certificates"]["radii"])
        (20, ['36'])
    """
    images = np.asarray(images)
    labels = label_checks.checked(labels, len(images))
    if images.shape[1:] != chain.shape:
        raise UserError(
            f"the model takes images of shape {chain.shape}, but those of the dataset "
            f"have {images.shape[1:]}; pass the --dataset it was trained on"
        )
    if labels.max() >= chain.classes:
        raise UserError(
            f"the model has {chain.classes} classes, but the dataset has at least "
            f"{labels.max() + 1}; pass the --dataset it was trained on"
        )
    starts = range(0, len(images), _BATCH)
    logits = np.concatenate(
        [
            chain.logits(images[start : start + _BATCH])
            for start in bar(starts, "certifying", "batch", disable=not progress)
        ]
    )
    found = certified_radii(logits, labels, chain.constants())
    found = np.minimum(found, 255 * np.sqrt(np.prod(chain.shape)))
    accuracies = {f"{radius:g}": float((found >= radius).mean()) for radius in radii}
    return {
        "num_examples": len(images),
        "clean": {"accuracy": float((logits.argmax(1) == labels).mean())},
        "certificates": {"method": "lipschitz", "radii": accuracies},
        "lipschitz": {link.name: link.map.lipschitz for link in chain.links},
        "radii": found.tolist(),
    }
