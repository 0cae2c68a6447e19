"""Reading and setting the rate λ of every damped block of a model."""

from collections.abc import Mapping

import keras
from keras import ops

from inres_tf.layers import dampings
from inres_tf.layers.convex_potential import (
    ConvexPotentialConv2D,
    ConvexPotentialDense,
)
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.layers.neural_ode import NeuralODE

# Layers that are a whole residual block each.
BLOCKS = (NeuralODE, ConvexPotentialConv2D, ConvexPotentialDense)
# Layers with an attribute `damping`, a trainable scalar `k` or None, and its `rate`.
_DAMPED = (DampedAdd, *BLOCKS)


def dead_blocks(rates: Mapping[str, float]) -> int:
    """Counts the damped blocks with λ = 0.

    Once the ReLU clips λ to 0, only weight decay still changes k.

    Args:
        rates: λ of each damped block, as returned by `damping_rates`.

    Returns:
        The number of rates equal to 0.

    Example:
        >>> inres_tf.layers.dead_blocks({"block1": 0.0, "block2": 0.3})
        1
    """
    return sum(rate == 0.0 for rate in rates.values())


def damping_rates(model: keras.Model) -> dict[str, float]:
    """Returns λ of every damped block of a model.

    Args:
        model: any Keras model, including nested ones.

    Returns:
        Dict from layer name (`"nested/name"` within a nested model) to λ, in network
        order. Blocks whose damping has no trainable k (`"none"`, `"plain"`) are left
        out.

    Example:
        >>> model = zoo.InResNet20(input_shape=(8, 8, 1))
        >>> list(inres_tf.layers.damping_rates(model))[:2]
        ['stage1_block2_merge', 'stage1_block3_merge']
    """
    return {
        name: float(ops.convert_to_numpy(layer.rate))
        for name, layer in damped_layers(model)
    }


def set_damping_rates(model: keras.Model, rate: float) -> None:
    """Sets λ of every damped block of a model.

    Args:
        model: any Keras model, including nested ones.
        rate: λ >= 0.

    Raises:
        ValueError: if `rate` is negative or not finite.

    Example:
        >>> model = zoo.InResNet20(input_shape=(8, 8, 1))
        >>> inres_tf.layers.set_damping_rates(model, 0.5)
        >>> set(inres_tf.layers.damping_rates(model).values())
        {0.5}
    """
    for _, layer in damped_layers(model):
        layer.k.assign(dampings.scalar_of(layer.damping, rate))


def damped_layers(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """Returns the damped layers of a model that have a trainable k.

    These are `DampedAdd`, `NeuralODE` and the convex potential blocks.

    Args:
        model: any Keras model, including nested ones.

    Returns:
        List of (name, layer) in network order, with the names of `damping_rates`.

    Example:
        >>> model = zoo.LambdaInResNet20(input_shape=(8, 8, 1))
        >>> name, layer = inres_tf.layers.damped_layers(model)[0]
        >>> name, layer.damping
        ('stage1_block2_merge', 'lambda_in')
    """
    return [pair for pair in _damped(model, "", set()) if pair[1].k is not None]


def _damped(model, prefix, seen):
    """Yields (name, layer) of every damped layer in a model or layer, each once."""
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if id(layer) not in seen:
            seen.add(id(layer))
            if isinstance(layer, _DAMPED):
                yield prefix + layer.name, layer
            yield from _damped(layer, f"{prefix}{layer.name}/", seen)
