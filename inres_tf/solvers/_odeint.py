"""`odeint`: initial value problems of batches, on any backend."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from inres_tf.arguments import positive_integer
from inres_tf.solvers import adaptive, fixed_step
from inres_tf.solvers.adaptive import Tolerance, one_per_sample
from inres_tf.solvers.tableaus import TABLEAUS

FIXED_STEP = ("euler", "midpoint", "heun", "rk4", "exponential_euler")
ADAPTIVE = ("heun21", "bosh3", "dopri5")
METHODS = (*FIXED_STEP, *ADAPTIVE)


class Record(NamedTuple):
    """How an initial value problem was solved, for each sample.

    Attributes:
        evaluations: evaluations of the right-hand side, int32, (batch,). Those of an
            adaptive method do not count the replay, through which gradients flow: as
            many for each accepted step again.
        accepted: accepted steps, int32, (batch,).
        rejected: rejected steps, int32, (batch,).
        success: whether the last time was reached, (batch,).
    """

    evaluations: Any
    accepted: Any
    rejected: Any
    success: Any


def odeint(
    f: Callable,
    x0: Any,
    t: Sequence[float],
    method: str = "rk4",
    *,
    steps: int = 10,
    rtol: float = 1e-3,
    atol: float = 1e-6,
    damping: Any = 0.0,
    max_steps: int = 256,
) -> tuple[Any, Record]:
    """Solves dx/dt = f(t, x) - λ x for a batch of initial states.

    Gradients flow through the steps of the solver. Adaptive methods control the step
    size of each sample independently, so that its result does not depend on its batch.
    States in half precision are integrated in float32, since small steps would vanish
    in their rounding; only `f` gets them in half precision.

    Args:
        f: function `(t, x)` that returns dx/dt, like x. The time t broadcasts against
            x: a scalar, or one per sample of shape (batch, 1, ...).
        x0: initial states, (batch, ...).
        t: strictly increasing or decreasing times, (times,); the first is that of `x0`.
        method: with fixed steps `"euler"`, `"midpoint"`, `"heun"`, `"rk4"` or
            `"exponential_euler"` (exact in -λ x); adaptive `"heun21"` (Heun with
            Euler), `"bosh3"` (Bogacki-Shampine 3(2)) or `"dopri5"` (Dormand-Prince
            5(4)).
        steps: steps of a fixed-step method from each time to the next.
        rtol: relative tolerance of an adaptive method.
        atol: absolute tolerance of an adaptive method.
        damping: λ >= 0, a number or a scalar tensor.
        max_steps: accepted and rejected steps of an adaptive method from each time to
            the next, after which a sample fails.

    Returns:
        The states at all times, (times, batch, ...), and a `Record`. A sample that
        fails keeps the last state that it reached.

    Raises:
        ValueError: if an argument is wrong.

    Example:
        >>> import numpy as np
        >>> from inres_tf import solvers
        >>> states, record = solvers.odeint(
        ...     lambda t, x: -x, np.ones((2, 1), "float32"), [0.0, 1.0], "dopri5"
        ... )
        >>> round(float(states[-1, 0, 0]), 3), bool(record.success[0])
        (0.368, True)

    Reference:
        Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, chapter II.
    """
    check_settings(method, steps, rtol, atol, max_steps)
    steps, max_steps = int(steps), int(max_steps)
    x = ops.convert_to_tensor(x0)
    dtype = keras.backend.standardize_dtype(x.dtype)
    if not keras.backend.is_float_dtype(dtype):
        x = ops.cast(x, keras.backend.floatx())
    elif dtype in ("float16", "bfloat16"):
        states, record = odeint(
            _in_half_precision(f, dtype),
            ops.cast(x, "float32"),
            t,
            method,
            steps=steps,
            rtol=rtol,
            atol=atol,
            damping=damping,
            max_steps=max_steps,
        )
        return ops.cast(states, dtype), record
    times = _times(t, x.dtype)
    if method == "exponential_euler":
        rate = _like(damping, x.dtype)
        step, stages = fixed_step.exponential_euler_step(f, rate), 1
    else:
        tableau = TABLEAUS[method]
        f = _damped(f, damping, x.dtype)
        if method in ADAPTIVE:
            tolerance = Tolerance(rtol, atol, max_steps)
            states, found = adaptive.integrate(f, tableau, x, times, tolerance)
            counts = found.evaluations, found.accepted, found.rejected
            return ops.stack([x, *states]), Record(*counts, found.success)
        step, stages = fixed_step.runge_kutta_step(f, tableau), tableau.stages
    states = fixed_step.integrate(step, x, times, steps)
    none = ops.cast(one_per_sample(x), "int32")
    total = steps * (len(times) - 1)
    record = Record(none + stages * total, none + total, none, none == 0)
    return ops.stack([x, *states]), record


def _in_half_precision(f, dtype):
    """A function of float32 states and times that calls `f` with those of `dtype`."""
    return lambda t, x: ops.cast(f(ops.cast(t, dtype), ops.cast(x, dtype)), "float32")


def _like(value, dtype):
    """A tensor of a dtype, without rounding a number to float32 first."""
    if keras.ops.is_tensor(value):
        return ops.cast(value, dtype)
    return ops.convert_to_tensor(np.asarray(value, np.float64), dtype)


def _damped(f, damping, dtype):
    """The right-hand side f(t, x) - λ x."""
    if isinstance(damping, numbers.Number) and damping == 0:
        return f
    rate = _like(damping, dtype)
    return lambda t, x: f(t, x) - rate * x


def _times(t, dtype) -> list:
    """The times as scalar tensors."""
    times = _like(t, dtype)
    if len(times.shape) != 1 or times.shape[0] < 2:
        raise ValueError(
            "`t` must be a sequence of at least two times. Received: t of shape "
            f"{tuple(times.shape)}"
        )
    if not ops.is_tensor(t):
        moves = np.sign(np.diff(np.asarray(t, np.float64)))
        if not (np.all(moves == 1) or np.all(moves == -1)):
            raise ValueError(
                f"`t` must be strictly increasing or decreasing. Received: t={t}"
            )
    return [times[i] for i in range(times.shape[0])]


def check_settings(
    method: str, steps: int, rtol: float, atol: float, max_steps: int
) -> None:
    """Checks the settings of `odeint`.

    Raises:
        ValueError: if one of them is wrong.
    """
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {', '.join(map(repr, METHODS))}. Received: "
            f"method={method!r}"
        )
    for name, value in (("steps", steps), ("max_steps", max_steps)):
        positive_integer(name, value)
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not 0 <= tolerance < float("inf"):
            raise ValueError(
                f"`{name}` must be finite and at least 0. Received: {name}={tolerance}"
            )
    if rtol == atol == 0:
        raise ValueError("`rtol` and `atol` must not both be 0.")
