"""Building the networks of continuous depth and of convex potential blocks.

Each is a chain, from pixels to logits, of maps whose Lipschitz constants are known:
normalisation, cells of pixels moved into the channels, channels of zeros, flows or
convex potential blocks, a dense layer.
"""

import os
from typing import Any

import keras
from keras import layers

from inres_tf import solvers
from inres_tf.layers import (
    ConvDynamics,
    ConvexPotentialConv2D,
    ConvexPotentialDense,
    NeuralODE,
    ResizeChannels,
    SpaceToDepth,
)
from zoo import build, builder, cards, presets, weight_files


def build_continuous(
    network: presets.ContinuousNetwork,
    registered: str,
    weights: str | os.PathLike[str] | None,
    options: dict[str, Any],
) -> keras.Model:
    """Builds a network of continuous depth and loads its weights.

    Args:
        network: the network's description.
        registered: name of the network in the zoo, under which weights may be shipped.
        weights: None for random weights, the name of shipped weights, or the path of a
            file of the same network.
        options: the other arguments of the constructor.

    Raises:
        ValueError: for an invalid argument, or weights that do not fit.
    """
    builder.check_top(options["include_top"], options["pooling"], options["classes"])
    path = None
    if weights is not None:
        build.check_activation(options)
        path = weight_files.resolve(registered, weights)
    model = _model(network, **options)
    if path is not None:
        weight_files.check_fit(registered, weights, model, options)
        if weights in cards.shipped(registered):
            _check_flow(network, weights, options)
        _load(model, network, path, options)
        if options["include_top"]:
            weight_files.assign_class_names(registered, weights, model, path)
    return model


def _check_flow(network, weights, options):
    """Raises ValueError if shipped weights are of other flows than the options'."""
    for name, own in (("lipschitz", network.lipschitz), ("dynamics", network.flow)):
        if options.get(name, own) != own:
            raise ValueError(
                f"The {weights!r} weights are for {name}={own!r}. Received: "
                f"{name}={options[name]!r}"
            )


def solver_of(solver: Any, blocks: int) -> solvers.Solver:
    """Returns the solver of a stage.

    Args:
        solver: a method's name, a `Solver`, or a dict of its settings. A fixed-step
            method by name gets as many steps as take 2 · `blocks` evaluations.
        blocks: of the stage.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(solver, str) and solver in solvers.FIXED_STEP:
        evaluations = solvers.Solver(solver).evaluations_per_step
        return solvers.Solver(solver, max(1, 2 * blocks // evaluations))
    return solvers.get(solver)


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
    solver=None,
    lipschitz=None,
    dynamics=None,
):
    """Builds the network with random weights."""
    style = network.style
    if input_shape is None and input_tensor is None:
        input_shape = (style.side, style.side, 3)
    inputs = builder.input_pixels(input_tensor, input_shape, include_top, style)
    if None in inputs.shape[1:]:
        raise ValueError(
            f"{name} needs images of known height and width: its Lipschitz constants "
            f"depend on them. Received: input_shape={tuple(inputs.shape[1:])}"
        )
    x = inputs
    if include_preprocessing:
        x = builder.normalization(x, style)
    if network.cell > 1:
        x = SpaceToDepth(network.cell, name="stem_space_to_depth")(x)
    for i, stage in enumerate(network.stages, 1):
        if i > 1:
            x = SpaceToDepth(2, name=f"stage{i}_space_to_depth")(x)
        x = ResizeChannels(stage.width, name=f"stage{i}_channels")(x)
        if network.flow is None:
            for j in range(1, stage.blocks + 1):
                x = ConvexPotentialConv2D(
                    stage.width, stage.kernel, damping, name=f"stage{i}_block{j}"
                )(x)
        else:
            f = ConvDynamics(
                dynamics, None, stage.kernel, lipschitz, name=f"stage{i}_dynamics"
            )
            rate = 0.0 if damping == "none" else damping
            x = NeuralODE(
                f, solver_of(solver, stage.blocks), damping=rate, name=f"stage{i}_flow"
            )(x)
    limited = network.flow is None or lipschitz is not None
    outputs = _head(
        x, network, include_top, pooling, classes, classifier_activation, limited
    )
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(inputs)
        inputs = sources[0] if len(sources) == 1 else sources
    return keras.Model(inputs, outputs, name=name)


def _head(x, network, include_top, pooling, classes, activation, limited):
    """Applies the classifier or the pooling.

    With `limited` the weights of each class keep the norm 1, so that only features, not
    weights, can enlarge a margin.
    """
    if not include_top:
        return builder.pool(x, pooling)
    x = layers.Flatten(name="flatten")(x)
    if network.units:
        x = ResizeChannels(network.units, name="head_channels")(x)
        x = ConvexPotentialDense(network.units, "none", name="head_block")(x)
    unit = {
        "kernel_initializer": "orthogonal",
        "kernel_constraint": keras.constraints.UnitNorm(axis=0),
    }
    return layers.Dense(
        int(classes),
        activation=activation,
        dtype="float32",
        name="predictions",
        **(unit if limited else {}),
    )(x)


def _load(model, network, path, options):
    """Loads a weights file of the same network, with or without its top."""
    saved = build.check_classes(path, options)
    if options["input_tensor"] is None and bool(saved) == options["include_top"]:
        weight_files.load(model, path)
        return
    source_options = {
        **options,
        "include_top": saved is not None,
        "classes": saved or options["classes"],
        "input_tensor": None,
        "input_shape": tuple(model.inputs[0].shape[1:]),
        "pooling": None,
        "classifier_activation": None,
    }
    source = _model(network, **source_options)
    weight_files.load(source, path)
    sources = {layer.name: layer for layer in source.layers}
    for layer in model.layers:
        if layer.weights and layer.name in sources:
            layer.set_weights(sources[layer.name].get_weights())
