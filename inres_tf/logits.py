"""The logits of a classifier, whatever it ends in.

A loss or an attack on softmax outputs taken for logits sees gradients an order of
magnitude too small, and on saturated ones none at all.
"""

import keras

_HEADS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Activation)
_KEEPS_LOGITS = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.AveragePooling2D,
)


def logits_fn(model):
    """A function from the model's inputs to its logits, sharing its variables.

    Args:
        model: functional or Sequential Keras model whose one output is given by a
            layer with a softmax (it is taken off) or without an activation.

    Returns:
        Function `(inputs, training=False) -> logits`.

    Raises:
        ValueError: if the logits cannot be found: a subclassed model, several outputs,
            or a last layer that is neither a softmax nor linear.
    """
    last = _last_layer(model)
    if isinstance(last, keras.Model):
        before, inner = keras.Model(model.inputs, last.input), logits_fn(last)
        return lambda inputs, training=False: inner(
            before(inputs, training=training), training=training
        )
    trunk, head = _split(model, last)
    if head is None:
        return lambda inputs, training=False: trunk(inputs, training=training)
    linear = type(head).from_config(
        {**head.get_config(), "activation": "linear", "name": f"{head.name}_logits"}
    )
    linear.build(head.input.shape)

    def logits(inputs, training=False):
        features = trunk(inputs, training=training)
        outputs, _ = linear.stateless_call(
            [v.value for v in head.trainable_variables],
            [v.value for v in head.non_trainable_variables],
            features,
        )
        return outputs

    return logits


def _last_layer(model):
    """The layer that gives the model's only output."""
    if not getattr(model, "outputs", None):
        raise ValueError(
            f"The logits of {_name(model)} cannot be found: it is no functional or "
            "built Sequential Keras model. Give a functional model that ends in logits "
            "or in a softmax."
        )
    if len(model.outputs) != 1:
        raise ValueError(
            f"The logits of {_name(model)} cannot be found: it has "
            f"{len(model.outputs)} outputs, and a classifier has one."
        )
    return model.outputs[0]._keras_history.operation


def _split(model, layer):
    """(model up to the logits or to the head's input, head with a softmax or None)."""
    if isinstance(layer, keras.layers.Softmax):
        return keras.Model(model.inputs, layer.input), None
    if isinstance(layer, _HEADS):
        activation = keras.activations.serialize(layer.activation)
        if activation == "softmax":
            return keras.Model(model.inputs, layer.input), layer
        if activation == "linear":
            return model, None
        reason = f"layer {layer.name!r}, with activation {activation!r}"
    elif isinstance(layer, _KEEPS_LOGITS):
        return model, None
    else:
        reason = f"{type(layer).__name__} {getattr(layer, 'name', '')!r}"
    raise ValueError(
        f"The logits of {_name(model)} cannot be found: it ends in {reason}. It must "
        "end in a softmax or in a layer without an activation."
    )


def _name(model):
    return getattr(model, "name", type(model).__name__)
