"""The optimizer's moving average of the weights."""

import contextlib


def _optimizer(model):
    """The optimiser that holds the moving average, below one that scales the loss."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def use_averages(model) -> None:
    """Puts the moving average of the weights, if there is one, in their place."""
    optimizer = _optimizer(model)
    if optimizer.use_ema:
        optimizer.finalize_variable_values(model.trainable_variables)


@contextlib.contextmanager
def averaged_weights(model):
    """As `use_averages`, for a while."""
    if not _optimizer(model).use_ema:
        yield
        return
    kept = [(variable, variable.numpy()) for variable in model.trainable_variables]
    use_averages(model)
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)
