"""Weights of `keras.applications`, and of undamped networks, for damped ones."""

import re

import keras

from inres_tf import dampings
from inres_tf.layers import DampedAdd

_FIXED = {
    "conv1_conv": "stem_conv",
    "post_bn": "head_bn",
    "predictions": "predictions",
}
# Layer within a block of keras.applications' ResNetV2: within ours.
_PARTS = {
    "preact_bn": "1_bn",
    "0_conv": "shortcut_conv",
    "1_conv": "1_conv",
    "1_bn": "2_bn",
    "2_conv": "2_conv",
    "2_bn": "3_bn",
    "3_conv": "3_conv",
}


def load_application(model, source, rate=0.0) -> None:
    """Copies the weights of a ResNetV2 of `keras.applications` into its damped network.

    At rate 0 the network then gives what the ResNetV2 gives.

    Args:
        model: `zoo.ResNet50V2`, `zoo.InResNet50` or another damping of them, or those
            of depth 101 and 152; with or without its top.
        source: `keras.applications.ResNet50V2`, `ResNet101V2` or `ResNet152V2`; with
            its top if `model` has one.
        rate: λ that every damped block starts from.

    Raises:
        ValueError: if the networks do not match, naming the first layer that differs;
            nothing is changed.
    """
    theirs = {}
    for layer in source.layers:
        match = re.fullmatch(r"conv(\d)_block(\d+)_(\w+)", layer.name)
        if match and match[3] in _PARTS:
            name = f"stage{int(match[1]) - 1}_block{match[2]}_{_PARTS[match[3]]}"
        else:
            name = _FIXED.get(layer.name)
        if name and layer.weights:
            theirs[name] = layer
    _copy(theirs, source.name, model, rate)


def load_imagenet(model, application, options) -> None:
    """Loads the ImageNet weights that Keras offers for download.

    Raises:
        ValueError: if the network is not of ImageNet's 1000 classes.
    """
    top = options["include_top"]
    if top and options["classes"] != 1000:
        raise ValueError(
            "weights='imagenet' with include_top=True are for classes=1000. "
            f"Received: classes={options['classes']}"
        )
    constructor = getattr(keras.applications, application)
    load_application(model, constructor(weights="imagenet", include_top=top))


def copy_by_name(source, model) -> None:
    """Copies the weights of one network of the zoo into another of its kind.

    Args:
        source: with or without the top, perhaps undamped: then every λ starts from 0.
        model: the network that takes them.
    """
    _copy({x.name: x for x in source.layers if x.weights}, source.name, model, 0.0)


def _copy(theirs, name, model, rate):
    """Sets the weights of `model`'s layers from those of the same name."""
    scalars, pairs = [], []
    for layer in model.layers:
        if isinstance(layer, DampedAdd) and layer.name not in theirs:
            scalars += [] if layer.k is None else [layer]
        elif layer.weights and not isinstance(layer, keras.layers.Normalization):
            if layer.name not in theirs:
                raise ValueError(
                    f"The weights of {name} do not fit {model.name}: they have none "
                    f"for its layer {layer.name!r}."
                )
            pairs.append((layer, theirs.pop(layer.name)))
    left = sorted(n for n in theirs if n not in ("predictions", "normalization"))
    if left:
        raise ValueError(
            f"The weights of {name} do not fit {model.name}, which has no layer "
            f"{left[0]!r}."
        )
    for ours, other in pairs:
        for a, b in zip(ours.weights, other.weights, strict=True):
            if tuple(a.shape) != tuple(b.shape):
                raise ValueError(
                    f"The weights of {name} do not fit {model.name}: layer "
                    f"{ours.name!r} needs {tuple(a.shape)}, they have {tuple(b.shape)}."
                )
    for ours, other in pairs:
        ours.set_weights(other.get_weights())
    for layer in scalars:
        layer.k.assign(dampings.get(layer.damping).scalar(rate))
