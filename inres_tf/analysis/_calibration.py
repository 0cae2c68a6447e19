"""Calibration: whether a network is right as often as it is confident."""

import dataclasses

import numpy as np

from inres_tf import corruptions as corruption_module
from inres_tf.analysis import compiled
from inres_tf.progress import bar


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy of labelled images, by bins of the confidence.

    The confidence is the probability of the class that the network gives. Bin i of the
    M bins is (i / M, (i + 1) / M], the first one with 0.

    Attributes:
        count: images in each bin, (bins,).
        confidence_by_bin: mean confidence in each bin, (bins,); nan in empty ones.
        accuracy_by_bin: accuracy in each bin, (bins,); nan in empty ones.
        confidence: mean confidence over all.
        accuracy: accuracy over all.
        ece: expected calibration error, the mean over the images of the gap between
            the confidence and the accuracy of their bin, in [0, 1].
        mce: maximum calibration error, the greatest gap of a bin, in [0, 1].
        brier: Brier score, the mean squared distance between the probabilities and the
            one-hot label, in [0, 2].
        nll: mean negative log-likelihood, in nats.
    """

    count: np.ndarray
    confidence_by_bin: np.ndarray
    accuracy_by_bin: np.ndarray
    confidence: float
    accuracy: float
    ece: float
    mce: float
    brier: float
    nll: float

    def summary(self) -> dict[str, float]:
        """The numbers over all images."""
        names = ("accuracy", "confidence", "ece", "mce", "brier", "nll")
        return {name: getattr(self, name) for name in names}


def calibration(logits, labels, bins: int = 15) -> Calibration:
    """Calibration of predictions.

    Args:
        logits: (number, classes), at least one row.
        labels: true classes, integers, (number,).
        bins: number of equal-width bins of the confidence.

    Returns:
        A `Calibration`.

    Raises:
        ValueError: if the shapes do not fit, or `bins` is less than 1.

    Reference:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML
        2017, section 2. Brier: Verification of Forecasts Expressed in Terms of
        Probability, 1950, over all classes.
    """
    compiled.check_range("bins", bins, 1, 10**6)
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or not len(logits) or labels.shape != logits.shape[:1]:
        raise ValueError(
            "`logits` must be (number, classes), at least one, with a label each. "
            f"Received: logits of shape {logits.shape}, labels of shape {labels.shape}"
        )
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    total = powers.sum(-1, keepdims=True)
    probabilities = powers / total
    confidence = probabilities.max(-1)
    right = logits.argmax(-1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # empty bins: nan
        means = [
            np.bincount(place, values, minlength=bins) / count
            for values in (confidence, right)
        ]
    gap = np.nan_to_num(np.abs(means[0] - means[1]))
    chosen = np.take_along_axis(logits, labels[:, None], -1)
    losses = np.log(total) + logits.max(-1, keepdims=True) - chosen
    one_hot = np.arange(logits.shape[1]) == labels[:, None]
    return Calibration(
        count,
        *means,
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
        ece=float((gap * count).sum() / len(labels)),
        mce=float(gap.max()),
        brier=float(((probabilities - one_hot) ** 2).sum(-1).mean()),
        nll=float(losses.mean()),
    )


@dataclasses.dataclass(frozen=True)
class CorruptedCalibration:
    """Calibration on clean and on corrupted images.

    Attributes:
        clean: on the images as they are.
        corrupted: by (name of the corruption, severity).
        severity: which one the reliability diagram shows.
    """

    clean: Calibration
    corrupted: dict[tuple[str, int], Calibration]
    severity: int

    def _sets(self):
        return {"clean": self.clean} | {
            f"{name} {severity}": found
            for (name, severity), found in self.corrupted.items()
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, one row a set of images; `sets` names them."""
        sets = self._sets()
        fields = [field.name for field in dataclasses.fields(Calibration)]
        rows = {f: np.array([getattr(c, f) for c in sets.values()]) for f in fields}
        return {"sets": np.array(list(sets))} | rows

    def summary(self) -> dict[str, dict[str, float]]:
        """The numbers of each set of images."""
        return {name: found.summary() for name, found in self._sets().items()}


def corrupted_calibration(
    model,
    images,
    labels,
    *,
    corruptions=tuple(corruption_module.CORRUPTIONS),
    severity: int = 5,
    bins: int = 15,
    seed: int = 0,
    batch_size: int = 250,
    progress: bool = False,
) -> CorruptedCalibration:
    """Calibration on images, and on them corrupted at every severity.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: uint8 pixels, (number, height, width, channels).
        labels: true classes, integers, (number,).
        corruptions: names of `inres_tf.corruptions.CORRUPTIONS`; may be none.
        severity: which one the reliability diagram shows, 1 to 5.
        bins: as in `calibration`.
        seed: of the noise.
        batch_size: images at a time.
        progress: whether to show a progress bar.

    Returns:
        A `CorruptedCalibration`.

    Raises:
        ValueError: if the logits cannot be found or an argument is wrong.

    Reference:
        Ovadia et al., Can You Trust Your Model's Uncertainty? NeurIPS 2019.
    """
    compiled.check_range("severity", severity, 1, 5)
    network, floats, labels = compiled.prepare(model, images, labels)

    def measure(pixels):
        scores = compiled.logits(network, pixels, batch_size)
        return calibration(scores, labels, bins)

    cells = [(n, s) for n in corruptions for s in corruption_module.SEVERITIES]
    return CorruptedCalibration(
        measure(floats),
        {
            cell: measure(corruption_module.corrupt(images, *cell, seed))
            for cell in bar(cells, "calibration", "set", disable=not progress)
        },
        severity,
    )
