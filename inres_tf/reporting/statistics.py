"""Intervals of accuracies and tests of their differences."""

import math
import statistics

import numpy as np
from scipy import stats


def wilson(successes: float, number: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion.

    It keeps its level near 0 and 1 and for few images, where the usual one, mean ± 1.96
    standard errors, does not. The mean of several answers an image may be given too: it
    varies no more than one answer does, so that its interval is, if anything, too wide.

    Reference: Wilson, Probable inference, the law of succession, and statistical
    inference, JASA 1927.

    Args:
        successes: how many were right; the mean of several answers counts as a part.
        number: of how many, at least 1.
        level: how often such intervals hold the true proportion, in (0, 1).

    Returns:
        Its lower and upper end, in [0, 1].

    Raises:
        ValueError: if an argument is out of its range.
    """
    if not 0 <= successes <= number or number < 1 or not 0 < level < 1:
        raise ValueError(
            "wilson takes 0 <= successes <= number, number >= 1 and 0 < level < 1; got "
            f"{successes}, {number} and {level}"
        )
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    rate, scale = successes / number, 1 + z**2 / number
    middle = (rate + z**2 / (2 * number)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / number + z**2 / (4 * number**2))
    # At the ends the formula gives 0 and 1, but for rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == number else middle + half
    return low, high


def mcnemar(first, second) -> tuple[int, int, float]:
    """Exact test of whether two classifiers are right equally often on the same images.

    Only the images on which they differ tell. If the classifiers are equally good, each
    such image favours either with probability 1/2.

    Reference: McNemar, Note on the sampling error of the difference between correlated
    proportions or percentages, Psychometrika 1947; exact as Dixon & Mood, The
    statistical sign test, JASA 1946, have it, which covers counts too.

    Args:
        first: whether the first is right about each image, (number,); or how many of
            its answers about it are, out of as many as the second's.
        second: likewise of the second.

    Returns:
        Number of images on which the first does better, on which the second does, and
        the two-sided p value.

    Raises:
        ValueError: if the shapes differ.
    """
    first, second = np.asarray(first, int), np.asarray(second, int)
    if first.shape != second.shape:
        raise ValueError(
            f"mcnemar takes answers about the same images; got shapes {first.shape} "
            f"and {second.shape}"
        )
    b, c = int((first > second).sum()), int((second > first).sum())
    p = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    return b, c, float(p)


def holm(p_values) -> list[float]:
    """The p values of several tests, adjusted for their number.

    To call significant what is below α after it errs in any of them with probability α
    at most, however they depend on each other.

    Reference: Holm, A simple sequentially rejective multiple test procedure,
    Scandinavian Journal of Statistics 1979.

    Args:
        p_values: in [0, 1], in any order.

    Returns:
        The adjusted ones, in the same order.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * factors)
    return np.minimum(adjusted, 1.0).tolist()
