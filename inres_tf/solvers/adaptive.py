"""Adaptive step sizes, controlled for each sample independently of its batch.

A loop without gradients finds the steps that each sample accepts; then these steps are
replayed, and only the replay is differentiated. Step sizes count as constants in the
gradient, as is usual.

Reference:
    Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, section II.4.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from inres_tf.solvers.fixed_step import combine, runge_kutta_stages
from inres_tf.solvers.replay import replay
from inres_tf.solvers.tableaus import Tableau

# Safety factor of the next step size, and how far it may shrink and grow at once.
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
# A step of fewer units in the last place of the time fails.
_LEAST_UNITS = 16
_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}


class Tolerance(NamedTuple):
    """When a step is accepted: its error is at most atol + rtol |x|.

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: accepted and rejected steps after which a sample fails.
    """

    rtol: float
    atol: float
    max_steps: int


class Search(NamedTuple):
    """The steps that each sample of a batch accepts, without gradients.

    Attributes:
        grid: signed sizes of the accepted steps, (max_steps, batch); 0 after the last.
        next_step: size of the step that would follow, positive, (batch,).
        evaluations: evaluations of the right-hand side, int32, (batch,).
        accepted: accepted steps, int32, (batch,).
        rejected: rejected steps, int32, (batch,).
        success: whether the end was reached, (batch,).
    """

    grid: Any
    next_step: Any
    evaluations: Any
    accepted: Any
    rejected: Any
    success: Any


def column(values, x):
    """Values (batch,) in a shape that broadcasts against x (batch, ...)."""
    return ops.reshape(values, (-1, *[1] * (len(x.shape) - 1)))


def one_per_sample(x):
    """Zeros of the type of x, (batch,)."""
    flat = ops.reshape(x, (ops.shape(x)[0], -1))
    return ops.zeros_like(flat[:, 0])


def _scaled_norm(values, scale):
    """Root mean square of values / scale over each sample, (batch,)."""
    ratio = ops.reshape(values / scale, (ops.shape(values)[0], -1))
    return ops.sqrt(ops.mean(ratio * ratio, axis=1))


def initial_step(f: Callable, order: int, t, x, slope, span, tolerance: Tolerance):
    """The first step size, positive, (batch,).

    Args:
        f: function `(t, x)`.
        order: order of the method.
        t: initial time, (batch,).
        x: initial state, (batch, ...).
        slope: f(t, x).
        span: signed length of the interval, (batch,).
        tolerance: the tolerances.

    Reference:
        Hairer, Nørsett, Wanner, section II.4, "Starting Step Size".
    """
    scale = tolerance.atol + tolerance.rtol * ops.abs(x)
    size, speed = _scaled_norm(x, scale), _scaled_norm(slope, scale)
    tiny = (size < 1e-5) | (speed < 1e-5)
    guess = 0.01 * size / ops.where(tiny, ops.ones_like(speed), speed)
    guess = ops.where(tiny, ops.full_like(guess, 1e-6), guess)
    guess = ops.minimum(guess, ops.abs(span))
    move = guess * ops.sign(span)
    ahead = f(column(t + move, x), x + column(move, x) * slope)
    bend = _scaled_norm(ahead - slope, scale)
    bend = bend / ops.where(guess > 0, guess, ops.ones_like(guess))
    largest = ops.maximum(speed, bend)
    flat = largest <= 1e-15
    by_bend = (0.01 / ops.where(flat, ops.ones_like(largest), largest)) ** (
        1.0 / (order + 1)
    )
    by_bend = ops.where(flat, ops.maximum(guess * 1e-3, 1e-6), by_bend)
    return ops.minimum(ops.minimum(100 * guess, by_bend), ops.abs(span))


def _step_factor(error, after_rejection, tableau):
    """By what the step size changes after a step with this scaled error."""
    finite = ops.isfinite(error)
    bounded = ops.clip(ops.where(finite, error, ops.full_like(error, 1e9)), 1e-9, 1e9)
    factor = _SAFETY * bounded ** (-1.0 / (tableau.embedded_order + 1))
    factor = ops.clip(factor, _SHRINK, _GROW)
    return ops.where(after_rejection, ops.minimum(factor, 1.0), factor)


def search_steps(
    f: Callable, tableau: Tableau, start, end, x, step, tolerance: Tolerance
) -> Search:
    """Finds the steps that each sample accepts from one time to another.

    Args:
        f: function `(t, x)`; t is of shape (batch, 1, ...).
        tableau: a method with an error estimate.
        start: initial time, a scalar tensor.
        end: final time, a scalar tensor.
        x: initial state, (batch, ...).
        step: first step size, positive, (batch,); None: `initial_step`.
        tolerance: the tolerances.

    Returns:
        A `Search`; no gradient flows through it.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    x, start, end = (ops.stop_gradient(value) for value in (x, start, end))
    zeros = one_per_sample(x)
    counts = ops.cast(zeros, "int32")
    no = counts > 0
    direction = ops.sign(end - start)
    t = zeros + start
    slope = f(column(t, x), x)
    evaluations = counts + 1
    if step is None:
        span = zeros + end - start
        step = initial_step(f, tableau.order, t, x, slope, span, tolerance)
        evaluations = evaluations + 1
    least = _LEAST_UNITS * _EPSILON[dtype]
    least = least * ops.maximum(ops.abs(start), ops.abs(end))
    # Rejected steps are written to an extra row.
    grid = ops.zeros((tolerance.max_steps + 1, 1), dtype) + zeros[None, :]
    sample = ops.cumsum(counts + 1) - 1

    def is_running(t, failed):
        return ((end - t) * direction > 0) & ~failed

    def body(t, x, slope, step, grid, accepted, rejected, failed, after_rejection):
        running = is_running(t, failed)
        left = (end - t) * direction
        is_last = step >= left * (1 - 1e-6)  # no sliver is left over
        size = ops.where(is_last, left, step)
        move = ops.where(running, size * direction, ops.zeros_like(size))
        width = column(move, x)
        stages = runge_kutta_stages(f, tableau, column(t, x), x, width, slope)
        new = combine(x, width, stages, tableau.weights)
        error = combine(ops.zeros_like(x), width, stages, tableau.error)
        largest = ops.maximum(ops.abs(x), ops.abs(new))
        error = _scaled_norm(error, tolerance.atol + tolerance.rtol * largest)
        good = running & (error <= 1)  # not where it is NaN
        bad = running & ~good
        proposed = size * _step_factor(error, after_rejection, tableau)
        # A step cut short by the end says nothing against the size before it.
        proposed = ops.where(good & is_last, ops.maximum(proposed, step), proposed)
        step = ops.where(running, proposed, step)
        row = ops.where(good, accepted, ops.full_like(accepted, tolerance.max_steps))
        grid = ops.scatter_update(grid, ops.stack([row, sample], axis=1), move)
        t = ops.where(good, ops.where(is_last, zeros + end, t + move), t)
        x = ops.where(column(good, x), new, x)
        last = stages[-1] if tableau.first_same_as_last else f(column(t, x), x)
        slope = ops.where(column(good, x), last, slope)
        accepted = accepted + ops.cast(good, "int32")
        rejected = rejected + ops.cast(bad, "int32")
        spent = accepted + rejected >= tolerance.max_steps
        failed = failed | (is_running(t, failed) & (spent | (step < least)))
        after_rejection = ops.where(running, bad, after_rejection)
        return t, x, slope, step, grid, accepted, rejected, failed, after_rejection

    t, _, _, step, grid, accepted, rejected, _, _ = ops.while_loop(
        lambda t, x, slope, step, grid, accepted, rejected, failed, _: ops.any(
            is_running(t, failed)
        ),
        body,
        (t, x, slope, step, grid, counts, counts, no, no),
        maximum_iterations=tolerance.max_steps,
    )
    evaluations = evaluations + (tableau.stages - 1) * (accepted + rejected)
    if not tableau.first_same_as_last:
        evaluations = evaluations + accepted + rejected
    success = (end - t) * direction <= 0
    grid = grid[: tolerance.max_steps]
    found = (grid, step, evaluations, accepted, rejected, success)
    return Search(*(ops.stop_gradient(value) for value in found))


