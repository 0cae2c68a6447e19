"""The outcomes of corruptions in an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from inres_tf import corruptions


class Corrupted(NamedTuple):
    """Outcome of a corruption.

    Attributes:
        accuracies: by severity, and their mean.
        correct: whether each image is classified correctly, by key.
        unchanged: severities that leave all images as they are.
    """

    accuracies: dict[str, float]
    correct: dict[str, np.ndarray]
    unchanged: list[str]


def summary(
    result: Mapping[str, Any], baseline: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns the means over the corruptions, as entries of the result.

    Args:
        result: the result so far. Corruptions that leave all images as they are do not
            count.
        baseline: result of the baseline of the mean corruption error, or None.
    """
    summary: dict[str, Any] = {}
    accuracies = corruptions.effective(result)
    if not accuracies:
        return summary
    summary["mean_corruption_accuracy"] = corruptions.mean_accuracy(accuracies)
    if baseline:
        errors = corruptions.mce(accuracies, baseline["corruptions"])
        same = {name: baseline["corruptions"][name] for name in accuracies}
        summary["mce"] = errors["mce"]
        summary["relative_errors"] = errors["relative"]
        mean = corruptions.mean_accuracy(same)
        summary["baseline"] = f"{baseline['model']}, mCA {mean:.4f}"
    return summary
