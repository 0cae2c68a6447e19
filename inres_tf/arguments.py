"""Checks of arguments."""

import math
import numbers
from typing import Any


def positive_integer(name: str, value: Any) -> int:
    """Returns an argument as an integer of at least 1.

    Args:
        name: name of the argument, for the error.
        value: an integer, or a float without a fractional part.

    Raises:
        ValueError: if it is anything else.

    Example:
        >>> from inres_tf import arguments
        >>> arguments.positive_integer("steps", 4.0)
        4
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 1 or int(value) != value:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}"
        )
    return int(value)
