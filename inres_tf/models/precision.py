"""Float32 copies of models that compute in lower precision."""

import keras


def in_float32(model):
    """The model, or a float32 copy of one that computes in lower precision.

    Half precision gives confident networks input gradients of exactly zero.
    """
    if all(
        layer.compute_dtype == "float32"
        for layer in model._flatten_layers()
        if not isinstance(layer, (keras.Model, keras.layers.InputLayer))
    ):
        return model
    copy = type(model).from_config(_with_policy(model.get_config(), "float32"))
    copy.set_weights(model.get_weights())
    return copy


def _with_policy(config, policy):
    """A model's configuration with every dtype policy in it replaced by another."""
    if isinstance(config, dict):
        return {
            key: policy
            if key == "dtype" and isinstance(value, dict)
            else _with_policy(value, policy)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_with_policy(value, policy) for value in config)
    return config
