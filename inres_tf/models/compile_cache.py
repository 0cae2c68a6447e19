"""A cache of compiled functions of models."""

import functools
from collections.abc import Callable
from typing import Any

import keras


def cache_per_model(maxsize: int) -> Callable[[Callable], Callable]:
    """Caches the results of a function by its model and the model's layers.

    A compiled function reads the current values of variables, but it computes with the
    layers as they were when it was traced. So after `enable_lora`, `quantize` or an
    assignment such as `layer.activation = ...`, it must be traced again.

    Args:
        maxsize: number of results to keep, as of `functools.lru_cache`.

    Returns:
        A decorator of functions of a Keras model and further hashable arguments. They
        get `cache_info` and `cache_clear`, as of `functools.lru_cache`.

    Example:
        >>> import keras
        >>> from inres_tf.models import compile_cache
        >>> @compile_cache.cache_per_model(maxsize=2)
        ... def activations(model):
        ...     return [layer.activation.__name__ for layer in model.layers]
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> activations(model) is activations(model)
        True
        >>> model.layers[0].activation = keras.activations.relu
        >>> activations(model)
        ['relu']
    """

    def decorate(function):
        @functools.lru_cache(maxsize)
        def cached(layers, model, *arguments):
            del layers  # a key of the cache
            return function(model, *arguments)

        @functools.wraps(function)
        def call(model, *arguments):
            return cached(layers_key(model), model, *arguments)

        call.cache_info, call.cache_clear = cached.cache_info, cached.cache_clear
        return call

    return decorate


def layers_key(model: keras.Model) -> tuple[Any, ...]:
    """Returns a hashable value that changes with the layers of a model.

    Args:
        model: Keras model.
    """
    variables = [(id(v), v.dtype, tuple(v.shape)) for v in model.weights]
    layers = [(id(x), _settings(x)) for x in model._flatten_layers()]
    return (*variables, *layers)


def _settings(layer) -> str | None:
    if isinstance(layer, keras.Model):  # its layers are listed themselves
        return None
    try:
        return repr(layer.get_config())
    except Exception:  # whatever a layer that cannot be saved raises
        return None
