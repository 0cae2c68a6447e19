"""Steps over a grid of step sizes, differentiable on every backend."""

from collections.abc import Callable

import keras
from keras import ops

# A constant grid of so many steps is unrolled; a longer one becomes a loop.
UNROLLED = 16


def replay(step: Callable, state: tuple, grid, count=None) -> tuple:
    """Advances a state by the steps of a grid.

    Args:
        step: function `(state, h)` that returns the next state.
        state: tuple of tensors.
        grid: step sizes, one row per step, (steps, ...).
        count: number of rows to use, an integer tensor; the rows after it must be 0.
            None: all rows.

    Returns:
        The last state. Gradients flow through all steps.
    """
    length, backend = grid.shape[0], keras.backend.backend()
    if count is None and length <= UNROLLED:
        for i in range(length):
            state = step(state, grid[i])
        return state
    if backend == "jax":  # whose while loop has no reverse mode
        return _scan(step, state, grid, sparse=count is not None)
    if backend == "torch":
        for i in range(length if count is None else int(count)):
            state = step(state, grid[i])
        return state
    stop = length if count is None else count

    def body(i, *state):
        return (i + 1, *step(state, ops.take(grid, i, axis=0)))

    _, *state = ops.while_loop(
        lambda i, *_: i < stop,
        body,
        (ops.convert_to_tensor(0, "int32"), *state),
        maximum_iterations=length,  # without which XLA cannot differentiate it
    )
    return tuple(state)


def _scan(step, state, grid, sparse):
    """A scan; the steps of a sparse grid are skipped where they are 0.

    The steps of a sparse grid, which has many more rows than steps, are computed again
    in the backward pass instead of being stored.
    """
    remembered = keras.remat(step) if sparse else step

    def body(state, h):
        if not sparse:
            return tuple(remembered(state, h)), ops.zeros(())
        state = ops.cond(
            ops.any(h != 0), lambda: tuple(remembered(state, h)), lambda: state
        )
        return state, ops.zeros(())

    state, _ = ops.scan(body, tuple(state), grid)
    return state
