"""Confidence intervals of accuracies and tests of their differences."""

import math
import statistics
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # whose parts load when they are used


def wilson(successes: float, number: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Unlike the normal approximation, mean ± 1.96 standard errors, it keeps its level
    near 0 and 1 and for few images. It may also be given the mean of several answers
    per image: since that varies no more than a single answer, the interval is, if
    anything, too wide.

    Args:
        successes: number of correct answers in [0, number]; may be fractional.
        number: number of images, at least 1.
        level: confidence level in (0, 1).

    Returns:
        Lower and upper end of the interval, in [0, 1].

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from inres_tf.reporting import statistics
        >>> low, high = statistics.wilson(90, 100)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.826 to 0.945

    Reference:
        Wilson: Probable Inference, the Law of Succession, and Statistical Inference,
        JASA 1927.
    """
    if not 0 <= successes <= number or number < 1 or not 0 < level < 1:
        raise ValueError(
            "`successes` must be in [0, number], `number` at least 1 and `level` in "
            f"(0, 1). Received: successes={successes}, number={number}, level={level}"
        )
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    rate, scale = successes / number, 1 + z**2 / number
    middle = (rate + z**2 / (2 * number)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / number + z**2 / (4 * number**2))
    # At the ends the formula equals 0 and 1 up to rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == number else middle + half
    return low, high


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[int, int, float]:
    """Exact McNemar test of whether two classifiers are equally accurate.

    Only images on which the classifiers differ matter. If both are equally good, each
    such image favours either with probability 1/2.

    Args:
        first: whether the first classifier is correct on each image, (number,).
        second: the same for the second classifier.

    Returns:
        Number of images on which only the first is correct, number of images on which
        only the second is, and the two-sided p value.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> from inres_tf.reporting import statistics
        >>> statistics.mcnemar([1, 1, 1, 1, 0], [0, 0, 0, 1, 1])
        (3, 1, 0.625)

    Reference:
        McNemar: Note on the Sampling Error of the Difference Between Correlated
        Proportions or Percentages, Psychometrika 1947. Exact: Dixon and Mood, The
        Statistical Sign Test, JASA 1946.
    """
    first, second = _of_same_shape(first, second, bool)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    p = scipy.stats.binomtest(b, b + c).pvalue if b + c else 1.0
    return b, c, float(p)


class ImageTest(NamedTuple):
    """A test over images of whether two classifiers are equally accurate.

    Attributes:
        name: `"McNemar"` or `"t over images"`.
        better: number of images on which the first has more correct answers.
        worse: number of images on which it has fewer.
        p: two-sided p value.
    """

    name: str
    better: int
    worse: int
    p: float


def over_images(first: npt.ArrayLike, second: npt.ArrayLike) -> ImageTest:
    """Test of whether two classifiers have the same mean accuracy on the same images.

    With one answer per image it is the exact McNemar test. A mean over several
    corrupted versions of each image is tested by Student's paired t test of the images'
    differences: a classifier may be better on fewer images, but by more, so counting
    images would test something else than the mean. Where all images that differ do so
    by the same amount, the two hypotheses are one, and McNemar's test, being exact, is
    used.

    Args:
        first: number of correct answers of the first classifier on each image,
            (number,).
        second: the same for the second classifier, out of as many answers.

    Returns:
        The test.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> from inres_tf.reporting import statistics
        >>> test = statistics.over_images([5, 4, 3, 2, 0], [3, 3, 3, 3, 0])
        >>> print(f"{test.name}: {test.better}, {test.worse}, p = {test.p:.3f}")
        t over images: 2, 1, p = 0.477

    Reference:
        Student: The Probable Error of a Mean, Biometrika 1908, and `mcnemar`.
    """
    first, second = _of_same_shape(first, second, int)
    difference = first - second
    better, worse, p = mcnemar(difference > 0, difference < 0)
    amounts = np.unique(np.abs(difference[difference != 0]))
    if len(amounts) < 2:
        return ImageTest("McNemar", better, worse, p)
    p = float(scipy.stats.ttest_rel(first, second).pvalue)
    return ImageTest("t over images", better, worse, p)


def _of_same_shape(first, second, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays; raises a ValueError if their shapes differ."""
    first, second = np.asarray(first, dtype), np.asarray(second, dtype)
    if first.shape != second.shape:
        raise ValueError(
            "`first` and `second` must have the same shape. Received: shapes "
            f"{first.shape} and {second.shape}"
        )
    return first, second


class SeedTest(NamedTuple):
    """A test over seeds of whether two models are equally accurate.

    Attributes:
        name: `"paired t"` or `"Welch t"`.
        low: lower end of the confidence interval of the difference.
        high: its upper end.
        p: two-sided p value.
    """

    name: str
    low: float
    high: float
    p: float


def over_seeds(
    first: npt.ArrayLike, second: npt.ArrayLike, paired: bool, level: float = 0.95
) -> SeedTest | None:
    """Student's t test of whether two models are equally accurate over seeds.

    Unlike a test over images, it is about training with any seed, not about these
    networks.

    Args:
        first: accuracy of the first model for each seed, (seeds,).
        second: the same for the second model.
        paired: whether both are of the same seeds, in the same order. Otherwise Welch's
            test is used, which allows different variances and numbers of seeds.
        level: confidence level in (0, 1) of the interval.

    Returns:
        The test of the first minus the second. None if a model has a single seed, or if
        nothing varies over the seeds although the means differ: then there is nothing
        to measure the difference against.

    Raises:
        ValueError: if `paired` and the numbers of seeds differ.

    Example:
        >>> from inres_tf.reporting import statistics
        >>> test = statistics.over_seeds([0.92, 0.91, 0.94], [0.9, 0.9, 0.91], True)
        >>> print(f"{test.name}: {test.low:.3f} to {test.high:.3f}, p = {test.p:.3f}")
        paired t: -0.005 to 0.045, p = 0.074

    Reference:
        Student: The Probable Error of a Mean, Biometrika 1908. Welch: The
        Generalization of "Student's" Problem when Several Different Population
        Variances are Involved, Biometrika 1947.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if paired and first.shape != second.shape:
        raise ValueError(
            "Paired samples must have the same shape. Received: shapes "
            f"{first.shape} and {second.shape}"
        )
    if min(len(first), len(second)) < 2:
        return None
    name = "paired t" if paired else "Welch t"
    samples = [first - second] if paired else [first, second]
    difference = float(first.mean() - second.mean())
    # Equal up to rounding, such as 0.9 - 0.8 and 0.8 - 0.7.
    if max(map(np.ptp, samples)) < 1e-9:
        return SeedTest(name, 0.0, 0.0, 1.0) if abs(difference) < 1e-9 else None
    variances = [np.var(values, ddof=1) / len(values) for values in samples]
    error = math.sqrt(sum(variances))
    weights = (v**2 / (len(values) - 1) for v, values in zip(variances, samples))
    freedom = error**4 / sum(weights)  # paired: the number of pairs minus 1
    half = float(scipy.stats.t.ppf((1 + level) / 2, freedom)) * error
    p = 2 * float(scipy.stats.t.sf(abs(difference) / error, freedom))
    return SeedTest(name, difference - half, difference + half, p)


def holm(p_values: npt.ArrayLike) -> list[float]:
    """Adjusts the p values of several tests for their number, by Holm's method.

    Rejecting every hypothesis whose adjusted value is below α makes any false rejection
    with probability at most α, whatever the dependence between the tests.

    Args:
        p_values: p values in [0, 1], in any order.

    Returns:
        The adjusted p values, in the same order.

    Example:
        >>> from inres_tf.reporting import statistics
        >>> statistics.holm([0.25, 0.125])
        [0.25, 0.25]

    Reference:
        Holm: A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian
        Journal of Statistics 1979.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * factors)
    return np.minimum(adjusted, 1.0).tolist()