def integrate(
    f: Callable, tableau: Tableau, x, times: Sequence, tolerance: Tolerance
) -> tuple[list, Search]:
    """The states at several times.

    Args:
        f: function `(t, x)`; t is of shape (batch, 1, ...).
        tableau: a method with an error estimate.
        x: state at the first time, (batch, ...).
        times: scalar tensors.
        tolerance: the tolerances, for each interval between two times.

    Returns:
        The states at the times after the first, and the counts of all intervals
        together. A sample that fails keeps its last state.
    """

    def advance(state, h):
        t, x, slope = state
        width = column(h, x)
        stages = runge_kutta_stages(f, tableau, column(t, x), x, width, slope)
        moves = column(h != 0, x)
        # Where the stages of a sample that failed are infinite, 0 · stages is NaN.
        x = ops.where(moves, combine(x, width, stages, tableau.weights), x)
        t = t + h
        last = stages[-1] if tableau.first_same_as_last else f(column(t, x), x)
        return t, x, ops.where(moves, last, slope)

    zeros = one_per_sample(x)
    slope = f(column(zeros + times[0], x), x)
    success, step = zeros == 0, None
    total: Any = (0, 0, 0)
    states = []
    for start, end in itertools.pairwise(times):
        found = search_steps(f, tableau, start, end, x, step, tolerance)
        grid = ops.where(success[None, :], found.grid, ops.zeros_like(found.grid))
        state = (zeros + start, x, slope)
        _, x, slope = replay(advance, state, grid, ops.max(found.accepted))
        success, step = success & found.success, found.next_step
        states.append(x)
        counts = found.evaluations, found.accepted, found.rejected
        total = [before + count for before, count in zip(total, counts)]
    evaluations, accepted, rejected = total
    grid = found.grid
    return states, Search(grid, step, evaluations, accepted, rejected, success)
