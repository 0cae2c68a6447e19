"""Calibration: whether a network is correct as often as it is confident."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from inres_tf import corruptions as corruption_module
from inres_tf import labels as label_checks
from inres_tf.analysis import compiled
from inres_tf.distribution.classifier import is_correct
from inres_tf.progress import bar

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy of labelled images, by bins of the confidence.

    The confidence is the probability of the predicted class. Bin i of M is
    (i / M, (i + 1) / M]; the first one includes 0.

    Attributes:
        count: number of images in each bin, (bins,).
        confidence_by_bin: mean confidence in each bin, (bins,); nan in empty bins.
        accuracy_by_bin: accuracy in each bin, (bins,); nan in empty bins.
        confidence: mean confidence over all images.
        accuracy: accuracy over all images.
        ece: expected calibration error: the mean over the images of the gap between
            confidence and accuracy in their bin, in [0, 1].
        mce: maximum calibration error: the largest gap of a bin, in [0, 1].
        brier: Brier score, the mean squared distance between the probabilities and the
            one-hot label, in [0, 2].
        nll: mean negative log-likelihood, in nats.
        non_finite: number of images with a logit that is not finite. They are
            misclassified and in no bin. If there are any, `confidence`, `ece`, `mce`,
            `brier` and `nll` are undefined: nan.
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
    non_finite: int = 0

    def summary(self) -> dict[str, float]:
        """The scalar attributes by name."""
        names = ("accuracy", "confidence", "ece", "mce", "brier", "nll")
        return {name: getattr(self, name) for name in names}


def calibration(
    logits: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 15
) -> Calibration:
    """Calibration of predictions.

    Args:
        logits: logits, (number, classes), at least one row.
        labels: true classes, integers, (number,).
        bins: number of equal-width bins of the confidence.

    Returns:
        A `Calibration`.

    Raises:
        ValueError: if the shapes do not match, or `bins` is less than 1.

    Example:
        >>> from inres_tf import analysis
        >>> result = analysis.calibration([[0.0, 4.0], [3.0, 0.0]], [1, 1], bins=5)
        >>> result.accuracy, round(result.ece, 3)
        (0.5, 0.467)

    Reference:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML
        2017, section 2. Brier: Verification of Forecasts Expressed in Terms of
        Probability, 1950, over all classes.
    """
    compiled.check_range("bins", bins, 1, 10**6)
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or not len(logits):
        raise ValueError(
            "`logits` must be (number, classes) with at least one row. Received: "
            f"logits of shape {logits.shape}"
        )
    labels = label_checks.checked(labels, *logits.shape)
    finite = np.isfinite(logits).all(-1)
    accuracy = float(is_correct(logits, labels).mean())
    scores: np.ndarray = logits[finite]
    true: np.ndarray = labels[finite]
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    total = powers.sum(-1, keepdims=True)
    probabilities = powers / total
    confidence = probabilities.max(-1)
    correct = scores.argmax(-1) == true
    edges = np.linspace(0, 1, bins + 1)
    indices = np.digitize(confidence, edges[1:-1], right=True)
    count = np.bincount(indices, minlength=bins)
    with np.errstate(invalid="ignore"):  # empty bins: nan
        mean_confidence, mean_accuracy = (
            np.bincount(indices, values, minlength=bins) / count
            for values in (confidence, correct)
        )
    scalars = dict.fromkeys(("confidence", "ece", "mce", "brier", "nll"), float("nan"))
    if finite.all():
        gap = np.nan_to_num(np.abs(mean_confidence - mean_accuracy))
        of_true = np.take_along_axis(scores, true[:, None], -1)
        losses = np.log(total) + scores.max(-1, keepdims=True) - of_true
        one_hot = np.arange(scores.shape[1]) == true[:, None]
        scalars = {
            "confidence": float(confidence.mean()),
            "ece": float((gap * count).sum() / len(true)),
            "mce": float(gap.max()),
            "brier": float(((probabilities - one_hot) ** 2).sum(-1).mean()),
            "nll": float(losses.mean()),
        }
    return Calibration(
        count=count,
        confidence_by_bin=mean_confidence,
        accuracy_by_bin=mean_accuracy,
        accuracy=accuracy,
        non_finite=int((~finite).sum()),
        **scalars,
    )


@dataclasses.dataclass(frozen=True)
class CorruptedCalibration:
    """Calibration on clean and on corrupted images.

    Attributes:
        clean: calibration on the clean images.
        corrupted: calibration by (name of the corruption, severity).
        severity: severity shown in the reliability diagram.
    """

    clean: Calibration
    corrupted: dict[tuple[str, int], Calibration]
    severity: int

    def sets(self) -> dict[str, Calibration]:
        """Calibration of each set of images, by name."""
        return {"clean": self.clean} | {
            f"{name} {severity}": result
            for (name, severity), result in self.corrupted.items()
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, one row per set of images; `sets` holds their names."""
        sets = self.sets()
        fields = [field.name for field in dataclasses.fields(Calibration)]
        rows = {f: np.array([getattr(c, f) for c in sets.values()]) for f in fields}
        return {"sets": np.array(list(sets))} | rows

    def summary(self) -> dict[str, dict[str, float]]:
        """`Calibration.summary` of each set of images, by name."""
        return {name: result.summary() for name, result in self.sets().items()}


def corrupted_calibration(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    corruptions: Iterable[str] = tuple(corruption_module.CORRUPTIONS),
    severity: int = 5,
    bins: int = 15,
    seed: int = 0,
    batch_size: int = 250,
    progress: bool = False,
) -> CorruptedCalibration:
    """Calibration on clean images and under corruptions of every severity.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: uint8 pixels, (number, height, width, channels).
        labels: true classes, integers, (number,).
        corruptions: names of `inres_tf.corruptions.CORRUPTIONS`; may be empty.
        severity: severity shown in the reliability diagram, 1 to 5.
        bins: number of equal-width bins of the confidence.
        seed: seed of the corruptions.
        batch_size: number of images per batch.
        progress: whether to show a progress bar.

    Returns:
        A `CorruptedCalibration`.

    Raises:
        ValueError: if the logits cannot be found or an argument is invalid.

    Example:
        >>> from inres_tf import analysis, data
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> test = data.load("digits").test.take(slice(20))
        >>> result = analysis.corrupted_calibration(
        ...     model, test.images, test.labels, corruptions=("fog",))
        >>> list(result.summary())
        ['clean', 'fog 1', 'fog 2', 'fog 3', 'fog 4', 'fog 5']

    Reference:
        Ovadia et al., Can You Trust Your Model's Uncertainty? NeurIPS 2019.
    """
    compiled.check_range("severity", severity, 1, 5)
    network, floats, labels = compiled.prepare(model, images, labels)

    def measure(pixels):
        scores = compiled.logits(network, pixels, batch_size)
        return calibration(scores, labels, bins)

    levels = [(n, s) for n in corruptions for s in corruption_module.SEVERITIES]
    return CorruptedCalibration(
        clean=measure(floats),
        corrupted={
            (name, level): measure(corruption_module.corrupt(images, name, level, seed))
            for name, level in bar(levels, "calibration", "set", disable=not progress)
        },
        severity=severity,
    )
