"""Reading and setting λ of every damped block of a model."""

from keras import ops

from inres_tf.layers import dampings
from inres_tf.layers.damped_add import DampedAdd


def dead_blocks(rates: dict[str, float]) -> int:
    """How many damped blocks have λ = 0, below which k has no gradient but decay's.

    Args:
        rates: what `damping_rates` gives.
    """
    return sum(rate == 0.0 for rate in rates.values())


def damping_rates(model) -> dict[str, float]:
    """λ of every damped block of a model.

    Args:
        model: any Keras model; nested models are searched as well.

    Returns:
        Dict from layer name (`"nested/name"` within a nested model) to λ, in the order
        of the network. Blocks whose damping has no trainable k (`"none"`, `"plain"`)
        are left out.
    """
    return {
        name: float(ops.convert_to_numpy(layer.rate))
        for name, layer in damped_layers(model)
    }


def set_damping_rates(model, rate: float) -> None:
    """Sets λ of every damped block of a model.

    Args:
        model: as in `damping_rates`.
        rate: λ >= 0.
    """
    for _, layer in damped_layers(model):
        layer.k.assign(dampings.scalar_of(layer.damping, rate))


def damped_layers(model) -> list[tuple[str, DampedAdd]]:
    """The damped blocks of a model with a trainable k, named as in `damping_rates`."""
    return [pair for pair in _merges(model, "", set()) if pair[1].k is not None]


def _merges(model, prefix, seen):
    """(name, layer) of every `DampedAdd` in a model or layer, each once."""
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if id(layer) not in seen:
            seen.add(id(layer))
            if isinstance(layer, DampedAdd):
                yield prefix + layer.name, layer
            yield from _merges(layer, f"{prefix}{layer.name}/", seen)
