"""The norms of the balls that attacks search."""

import math

# Orders of the norms, as in NumPy and cleverhans.
NORMS = {"linf": math.inf, "l2": 2}


def norm_order(norm: str | float) -> float:
    """Returns the order of a norm, `np.inf` or 2.

    Args:
        norm: `"linf"` or `"l2"`, in upper or lower case, or an order.

    Raises:
        ValueError: for anything else.

    Example:
        >>> from inres_tf.attacks.norms import norm_order
        >>> norm_order("linf"), norm_order("l2")
        (inf, 2)
    """
    if isinstance(norm, str) and norm.lower() in NORMS:
        return NORMS[norm.lower()]
    if not isinstance(norm, str) and norm in NORMS.values():
        return norm
    raise ValueError(f"`norm` must be 'linf' or 'l2'. Received: norm={norm!r}")
