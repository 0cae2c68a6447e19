"""Damped networks with the weights of `keras.applications` or undamped networks."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import keras

from inres_tf.layers import DampedAdd, dampings

# Layers of the network itself, not of a model that it is built on.
_OWN = re.compile(r"(stem|head|stage\d+_block\d+)_|predictions$")
_FIXED = {
    "conv1_conv": "stem_conv",
    "post_bn": "head_bn",
    "predictions": "predictions",
}
# From layers in a block of keras.applications' ResNetV2 to those in ours.
_PARTS = {
    "preact_bn": "1_bn",
    "0_conv": "shortcut_conv",
    "1_conv": "1_conv",
    "1_bn": "2_bn",
    "2_conv": "2_conv",
    "2_bn": "3_bn",
    "3_conv": "3_conv",
}


def load_application(
    model: keras.Model, source: keras.Model, rate: float = 0.0
) -> None:
    """Copies the weights of a ResNetV2 of `keras.applications` into a damped network.

    At rate 0, the network then computes the same outputs as the ResNetV2.

    Args:
        model: `zoo.ResNet50V2`, `zoo.InResNet50`, or the same network with another
            damping or of depth 101 or 152; with or without its top.
        source: `keras.applications.ResNet50V2`, `ResNet101V2` or `ResNet152V2`; with
            its top if `model` has one.
        rate: initial λ >= 0 of every damped block.

    Raises:
        ValueError: if `rate` is negative or not finite, or the networks do not match.
            The message names a layer that differs, and the model is not modified.

    Example:
        >>> import keras
        >>> options = {"include_top": False, "input_shape": (32, 32, 3)}
        >>> source = keras.applications.ResNet50V2(weights=None, **options)
        >>> model = zoo.InResNet50(**options)
        >>> zoo.load_application(model, source, rate=0.25)
        >>> set(inres_tf.layers.damping_rates(model).values())
        {0.25}
    """
    layers = {}
    for layer in source.layers:
        match = re.fullmatch(r"conv(\d)_block(\d+)_(\w+)", layer.name)
        if match and match[3] in _PARTS:
            stage = int(match[1]) - 1
            name: str | None = f"stage{stage}_block{match[2]}_{_PARTS[match[3]]}"
        else:
            name = _FIXED.get(layer.name)
        if name and layer.weights:
            layers[name] = layer
    _copy(layers, source.name, model, rate)


def load_imagenet(
    model: keras.Model, application: str, options: Mapping[str, Any]
) -> None:
    """Loads the ImageNet weights that Keras offers for download.

    Args:
        model: a network of the zoo.
        application: name of the network in `keras.applications`.
        options: arguments that the model was constructed with.

    Raises:
        ValueError: if the model has a top that is not for 1000 classes.
        OSError: if the weights cannot be downloaded.
    """
    top = options["include_top"]
    if top and options["classes"] != 1000:
        raise ValueError(
            "weights='imagenet' with include_top=True needs classes=1000. "
            f"Received: classes={options['classes']}"
        )
    constructor = getattr(keras.applications, application)
    try:
        source = constructor(weights="imagenet", include_top=top)
    except Exception as error:  # Keras raises a bare Exception if a download fails
        raise OSError(
            f"The ImageNet weights of {application} cannot be downloaded: {error}"
        ) from error
    load_application(model, source)


def copy_by_name(source: keras.Model, model: keras.Model) -> None:
    """Copies the weights of a network of the zoo into another of the same family.

    Args:
        source: a network with or without its top. If it is undamped, every λ of
            `model` is set to 0.
        model: the network to modify.

    Raises:
        ValueError: if the networks do not match; the model is not modified.
    """
    _copy({x.name: x for x in source.layers if x.weights}, source.name, model, 0.0)


def _copy(sources, source_name, model, rate):
    """Sets the weights of `model`'s layers from the source layers of the same name."""
    layers = {x.name: x for x in model.layers if _OWN.match(x.name)}
    scalars = [
        layer
        for layer in layers.values()
        if isinstance(layer, DampedAdd)
        and layer.k is not None
        and layer.name not in sources
    ]
    values = [dampings.scalar_of(layer.damping, rate) for layer in scalars]
    pairs, problem = [], None
    for layer in (x for x in layers.values() if x.weights and x not in scalars):
        source = sources.get(layer.name)
        if source is None:
            problem = f"they have none for its layer {layer.name!r}"
            break
        for weights in itertools.zip_longest(layer.weights, source.weights):
            needed, given = (None if x is None else tuple(x.shape) for x in weights)
            if needed != given and problem is None:
                problem = f"layer {layer.name!r} needs {needed}, they have {given}"
        pairs.append((layer, source))
    unmatched = sorted(set(sources) - set(layers) - {"predictions", "normalization"})
    if unmatched and problem is None:
        problem = f"it has no layer {unmatched[0]!r}"
    if problem:
        raise ValueError(
            f"The weights of {source_name} do not fit {model.name}: {problem}."
        )
    for layer, source in pairs:
        layer.set_weights(source.get_weights())
    for layer, value in zip(scalars, values):
        layer.k.assign(value)
