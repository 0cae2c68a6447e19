"""The logits of a classifier, whether it ends in logits or in a softmax.

A loss or an attack that mistakes softmax outputs for logits sees gradients an order of
magnitude too small, and none at all once the softmax saturates.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from inres_tf.errors import UserError
from inres_tf.layers import LipschitzDense
from inres_tf.models.float_inputs import with_float_inputs
from inres_tf.models.graph import node_of

_HEADS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Activation)
# Whatever they follow, their outputs are logits, unless it is a softmax.
_POOLS = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.AveragePooling2D,
)
# What only moves values, or changes them in training alone: layers, and operations of
# `keras.ops` by the name of their class.
_PASSING = (
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Reshape,
    keras.layers.SpatialDropout2D,
)
_PASSING_OPERATIONS = ("Cast", "ExpandDims", "GetItem", "Reshape", "Squeeze")


class _Ending(NamedTuple):
    """Where the logits of a model are found.

    Attributes:
        operation: the softmax, a layer with a softmax, or a nested model that ends in
            one; None if the outputs of the model are its logits.
        features: the tensor that enters the operation.
        probabilities: the tensor that leaves it.
    """

    operation: Any
    features: Any
    probabilities: Any


def logits_fn(
    model: keras.Model,
    computing: Callable[[keras.Model], Callable[..., Any]] | None = None,
) -> Callable[..., Any]:
    """Returns a function from a model's inputs to its logits.

    The inputs are floating-point pixels, even if the model rounds them to integers.

    Args:
        model: functional or Sequential Keras model with one output, which ends in a
            softmax (which is removed) or in a layer without activation. A softmax is
            recognised by what it computes, also if layers that only move values, such
            as `Flatten`, or that do nothing at inference, such as `Dropout`, follow it.
        computing: function from a model to a function
            `(inputs, training=False) -> outputs` that computes it in another way; None
            to call the model itself.

    Returns:
        Function `(inputs, training=False) -> logits` that shares the model's variables.

    Raises:
        ValueError: if the logits cannot be found: the model is subclassed, has several
            outputs, or ends neither in a softmax over the classes nor in a linear
            layer; or if it computes something else from floating-point pixels than from
            the integers that its input layer takes.

    Example:
        >>> import numpy as np
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1), classes=3)
        >>> logits = inres_tf.models.logits_fn(model)
        >>> tuple(logits(np.zeros((2, 8, 8, 1))).shape)
        (2, 3)
    """
    computing = computing or (lambda model: model)
    _check_outputs(model)
    model = with_float_inputs(model)
    ending = _ending(model)
    layer = ending.operation
    if layer is None:
        whole = computing(model)
        return lambda inputs, training=False: whole(inputs, training=training)
    trunk = computing(_part(model.inputs, ending.features))
    if isinstance(layer, keras.Model):
        top = logits_fn(layer, computing)
    elif isinstance(layer, _HEADS):
        top = _linear(layer, ending.features)
    else:
        top = _unchanged
    tail: Callable[..., Any] = _unchanged
    if ending.probabilities is not model.outputs[0]:
        tail = _part([ending.probabilities], model.outputs[0])

    def logits(inputs, training=False):
        values = top(trunk(inputs, training=training), training=training)
        return tail(values, training=training)

    return logits


def check_classifier(model: keras.Model) -> None:
    """Checks that a model maps one batch of images to scores of classes.

    Args:
        model: any Keras model.

    Raises:
        ValueError: if its logits cannot be found, it has several inputs, its input is
            not (batch, height, width, channels), or its output is not (batch, classes)
            with at least two classes.

    Example:
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> inres_tf.models.check_classifier(model)
    """
    _check_outputs(model)
    model = with_float_inputs(model)
    _ending(model)
    inputs = [tuple(tensor.shape) for tensor in model.inputs]
    outputs = tuple(model.outputs[0].shape)
    if len(inputs) != 1 or len(inputs[0]) != 4:
        raise ValueError(
            f"{_name(model)} is not an image classifier: expected one input of shape "
            f"(batch, height, width, channels). Received: {inputs}"
        )
    if len(outputs) != 2 or outputs[1] is None or outputs[1] < 2:
        raise ValueError(
            f"{_name(model)} is not an image classifier: expected outputs of shape "
            f"(batch, classes) with at least two classes. Received: {outputs}"
        )


def check_weights(model: keras.Model) -> None:
    """Checks that all weights of a model are finite.

    Args:
        model: any Keras model.

    Raises:
        UserError: if some are not, as after a training that diverged.

    Example:
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> inres_tf.models.check_weights(model)
    """
    bad = sum(not np.isfinite(values).all() for values in model.get_weights())
    if bad:
        raise UserError(
            f"{bad} of the {len(model.weights)} weights of {_name(model)} are not "
            "finite: the network has diverged"
        )


def _check_outputs(model):
    """Checks that the model is a graph of layers with one output."""
    try:
        built = bool(model.outputs)
    except (AttributeError, ValueError):
        built = False
    if not built:
        raise ValueError(
            f"The logits of {_name(model)} cannot be found: it is not a functional or "
            "built Sequential Keras model. Pass a functional model that ends in logits "
            "or in a softmax."
        )
    if len(model.outputs) != 1:
        raise ValueError(
            f"The logits of {_name(model)} cannot be found: it has "
            f"{len(model.outputs)} outputs, but a classifier has one."
        )


def _ending(model) -> _Ending:
    """Finds the last softmax of a model, or that its outputs are logits."""
    _check_outputs(model)
    tensor, pooled = model.outputs[0], False
    logits = _Ending(None, None, tensor)
    while True:
        node = node_of(tensor)
        operation, inputs = node.operation, node.input_tensors
        if isinstance(operation, LipschitzDense):
            return logits
        if isinstance(operation, keras.Model):
            if _ending(operation).operation is None:
                return logits
            kind = "softmax"
        else:
            kind = _kind(operation, inputs, tensor)
        if kind == "softmax":
            break
        if kind == "linear":
            return logits
        if kind == "partial softmax" or (kind == "unknown" and not pooled):
            raise _not_found(model, f"it ends in {_description(operation)}")
        if kind == "unknown":
            return logits
        pooled |= isinstance(operation, _POOLS)
        tensor = inputs[0]
    if _size(tensor) != _size(model.outputs[0]):
        raise _not_found(
            model, f"it changes the probabilities of {_description(operation)}"
        )
    return _Ending(operation, inputs[0], tensor)


def _kind(operation, inputs, output) -> str:
    """Returns what an operation is.

    As `_acts_as`, but `"passing"` for what does not change values, and `"linear"` for a
    layer of weights without activation.
    """
    if not inputs:  # an input layer
        return "unknown"
    if isinstance(operation, _HEADS):
        weightless = isinstance(operation, keras.layers.Activation)
        acts = _acts_as(operation.activation, output.shape)
        return "passing" if acts == "linear" and weightless else acts
    if isinstance(operation, (*_POOLS, *_PASSING)):
        return "passing"
    if not isinstance(operation, keras.layers.Layer):
        if type(operation).__name__ in _PASSING_OPERATIONS:
            return "passing"
    elif operation.variables:
        return "unknown"
    if len(inputs) > 1 or inputs[0].shape != output.shape:
        return "unknown"
    acts = _acts_as(operation, output.shape)
    return "passing" if acts == "linear" else acts


def _acts_as(function, shape) -> str:
    """Returns which function of the values of an image one is, by what it computes.

    `"softmax"`, or the logarithm of one, over all values of an image; `"partial
    softmax"` over some of them; `"linear"` for the identity; or `"unknown"`.
    """
    if function is keras.activations.linear:
        return "linear"
    if function is keras.activations.softmax and len(shape) == 2:
        return "softmax"
    rng = np.random.default_rng(0)
    shape = [4, *(side or 3 for side in shape[1:])]
    scales = np.array([1, 1, 10, 60]).reshape(-1, *[1] * (len(shape) - 1))
    values = (scales * rng.normal(size=shape)).astype(np.float32)
    try:
        found = keras.ops.convert_to_numpy(
            keras.ops.cast(function(keras.ops.convert_to_tensor(values)), "float32")
        )
    except Exception:  # whatever a function of the user raises
        return "unknown"
    flat = values.reshape(4, -1).astype(np.float64)
    shifted = flat - flat.max(-1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    low = getattr(function, "compute_dtype", "float32") in ("float16", "bfloat16")
    tolerance = 0.3 if low else 1e-4
    for kind, expected, absolute in (
        ("linear", flat, 0.0),
        ("softmax", np.exp(log_softmax), 1e-7 if low else 1e-35),
        ("softmax", log_softmax, tolerance),
    ):
        expected = expected.reshape(values.shape)
        if found.shape == expected.shape and np.allclose(
            found, expected, tolerance, absolute
        ):
            return kind
    sums = [found.sum(axis) for axis in range(1, found.ndim)]
    if found.min() >= 0 and any(np.allclose(s, 1, atol=1e-2) for s in sums):
        return "partial softmax"
    return "unknown"


def _part(inputs, output):
    """Returns the part of a model between some of its tensors."""
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], output)


def _linear(layer, features):
    """A function of features that computes a layer without its activation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an activation that cannot be saved
        config = layer.get_config()
    config |= {"activation": "linear", "name": f"{layer.name}_logits"}
    linear = type(layer).from_config(config)
    linear.build(features.shape)

    def top(inputs, training=False):
        outputs, _ = linear.stateless_call(
            [v.value for v in layer.trainable_variables],
            [v.value for v in layer.non_trainable_variables],
            inputs,
        )
        return outputs

    return top


def _unchanged(inputs, training=False):
    return inputs


def _size(tensor):
    """Number of values of an image in a tensor; None if it is not known."""
    shape = tensor.shape[1:]
    return None if None in shape else math.prod(shape)


def _description(operation):
    text = f"{type(operation).__name__} {getattr(operation, 'name', '')!r}"
    if isinstance(operation, _HEADS):
        activation = operation.activation
        text += f" with activation {getattr(activation, '__name__', activation)!r}"
    return text


def _not_found(model, problem):
    return ValueError(
        f"The logits of {_name(model)} cannot be found: {problem}. It must end in a "
        "softmax over the classes or in a layer without activation."
    )


def _name(model):
    return getattr(model, "name", type(model).__name__)
