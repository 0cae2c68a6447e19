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


def default_step_size(norm: str | float, eps: float, steps: int) -> float:
    """Returns the usual step size of attacks that take it as an argument.

    Args:
        norm: the norm, as for `norm_order`.
        eps: radius of the ball, in 1/255 of the pixel range.
        steps: number of steps.

    Returns:
        1, as in the In-ResNet paper, for `"linf"`, and 2.5 eps / steps for `"l2"`, in
        1/255 of the pixel range.

    Example:
        >>> from inres_tf.attacks.norms import default_step_size
        >>> default_step_size("linf", 8, 20), default_step_size("l2", 128, 20)
        (1.0, 16.0)
    """
    return 1.0 if norm_order(norm) == math.inf else 2.5 * eps / steps
