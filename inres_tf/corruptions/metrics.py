"""Summaries over corruptions: mean accuracy (mCA) and mean corruption error (mCE)."""

import statistics

from inres_tf.errors import UserError


def mean_accuracy(corruptions) -> float:
    """Mean over the corruptions of the mean accuracy over their severities.

    Args:
        corruptions: the `"corruptions"` of a result of `inres_tf.evaluation.evaluate`:
            for each name, accuracies in [0, 1] by severity, `"1"` to `"5"`.

    Raises:
        UserError: if there is no corruption.
    """
    if not corruptions:
        raise UserError("the result has no corruptions to take the mean accuracy of")
    return statistics.fmean(1 - error for error in _errors(corruptions).values())


def mce(corruptions, baseline) -> dict:
    """Mean corruption error, relative to a baseline.

    A corruption's error is the sum of the errors over the severities divided by the
    baseline's (Hendrycks & Dietterich 2019, section 4.2, where it is in per cent and
    the baseline is AlexNet).

    Args:
        corruptions: as in `mean_accuracy`.
        baseline: the same of the baseline; it may hold more corruptions.

    Returns:
        `{"mce": mean over the corruptions, "relative": {name: error}}`, in [0, inf); 1
        is as good as the baseline and less is better.

    Raises:
        UserError: if there is no corruption, or the baseline lacks one, has other
            severities for it or makes no errors on it.
    """
    if not corruptions:
        raise UserError("the result has no corruptions to take the mCE of")
    lacking = [name for name in corruptions if name not in baseline]
    if lacking:
        raise UserError(
            f"the baseline lacks {', '.join(lacking)}; it has: "
            f"{', '.join(baseline) or 'no corruptions'}"
        )
    for name, by_severity in corruptions.items():
        ours, theirs = (sorted(_severities(by)) for by in (by_severity, baseline[name]))
        if ours != theirs:
            raise UserError(
                f"{name} has severities {', '.join(ours)} in the result and "
                f"{', '.join(theirs)} in the baseline; they must be the same"
            )
    errors, base = _errors(corruptions), _errors(baseline)
    perfect = [name for name in errors if not base[name]]
    if perfect:
        raise UserError(
            f"the baseline makes no errors on {', '.join(perfect)}, to which no error "
            "can be relative; give a weaker baseline or leave these out"
        )
    relative = {name: errors[name] / base[name] for name in errors}
    return {"mce": statistics.fmean(relative.values()), "relative": relative}


def _severities(by_severity):
    return [key for key in by_severity if key != "mean"]


def _errors(corruptions):
    """Mean error over the severities of each corruption."""
    return {
        name: statistics.fmean(1 - by[key] for key in _severities(by))
        for name, by in corruptions.items()
    }
