"""The optimiser's moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def _ema_optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
    """Returns the optimiser that holds the average, inside a loss-scaling one."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def use_averages(model: keras.Model) -> None:
    """Replaces the weights by their moving average, if the optimiser has one.

    Constraints, such as columns of norm 1, are applied to the average again.
    """
    optimizer = _ema_optimizer(model)
    if optimizer.use_ema:
        optimizer.finalize_variable_values(model.trainable_variables)
        for variable in model.trainable_variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Replaces the weights by their moving average within a context."""
    if not _ema_optimizer(model).use_ema:
        yield
        return
    kept = [(variable, variable.numpy()) for variable in model.trainable_variables]
    use_averages(model)
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)
