"""The norms whose balls attacks search."""

import math

# Names of the norms, and their orders as cleverhans and NumPy have them.
NORMS = {"linf": math.inf, "l2": 2}


def norm_order(norm: str | float) -> float:
    """The order of a norm, `np.inf` or 2.

    Args:
        norm: `"linf"` or `"l2"`, in any case, or an order.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(norm, str) and norm.lower() in NORMS:
        return NORMS[norm.lower()]
    if norm in NORMS.values():
        return norm
    raise ValueError(f"`norm` must be 'linf' or 'l2'. Received: norm={norm!r}")
