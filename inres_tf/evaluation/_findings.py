"""What all checks of an evaluation return; see `inres_tf.evaluation.checks`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# A check's outcome: an item of the `"checks"` of a result.
Finding = dict[str, Any]
# An attack: a row of the `"attacks"` of a result.
Row = Mapping[str, Any]


def finding(name: str, raised: Any, value: Any, message: str) -> Finding:
    """Returns the finding of a check.

    Args:
        name: name of the check.
        raised: whether it is raised; anything with a truth value.
        value: the measured value, which JSON can represent.
        message: explanation for the user, dropped unless the check is raised.
    """
    if isinstance(value, float) and not np.isfinite(value):
        value = None  # JSON cannot represent it
    return {
        "name": name,
        "raised": bool(raised),
        "value": value,
        "message": message if raised else "",
    }


def many(count: float, number: int) -> bool:
    """Whether a count of images is more than 1% of their number, and at least two."""
    return count >= 2 and count > 0.01 * number
