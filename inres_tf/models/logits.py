"""The logits of a classifier, whatever it ends in.

A loss or an attack on softmax outputs taken for logits sees gradients an order of
magnitude too small, and on saturated ones none at all.
"""

import keras

_HEADS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Activation)
_POOLING = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.AveragePooling2D,
)


def logits_fn(model, computing=None):
    """A function from the model's inputs to its logits, sharing its variables.

    Args:
        model: functional or Sequential Keras model whose one output is given by a
            layer with a softmax (it is taken off) or without an activation.
        computing: function from a model to one `(inputs, training=False) -> outputs`
            that computes it in another way; None: as it is.

    Returns:
        Function `(inputs, training=False) -> logits`.

    Raises:
        ValueError: if the logits cannot be found: a subclassed model, several outputs,
            or a last layer that is neither a softmax nor linear.
    """
    computing = computing or (lambda model: model)
    last, features = _last_layer(model)
    if isinstance(last, keras.Model):
        trunk = computing(_upto(model, features))
        inner = logits_fn(last, computing)
        return lambda inputs, training=False: inner(
            trunk(inputs, training=training), training=training
        )
    activation = _activation(model, last)
    if activation == "linear":
        whole = computing(model)
        return lambda inputs, training=False: whole(inputs, training=training)
    trunk = computing(_upto(model, features))
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


def check_classifier(model) -> None:
    """Checks that a model takes one batch of images and gives scores of classes.

    Args:
        model: any Keras model.

    Raises:
        ValueError: if its logits cannot be found, it has several inputs, does not take
            (batch, height, width, channels), or does not give (batch, classes) with at
            least two classes.
    """
    logits_fn(model)
    takes = [tuple(tensor.shape) for tensor in model.inputs]
    gives = tuple(model.outputs[0].shape)
    if len(takes) != 1 or len(takes[0]) != 4:
        raise ValueError(
            f"{_name(model)} is no classifier of images: it takes {takes}, not (batch, "
            "height, width, channels)."
        )
    if len(gives) != 2 or gives[1] is None or gives[1] < 2:
        raise ValueError(
            f"{_name(model)} is no classifier of images: it gives {gives}, not (batch, "
            "classes) with at least two classes."
        )


def _last_layer(model):
    """The layer that gives the model's only output, and the tensor it takes."""
    try:
        built = bool(model.outputs)
    except (AttributeError, ValueError):
        built = False
    if not built:
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
    layer, node, _ = model.outputs[0]._keras_history
    return layer, layer._inbound_nodes[node].input_tensors[0]


def _upto(model, tensor):
    """The part of a model up to a tensor in it."""
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    return keras.Model(inputs, tensor)


def _activation(model, layer) -> str:
    """`"softmax"` or `"linear"`, what a layer that can give scores ends in."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if isinstance(layer, _POOLING):
        return "linear"
    reason = f"{type(layer).__name__} {getattr(layer, 'name', '')!r}"
    if isinstance(layer, _HEADS):
        activation = keras.activations.serialize(layer.activation)
        if activation in ("softmax", "linear"):
            return activation
        reason += f" with activation {activation!r}"
    raise ValueError(
        f"The logits of {_name(model)} cannot be found: it ends in {reason}. It must "
        "end in a softmax or in a layer without an activation."
    )


def _name(model):
    return getattr(model, "name", type(model).__name__)
