"""The five dampings: how a residual block weights its shortcut and its branch.

The damped ODE dx/dt = f(x) - λ x, discretised block by block, is

    x_{l+1} = a(λ) x_l + b(λ) f(x_l)

(Yang et al., "Interpolation between Residual and Non-Residual Networks",
ICML 2020, arXiv 2006.05749). The table `DAMPINGS` holds a, b and the map from the
trainable scalar k to λ of each damping.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from inres_tf.solvers.fixed_step import phi1


@dataclass(frozen=True)
class Damping:
    """One row of the table of dampings.

    Attributes:
        shortcut: a(λ), the weight of the shortcut.
        branch: b(λ), the weight of the branch.
        rate: λ as a function of the trainable scalar k; None if λ is fixed.
        scalar: k as a function of λ >= 0, the inverse of `rate`.
        init: range of the uniform initial distribution of k, for depth <= 110.
        init_deep: the same for deeper networks.
        fixed_rate: λ if there is no k.
    """

    shortcut: Callable[[Any], Any]
    branch: Callable[[Any], Any]
    rate: Callable[[Any], Any] | None = None
    scalar: Callable[[float], float] | None = None
    init: tuple[float, float] | None = None
    init_deep: tuple[float, float] | None = None
    fixed_rate: float | None = None


def _relu(k):
    """ReLU with derivative 1 instead of 0 at 0.

    Otherwise a network damped at rate 0 could never train its rate.
    """
    return k + ops.relu(-k)


def _one(rate):
    return ops.ones_like(rate)


DAMPINGS = {
    "none": Damping(shortcut=_one, branch=_one, fixed_rate=0.0),
    "in": Damping(
        shortcut=lambda rate: 1.0 - rate,
        branch=_one,
        rate=lambda k: _relu(1.0 - k),
        scalar=lambda rate: 1.0 - rate,
        init=(0.75, 0.80),
        init_deep=(0.8, 0.9),
    ),
    "lambda_in": Damping(
        shortcut=lambda rate: 1.0 - rate,
        branch=lambda rate: 1.0 + rate,
        rate=_relu,
        scalar=lambda rate: rate,
        init=(0.20, 0.25),
        init_deep=(0.1, 0.2),
    ),
    "exponential": Damping(
        shortcut=lambda rate: ops.exp(-rate),
        branch=phi1,
        rate=_relu,
        scalar=lambda rate: rate,
        init=(0.20, 0.25),
        init_deep=(0.1, 0.2),
    ),
    "plain": Damping(shortcut=ops.zeros_like, branch=_one, fixed_rate=1.0),
}


def get(name: str) -> Damping:
    """Returns the damping called `name`.

    Args:
        name: a key of `DAMPINGS`.

    Raises:
        ValueError: if the name is unknown.
    """
    if not isinstance(name, str) or name not in DAMPINGS:
        raise ValueError(
            f"`damping` must be one of {', '.join(map(repr, DAMPINGS))}. "
            f"Received: damping={name!r}"
        )
    return DAMPINGS[name]


def rate_of(name: str, k: Any) -> Any:
    """λ of the trainable scalar k, under a damping that has one.

    Args:
        name: a key of `DAMPINGS`.
        k: scalar tensor.

    Raises:
        ValueError: if there is no such damping, or its λ is fixed.
    """
    rate = get(name).rate
    if rate is None:
        raise ValueError(f"damping={name!r} has a fixed λ and no scalar k.")
    return rate(k)


def scalar_of(name: str, rate: float) -> float | None:
    """Returns the k with which λ = `rate`; None for a damping without k.

    Args:
        name: a key of `DAMPINGS`.
        rate: λ, a finite number >= 0; must be 0 if the damping has no k.

    Raises:
        ValueError: if the name is unknown or `rate` is out of range.
    """
    scalar = get(name).scalar
    try:
        value = float("nan" if isinstance(rate, (str, bool)) else rate)
    except (OverflowError, TypeError, ValueError):
        value = float("nan")
    if not 0 <= value < float("inf") or (value and scalar is None):
        allowed = "0" if scalar is None else "a finite number >= 0"
        raise ValueError(
            f"`rate` must be {allowed} under damping={name!r}. Received: rate={rate!r}"
        )
    return None if scalar is None else scalar(value)


def scalar_range(name: str, depth: int) -> tuple[float, float] | None:
    """Returns the range of the uniform initial distribution of k.

    Args:
        name: a key of `DAMPINGS`.
        depth: number of weighted layers of the network.

    Returns:
        (low, high), or None for a damping without k.
    """
    damping = get(name)
    return damping.init if depth <= 110 else damping.init_deep
