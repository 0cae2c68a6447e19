"""A whole network of the zoo, and the weights it starts from."""

import keras

from inres_tf.layers import damping_rates, dampings
from zoo import applications, builder, weight_files


def build(network, registered, weights, options):
    """Builds a network with its weights.

    Args:
        network: a `presets.Network`.
        registered: name in the zoo under which weights may be shipped.
        weights: as in the constructors.
        options: their other arguments, by name.

    Raises:
        ValueError: for a wrong argument, or `classes` that contradict `weights`.
    """
    _check(options)
    imagenet = isinstance(weights, str) and weights == "imagenet"
    imagenet = imagenet and network.application
    path = None
    if weights is not None:
        _check_activation(options)
        if not imagenet:
            path = weight_files.resolve(registered, weights)
    model = _model(network, **options)
    if imagenet:
        applications.load_imagenet(model, network.application, options)
    elif path is not None:
        _load(model, network, path, options)
    return model


def _check(options):
    dampings.get(options["damping"])
    builder.check_top(options["include_top"], options["pooling"], options["classes"])
    for name in ("stochastic_depth", "noise"):
        builder.check_probability(name, options[name])
    if options["stochastic_depth"] and options["damping"] == "plain":
        raise ValueError(
            "Stochastic depth drops branches, and without shortcuts nothing would be "
            "left: damping='plain' needs stochastic_depth=0. "
            f"Received: stochastic_depth={options['stochastic_depth']}"
        )


def _check_activation(options):
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
    """The network with random weights."""
    style = network.style
    inputs = builder.input_pixels(input_tensor, input_shape, include_top, style)
    x = inputs
    if include_preprocessing:
        x = builder.normalization(x, style)
    x = builder.body(x, network, damping, stochastic_depth, noise)
    outputs = builder.head(
        x, style, include_top, pooling, classes, classifier_activation
    )
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(inputs)
        inputs = sources[0] if len(sources) == 1 else sources
    return keras.Model(inputs, outputs, name=name)


def _load(model, network, path, options):
    """Loads a file, which may also be of the network with a top or without damping."""
    saved = weight_files.saved_classes(path)
    if options["include_top"] and saved is None:
        raise ValueError(
            f"The weights in {path.name} have no classifier: pass include_top=False. "
            "Received: include_top=True"
        )
    if options["include_top"] and saved != options["classes"]:
        raise ValueError(
            f"The weights in {path.name} are for classes={saved}: pass that, or "
            "include_top=False to put a classifier of your own on top. "
            f"Received: classes={options['classes']}"
        )
    like = {
        **options,
        "include_top": saved is not None,
        "classes": saved or options["classes"],
    }
    if damping_rates(model) and not weight_files.holds(path, "damped_add/vars/0"):
        like["damping"] = "none"
    # Their size does not matter here, but layers more or fewer change the file.
    for name, kind in (("stochastic_depth", "dropout"), ("noise", "gaussian_noise")):
        if bool(options[name]) != weight_files.holds(path, kind):
            like[name] = 0.0 if options[name] else 0.1
    if options["input_tensor"] is None and like == options:
        weight_files.load(model, path)
        return
    channels = model.get_layer("stem_conv").kernel.shape[-2]
    like |= {
        "input_tensor": None,
        "input_shape": (None, None, channels),
        "pooling": None,
        "classifier_activation": None,
    }
    source = _model(network, **like)
    weight_files.load(source, path)
    applications.copy_by_name(source, model)
