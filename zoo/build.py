"""Building a network of the zoo with its initial weights."""

import os
import pathlib
from typing import Any

import keras

from inres_tf.layers import damping_rates, dampings
from zoo import applications, builder, presets, weight_files


def build(
    network: presets.Network,
    registered: str,
    weights: str | os.PathLike[str] | None,
    options: dict[str, Any],
) -> keras.Model:
    """Builds a network and loads its weights.

    Args:
        network: the network's description.
        registered: name of the network in the zoo, under which weights may be shipped.
        weights: None for random weights, the name of shipped weights, `"imagenet"`, or
            the path of a file.
        options: the other arguments of the constructor.

    Raises:
        ValueError: for an invalid argument, or if `classes` differs from the number of
            classes of `weights`.
        OSError: if the ImageNet weights cannot be downloaded.
    """
    _check(options)
    is_imagenet = isinstance(weights, str) and weights == "imagenet"
    application = network.application if is_imagenet else None
    path = None
    if weights is not None:
        check_activation(options)
        if not application:
            path = weight_files.resolve(registered, weights)
    model = _model(network, **options)
    if application:
        applications.load_imagenet(model, application, options)
    elif path is not None:
        weight_files.check_fit(registered, weights, model, options)
        _load(model, network, path, options)
        if options["include_top"]:
            weight_files.assign_class_names(registered, weights, model, path)
    return model


def _check(options):
    dampings.get(options["damping"])
    builder.check_top(options["include_top"], options["pooling"], options["classes"])
    for name in ("stochastic_depth", "noise"):
        builder.check_probability(name, options[name])
    if options["stochastic_depth"] and options["damping"] == "plain":
        raise ValueError(
            "Stochastic depth drops branches, which needs shortcuts: damping='plain' "
            "needs stochastic_depth=0. "
            f"Received: stochastic_depth={options['stochastic_depth']}"
        )


def check_activation(options: dict[str, Any]) -> None:
    """Raises ValueError for an activation that does not fit loaded weights."""
    activation = options["classifier_activation"]
    if options["include_top"] and activation not in (None, "softmax"):
        raise ValueError(
            "With `weights`, `classifier_activation` must be None or 'softmax'. "
            f"Received: classifier_activation={activation!r}"
        )


def _model(
    network,
    include_top,
    include_preprocessing,
    input_tensor,
    input_shape,
    pooling,
    classes,
    classifier_activation,
    damping,
    name,
    stochastic_depth,
    noise,
):
    """Builds the network with random weights."""
    style = network.style
    inputs = builder.input_pixels(input_tensor, input_shape, include_top, style)
    x = inputs
    if include_preprocessing:
        x = builder.normalization(x, style)
    x = builder.body(x, network, damping, stochastic_depth, noise)
    outputs = builder.head(
        x, network, include_top, pooling, classes, classifier_activation
    )
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(inputs)
        inputs = sources[0] if len(sources) == 1 else sources
    return keras.Model(inputs, outputs, name=name)


def check_classes(path: pathlib.Path, options: dict[str, Any]) -> int | None:
    """Returns the number of classes of the classifier in a weights file, or None.

    Raises:
        ValueError: if the network needs a classifier that the file does not hold.
    """
    saved = weight_files.saved_classes(path)
    if options["include_top"] and saved is None:
        raise ValueError(
            f"The weights in {path.name} have no classifier: pass include_top=False. "
            "Received: include_top=True"
        )
    if options["include_top"] and saved != options["classes"]:
        raise ValueError(
            f"The weights in {path.name} are for classes={saved}: pass that, or "
            "include_top=False to add your own classifier. "
            f"Received: classes={options['classes']}"
        )
    return saved


def _load(model, network, path, options):
    """Loads a weights file, also of the same network with a top or without damping."""
    saved = check_classes(path, options)
    saved_options = {
        **options,
        "include_top": saved is not None,
        "classes": saved or options["classes"],
    }
    if damping_rates(model) and not weight_files.holds(path, "damped_add/vars/0"):
        saved_options["damping"] = "none"
    # The probabilities do not matter here, but additional layers change the file.
    for name, kind in (("stochastic_depth", "dropout"), ("noise", "gaussian_noise")):
        if bool(options[name]) != weight_files.holds(path, kind):
            saved_options[name] = 0.0 if options[name] else 0.1
    if options["input_tensor"] is None and saved_options == options:
        weight_files.load(model, path)
        return
    channels = model.get_layer("stem_conv").kernel.shape[-2]
    saved_options |= {
        "input_tensor": None,
        "input_shape": (None, None, channels),
        "pooling": None,
        "classifier_activation": None,
    }
    source = _model(network, **saved_options)
    weight_files.load(source, path)
    applications.copy_by_name(source, model)
