"""Weights of `keras.applications`, and of undamped networks, for damped ones."""

import itertools
import re

import keras

from inres_tf.layers import DampedAdd, dampings

# A network's own layers, without what it may be built upon.
_OWN = re.compile(r"(stem|head|stage\d+_block\d+)_|predictions$")
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
        rate: the λ >= 0 that every damped block starts from.

    Raises:
        ValueError: if `rate` is no such number, or the networks do not match, naming a
            layer that differs; nothing is changed.
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
        OSError: if they cannot be fetched.
    """
    top = options["include_top"]
    if top and options["classes"] != 1000:
        raise ValueError(
            "weights='imagenet' with include_top=True are for classes=1000. "
            f"Received: classes={options['classes']}"
        )
    constructor = getattr(keras.applications, application)
    try:
        source = constructor(weights="imagenet", include_top=top)
    except Exception as error:  # Keras raises no narrower one if it cannot fetch them
        raise OSError(
            f"The ImageNet weights of {application} could not be fetched: {error}"
        ) from error
    load_application(model, source)


def copy_by_name(source, model) -> None:
    """Copies the weights of one network of the zoo into another of its kind.

    Args:
        source: with or without the top, perhaps undamped: then every λ starts from 0.
        model: the network that takes them.
    """
    _copy({x.name: x for x in source.layers if x.weights}, source.name, model, 0.0)


def _copy(theirs, name, model, rate):
    """Sets the weights of `model`'s layers from those of the same name."""
    layers = {x.name: x for x in model.layers if _OWN.match(x.name)}
    scalars = [
        layer
        for layer in layers.values()
        if isinstance(layer, DampedAdd)
        and layer.k is not None
        and layer.name not in theirs
    ]
    values = [dampings.scalar_of(layer.damping, rate) for layer in scalars]
    pairs, problem = [], None
    for own in (x for x in layers.values() if x.weights and x not in scalars):
        other = theirs.get(own.name)
        if other is None:
            problem = f"they have none for its layer {own.name!r}"
            break
        for a, b in itertools.zip_longest(own.weights, other.weights):
            shapes = [None if x is None else tuple(x.shape) for x in (a, b)]
            if shapes[0] != shapes[1] and problem is None:
                problem = f"layer {own.name!r} needs {shapes[0]}, they have {shapes[1]}"
        pairs.append((own, other))
    left = sorted(set(theirs) - set(layers) - {"predictions", "normalization"})
    if left and problem is None:
        problem = f"it has no layer {left[0]!r}"
    if problem:
        raise ValueError(f"The weights of {name} do not fit {model.name}: {problem}.")
    for own, other in pairs:
        own.set_weights(other.get_weights())
    for layer, value in zip(scalars, values):
        layer.k.assign(value)
