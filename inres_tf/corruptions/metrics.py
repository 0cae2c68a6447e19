"""Mean accuracy (mCA) and mean corruption error (mCE) over corruptions."""

import statistics
from collections.abc import Mapping
from typing import Any

from inres_tf.errors import UserError


def effective(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns the corruptions of a result, but not those that change no image.

    Grey images, for example, have no saturation to change.

    Args:
        result: a result of `inres_tf.evaluation.evaluate`.

    Returns:
        The items of its `"corruptions"` with at least one severity that is not among
        the `"unchanged_corruptions"`.

    Example:
        >>> from inres_tf import corruptions
        >>> same = {"1": 0.5, "2": 0.5, "mean": 0.5}
        >>> result = {"corruptions": {"fog": same, "saturate": same}}
        >>> result["unchanged_corruptions"] = {"fog": ["1"], "saturate": ["1", "2"]}
        >>> list(corruptions.effective(result))
        ['fog']
    """
    unchanged = result.get("unchanged_corruptions", {})
    return {
        name: by_severity
        for name, by_severity in result.get("corruptions", {}).items()
        if set(_severities(by_severity)) - set(unchanged.get(name, ()))
    }


def mean_accuracy(corruptions: Mapping[str, Mapping[str, float]]) -> float:
    """Returns the mean over the corruptions of their mean accuracy over the severities.

    Args:
        corruptions: accuracies in [0, 1] by severity, `"1"` to `"5"`, by name of the
            corruption: the `"corruptions"` of a result of
            `inres_tf.evaluation.evaluate`.

    Raises:
        UserError: if there is no corruption.

    Example:
        >>> from inres_tf import corruptions
        >>> corruptions.mean_accuracy(
        ...     {"fog": {"1": 0.75, "2": 0.5}, "snow": {"1": 0.5, "2": 0.25}})
        0.5
    """
    if not corruptions:
        raise UserError(
            "the mean accuracy needs a result with corruptions; it has none"
        )
    return statistics.fmean(1 - error for error in _errors(corruptions).values())


def mce(
    corruptions: Mapping[str, Mapping[str, float]],
    baseline: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Returns the mean corruption error, relative to a baseline.

    The relative error of a corruption is the sum of the errors over the severities,
    divided by that of the baseline.

    Args:
        corruptions: accuracies in [0, 1] by severity, `"1"` to `"5"`, by name of the
            corruption: the `"corruptions"` of a result of
            `inres_tf.evaluation.evaluate`.
        baseline: those of the baseline, which may have further corruptions.

    Returns:
        `{"mce": mean of the relative errors, "relative": {name: relative error}}`, in
        [0, inf). A value of 1 is as good as the baseline; lower is better.

    Raises:
        UserError: if there is no corruption, or if the baseline lacks one, has other
            severities of it or makes no errors on it.

    Example:
        >>> from inres_tf import corruptions
        >>> corruptions.mce(
        ...     {"fog": {"1": 0.75, "2": 0.5}}, baseline={"fog": {"1": 0.5, "2": 0.0}})
        {'mce': 0.5, 'relative': {'fog': 0.5}}

    Reference:
        Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common
        Corruptions and Perturbations, ICLR 2019, section 4.2, where it is in per cent
        and the baseline is AlexNet.
    """
    if not corruptions:
        raise UserError("the mCE needs a result with corruptions; it has none")
    missing = [name for name in corruptions if name not in baseline]
    if missing:
        raise UserError(
            f"the baseline lacks {', '.join(missing)}; it has: "
            f"{', '.join(baseline) or 'no corruptions'}"
        )
    for name, by_severity in corruptions.items():
        severities = sorted(_severities(by_severity))
        expected = sorted(_severities(baseline[name]))
        if severities != expected:
            raise UserError(
                f"{name} has severities {', '.join(severities)} in the result and "
                f"{', '.join(expected)} in the baseline; they must be the same"
            )
    errors, base = _errors(corruptions), _errors(baseline)
    perfect = [name for name in errors if not base[name]]
    if perfect:
        raise UserError(
            f"the baseline makes no errors on {', '.join(perfect)}, so that relative "
            "errors are undefined; use a weaker baseline or leave these out"
        )
    relative = {name: errors[name] / base[name] for name in errors}
    return {"mce": statistics.fmean(relative.values()), "relative": relative}


def _severities(by_severity):
    return [key for key in by_severity if key != "mean"]


def _errors(corruptions):
    """Returns the mean error of each corruption over its severities."""
    return {
        name: statistics.fmean(1 - by[key] for key in _severities(by))
        for name, by in corruptions.items()
    }
