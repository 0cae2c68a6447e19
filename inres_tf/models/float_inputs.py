"""Models with integer inputs, as functions of floating-point pixels."""

import weakref

import keras
import numpy as np

from inres_tf.models.graph import unpack_single, with_last_inputs

# The twin of each model; it holds the model's layers, but not the model itself.
_twins: weakref.WeakKeyDictionary[keras.Model, keras.Model] = (
    weakref.WeakKeyDictionary()
)


def with_float_inputs(model: keras.Model) -> keras.Model:
    """Returns a model that takes its inputs in float32, with the same layers.

    An input layer of integers cuts every gradient with respect to the pixels, and one
    of half precision rounds them.

    Args:
        model: functional or built Sequential Keras model.

    Returns:
        The model itself if its input layers, those of nested models included, are of
        float32 or float64. Otherwise a functional model that shares its layers and so
        its variables: always the same one.

    Raises:
        ValueError: if the model computes something else from floats than from its own
            inputs, such as integers that overflow.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4, 4, 1), dtype="uint8")
        >>> scaled = keras.layers.Rescaling(1 / 255)(inputs)
        >>> model = inres_tf.models.with_float_inputs(keras.Model(inputs, scaled))
        >>> model.inputs[0].dtype
        'float32'
    """
    if not any(
        isinstance(layer, keras.layers.InputLayer) and not _is_float(layer.dtype)
        for layer in model._flatten_layers()
    ):
        return model
    if model not in _twins:
        _twins[model] = _checked_twin(model)
    return _twins[model]


def _checked_twin(model):
    """The twin, once both computed the same from random integers."""
    rng = np.random.default_rng(0)
    integers = [
        rng.integers(0, 256, (2, *(side or 8 for side in x.shape[1:])))
        for x in model.inputs
    ]

    def outputs(one):
        typed = [x.astype(t.dtype) for x, t in zip(integers, one.inputs)]
        found = with_last_inputs(one)(unpack_single(typed), training=False)
        return [
            np.asarray(keras.ops.convert_to_numpy(x), np.float64).ravel() for x in found
        ]

    expected, again = outputs(model), outputs(model)
    try:
        twin = _twin(model)
        found = outputs(twin)
    except Exception as error:  # whatever an operation on integers raises
        raise _refusal(model, f"raises {type(error).__name__}") from error
    for a, b, c in zip(expected, again, found):
        # Random networks differ from themselves.
        tolerance = 10 * np.abs(a - b).max() + 1e-3 * (np.abs(a).max() or 1)
        if np.abs(a - c).max() > tolerance:
            raise _refusal(model, "computes other outputs")
    return twin


def _twin(model):
    inputs = [
        keras.Input(batch_shape=x.shape, dtype="float32", name=x.name)
        for x in model.inputs
    ]
    functional = keras.Model(unpack_single(model.inputs), unpack_single(model.outputs))
    twin = keras.models.clone_model(
        functional, input_tensors=unpack_single(inputs), clone_function=_shared
    )
    twin.name = model.name
    return twin


def _shared(layer):
    return with_float_inputs(layer) if isinstance(layer, keras.Model) else layer


def _is_float(dtype):
    return keras.backend.standardize_dtype(dtype) in ("float32", "float64")


def _refusal(model, problem):
    types = ", ".join(str(x.dtype) for x in model.inputs)
    return ValueError(
        f"{model.name} has inputs of type {types}, through which no gradient passes, "
        f"and with inputs of float32 it {problem}. Give it an input layer of float32."
    )
