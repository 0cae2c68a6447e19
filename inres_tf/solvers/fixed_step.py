"""Single steps of the methods, and solvers with a fixed number of them."""

import itertools
from collections.abc import Callable, Sequence

from keras import ops

from inres_tf.solvers.replay import replay
from inres_tf.solvers.tableaus import Tableau


def combine(x, h, stages: Sequence, weights: Sequence[float]):
    """Returns x + h Σ w k, over the stages k whose weight w is not 0."""
    total = None
    for weight, stage in zip(weights, stages):
        if weight:
            term = stage if weight == 1.0 else weight * stage
            total = term if total is None else total + term
    return x if total is None else x + h * total


def runge_kutta_stages(f: Callable, tableau: Tableau, t, x, h, first=None) -> list:
    """The stages of one step.

    Args:
        f: function `(t, x)` that returns dx/dt.
        tableau: the method.
        t: time; it broadcasts against x.
        x: state, (batch, ...).
        h: step size; it broadcasts against x.
        first: the first stage, where it is known already.

    Returns:
        Tensors like x.
    """
    stages = [f(t, x) if first is None else first]
    for node, row in zip(tableau.nodes[1:], tableau.matrix[1:]):
        stages.append(f(t + node * h, combine(x, h, stages, row)))
    return stages


def runge_kutta_step(f: Callable, tableau: Tableau) -> Callable:
    """The step `(t, x, h) -> x` of a Runge-Kutta method; see `runge_kutta_stages`."""

    def step(t, x, h):
        stages = runge_kutta_stages(f, tableau, t, x, h)
        return combine(x, h, stages, tableau.weights)

    return step


def phi1(z):
    """Returns (1 - e^-z) / z, which is 1 at z = 0, for small z by its Taylor series."""
    small = ops.abs(z) < 1e-2
    safe = ops.where(small, ops.ones_like(z), z)
    series = 1.0 - z / 2.0 + z**2 / 6.0 - z**3 / 24.0
    return ops.where(small, series, -ops.expm1(-safe) / safe)


def exponential_euler_step(f: Callable, damping) -> Callable:
    """The step `(t, x, h) -> x` of dx/dt = f(t, x) - λ x, exact where f is constant.

    Args:
        f: function `(t, x)`.
        damping: λ, a scalar tensor.

    Reference:
        Hochbruck, Ostermann: Exponential Integrators, Acta Numerica 2010, section 2.
    """

    def step(t, x, h):
        z = damping * h
        return ops.exp(-z) * x + h * phi1(z) * f(t, x)

    return step


def integrate(step: Callable, x, times: Sequence, steps: int) -> list:
    """The states at several times, by equal steps between each two of them.

    Args:
        step: function `(t, x, h)` that returns the next state.
        x: state at the first time.
        times: scalar tensors.
        steps: number of steps from each time to the next.

    Returns:
        States at the times after the first.
    """

    def advance(state, h):
        t, x = state
        return t + h, step(t, x, h)

    states = []
    for start, end in itertools.pairwise(times):
        grid = ops.stack([(end - start) / steps] * steps)
        _, x = replay(advance, (start, x), grid)
        states.append(x)
    return states
