"""The logits of a classifier, whether it ends in logits or in a softmax.

A loss or an attack that mistakes softmax outputs for logits sees gradients an order of
magnitude too small, and none at all once the softmax saturates.
"""

from collections.abc import Callable
from typing import Any

import keras

from inres_tf.layers import LipschitzDense

_HEADS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Activation)
_WITHOUT_ACTIVATION = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.AveragePooling2D,
    LipschitzDense,
)


def logits_fn(
    model: keras.Model,
    computing: Callable[[keras.Model], Callable[..., Any]] | None = None,
) -> Callable[..., Any]:
    """Returns a function from a model's inputs to its logits.

    Args:
        model: functional or Sequential Keras model with one output, whose last layer
            has a softmax (which is removed) or no activation.
        computing: function from a model to a function
            `(inputs, training=False) -> outputs` that computes it in another way; None
            to call the model itself.

    Returns:
        Function `(inputs, training=False) -> logits` that shares the model's variables.

    Raises:
        ValueError: if the logits cannot be found: the model is subclassed, has several
            outputs, or its last layer is neither a softmax nor linear.

    Example:
        >>> import numpy as np
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1), classes=3)
        >>> logits = inres_tf.models.logits_fn(model)
        >>> tuple(logits(np.zeros((2, 8, 8, 1))).shape)
        (2, 3)
    """
    computing = computing or (lambda model: model)
    last, features = _last_layer(model)
    if isinstance(last, keras.Model):
        trunk = computing(_submodel(model, features))
        inner = logits_fn(last, computing)
        return lambda inputs, training=False: inner(
            trunk(inputs, training=training), training=training
        )
    activation = _activation(model, last)
    if activation == "linear":
        whole = computing(model)
        return lambda inputs, training=False: whole(inputs, training=training)
    trunk = computing(_submodel(model, features))
    if isinstance(last, keras.layers.Softmax):
        return lambda inputs, training=False: trunk(inputs, training=training)
    linear = type(last).from_config(
        {**last.get_config(), "activation": "linear", "name": f"{last.name}_logits"}
    )
    linear.build(features.shape)

    def logits(inputs, training=False):
        outputs, _ = linear.stateless_call(
            [v.value for v in last.trainable_variables],
            [v.value for v in last.non_trainable_variables],
            trunk(inputs, training=training),
        )
        return outputs

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
    logits_fn(model)
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


def _last_layer(model):
    """Returns the layer of the model's only output, and that layer's input tensor."""
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
    layer, node, _ = model.outputs[0]._keras_history
    return layer, layer._inbound_nodes[node].input_tensors[0]


def _submodel(model, tensor):
    """Returns the part of a model up to one of its tensors."""
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    return keras.Model(inputs, tensor)


def _activation(model, layer) -> str:
    """Returns `"softmax"` or `"linear"`, the activation of a model's last layer."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if isinstance(layer, _WITHOUT_ACTIVATION):
        return "linear"
    description = f"{type(layer).__name__} {getattr(layer, 'name', '')!r}"
    if isinstance(layer, _HEADS):
        activation = keras.activations.serialize(layer.activation)
        if activation in ("softmax", "linear"):
            return activation
        description += f" with activation {activation!r}"
    raise ValueError(
        f"The logits of {_name(model)} cannot be found: it ends in {description}. It "
        "must end in a softmax or in a layer without activation."
    )


def _name(model):
    return getattr(model, "name", type(model).__name__)
