"""Copies of models in another precision."""

import weakref
from typing import Any

import keras
import tensorflow as tf

from inres_tf.models.compile_cache import layers_key
from inres_tf.models.damping import Copier

# What copies each model to float32, and for which layers, by strategy.
_copiers: weakref.WeakKeyDictionary[keras.Model, dict[Any, tuple[Any, Copier]]] = (
    weakref.WeakKeyDictionary()
)


def in_float32(model: keras.Model) -> keras.Model:
    """Returns a model that computes in float32.

    In half precision, the input gradients of a confident network underflow to zero.

    Args:
        model: functional or Sequential Keras model.

    Returns:
        The model itself if it computes in float32, and otherwise a float32 copy: under
        one strategy always the same one until a layer changes, which each call gives
        the current weights.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4,))
        >>> half = keras.layers.Dense(2, dtype="mixed_bfloat16")(inputs)
        >>> model = inres_tf.models.in_float32(keras.Model(inputs, half))
        >>> model.layers[-1].compute_dtype
        'float32'
    """
    if all(
        layer.compute_dtype == "float32"
        for layer in model._flatten_layers()
        if not isinstance(layer, (keras.Model, keras.layers.InputLayer))
    ):
        return model
    copiers, strategy = _copiers.setdefault(model, {}), tf.distribute.get_strategy()
    layers = layers_key(model)
    if strategy not in copiers or copiers[strategy][0] != layers:
        copiers[strategy] = layers, Copier(policy="float32")
    return _copy(model, copiers[strategy][1])


def in_float64(model: keras.Model) -> keras.Model:
    """Returns a copy of a model that computes in float64, to measure rounding errors.

    Args:
        model: functional or Sequential Keras model.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4,))
        >>> model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
        >>> inres_tf.models.in_float64(model).layers[-1].compute_dtype
        'float64'
    """
    return _copy(model, Copier(policy="float64"))


def _copy(model, copier):
    """The copier's copy of a model, the same at each call, with the current weights."""
    copy = copier.copy(model)
    copier.copy_weights()
    return copy
