"""The constructors of the zoo, derived from the families in `presets`."""

import functools
import inspect
import os
import textwrap
from typing import Any

import keras

from inres_tf.layers.neural_ode import KINDS
from zoo import build, neural_ode, presets, registry

_DOC = """{title}: damping {damping!r} by default.

{summary}

Args:
{depth}{weights}
    include_top: whether to end with global average pooling and a classifier.
    include_preprocessing: if True, the model takes pixels in [0, 255] (uint8 or
        float) and normalises them; if False, it takes normalised values{scaling}.
    input_tensor: Keras tensor to use as the input.
    input_shape: (height, width, channels), at least {minimum}x{minimum} pixels; height
        and width may be None. None means ({side}, {side}, 3), or (None, None, 3)
        without the top.
    pooling: without the top: None for feature maps, "avg" or "max".
    classes: number of classes.
    classifier_activation: activation of the last layer; None for logits.
    damping: "none", "in", "lambda_in", "exponential" or "plain"; see
        `inres_tf.layers.DampedAdd`.
    name: name of the model.
    stochastic_depth: probability in [0, 1) of dropping the last block's branch of a
        sample in training, which grows linearly from 0 at the first block (Huang et
        al., Deep Networks with Stochastic Depth, ECCV 2016).
    noise: scale in [0, 1) of the noise added in training: N(0, noise) after the first
        block, U(0, noise) after the others (EnResNet).

Returns:
    A functional `keras.Model` from (batch, height, width, channels) to (batch,
    classes). Without the top its outputs are feature maps with {features} channels and
    1/{strides} of the height and width, or with pooling (batch, {features}).

Raises:
    ValueError: for an invalid argument, or if `classes` differs from the number of
        classes of `weights`.{download}

Example:
    >>> model = {example}
    >>> model.output_shape
    (None, 3)

Reference:
    {reference}"""


def _constructor(family, size, own_damping):
    """Returns the constructor of one network, such as `InResNet20`."""
    network = family.networks[size]
    own_name = family.names[own_damping][1].format(size)
    side = network.style.side

    def constructor(
        weights: str | os.PathLike[str] | None = None,
        include_top: bool = True,
        include_preprocessing: bool = True,
        input_tensor: Any = None,
        input_shape: tuple[int | None, int | None, int] | None = (side, side, 3),
        pooling: str | None = None,
        classes: int = network.style.classes,
        classifier_activation: Any = "softmax",
        damping: str = own_damping,
        name: str = own_name,
        stochastic_depth: float = 0.0,
        noise: float = family.noise,
    ) -> keras.Model:
        options = {
            "include_top": include_top,
            "include_preprocessing": include_preprocessing,
            "input_tensor": input_tensor,
            "input_shape": input_shape,
            "pooling": pooling,
            "classes": classes,
            "classifier_activation": classifier_activation,
            "damping": damping,
            "name": name,
            "stochastic_depth": stochastic_depth,
            "noise": noise,
        }
        return build.build(
            network, _registered(family, size, own_name, damping), weights, options
        )

    doc = _documentation(family, network, own_damping)
    title = registry.constructor_name(family, size, own_damping)
    smallest = network.style.minimum
    example = f"zoo.{title}(input_shape=({smallest}, {smallest}, 3), classes=3)"
    return _named(constructor, title, doc(title=title, depth="", example=example))


_CONTINUOUS_DOC = """{title}: {summary}.

Images are normalised, cells of pixels move into the channels, channels of zeros are
added, and each stage is {stage}. The height and width must be known.

Args:
{size}    weights: None for random weights, the name of shipped weights, or the path of
        a `.weights.h5` or `.keras` file of the same network and image size.
    include_top: whether to end with a classifier.
    include_preprocessing: if True, the model takes pixels in [0, 255] (uint8 or
        float) and normalises them; if False, it takes normalised values.
    input_tensor: Keras tensor to use as the input.
    input_shape: (height, width, channels).
    pooling: without the top: None for feature maps, "avg" or "max".
    classes: number of classes.
    classifier_activation: activation of the last layer; None for logits.
    damping: {damping}
    name: name of the model.
{more}
Returns:
    A functional `keras.Model` from (batch, height, width, channels) to (batch,
    classes).

Raises:
    ValueError: for an invalid argument, or weights that do not fit.

Example:
    >>> model = {example}
    >>> model.output_shape
    (None, 3)

Reference:
    {reference}"""
_SOLVER_DOC = """\
    solver: method that integrates the flow from time 0 to 1: a name, an
        `inres_tf.solvers.Solver` or a dict of its settings. A fixed-step method by name
        takes as many steps as the network's size allows for.
    lipschitz: the largest Lipschitz constant of the flow's right-hand side, or None.
        With one, the weights of each class also keep the norm 1.
    dynamics: kind of the right-hand side: {kinds}; see `inres_tf.layers.ConvDynamics`.
"""


def _continuous(family, size, own_damping):
    """Returns the constructor of one network of continuous depth."""
    network = family.networks[size]
    own_name = family.names[own_damping][1].format(size)
    title = registry.constructor_name(family, size, own_damping)
    shared = {
        "weights": None,
        "include_top": True,
        "include_preprocessing": True,
        "input_tensor": None,
        "input_shape": (network.style.side, network.style.side, 3),
        "pooling": None,
        "classes": network.style.classes,
        "classifier_activation": "softmax",
        "damping": own_damping,
        "name": own_name,
    }
    own = {}
    if network.flow is not None:
        own = {
            "solver": network.solver,
            "lipschitz": network.lipschitz,
            "dynamics": network.flow,
        }
    defaults = shared | own

    def constructor(*args: Any, **kwargs: Any) -> keras.Model:
        options = signature.bind(*args, **kwargs)
        options.apply_defaults()
        weights = options.arguments.pop("weights")
        name = _registered(family, size, own_name, options.arguments["damping"])
        return neural_ode.build_continuous(network, name, weights, options.arguments)

    signature = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=x)
            for name, x in defaults.items()
        ]
    )
    constructor.__signature__ = signature
    example = f"zoo.{title}(input_shape=(8, 8, 1), classes=3)"
    return _named(constructor, title, _continuous_doc(family, network, title, example))


def _continuous_doc(family, network, title, example, size=""):
    flows = network.flow is not None
    return _CONTINUOUS_DOC.format(
        title=title,
        summary=family.title[0].lower() + family.title[1:],
        stage="one neural ODE" if flows else "several convex potential blocks",
        size=size,
        damping=(
            '"none", "in" for a trained λ = relu(1 - k), or a fixed λ >= 0; see\n'
            "        `inres_tf.layers.NeuralODE`."
            if flows
            else '"none", "in" or "exponential"; see\n'
            "        `inres_tf.layers.ConvexPotentialConv2D`."
        ),
        more=_SOLVER_DOC.format(kinds=", ".join(map(repr, KINDS))) if flows else "",
        example=example,
        reference=textwrap.fill(family.reference, 80, subsequent_indent="    "),
    )


def _any_size(title, family, own_damping):
    """Returns the constructor of a family of continuous depth in any size."""

    def constructor(size: str = "small", **kwargs: Any) -> keras.Model:
        if size not in family.networks:
            raise ValueError(
                f"`size` must be one of {', '.join(map(repr, family.networks))}. "
                f"Received: size={size!r}"
            )
        return BY_MODEL[family.names[own_damping][1].format(size)](**kwargs)

    network = family.networks["small"]
    names = ", ".join(f'"{name}"' for name in family.networks)
    size = f"    size: one of {names}.\n"
    example = f'zoo.{title}("tiny", input_shape=(8, 8, 1), classes=3)'
    doc = _continuous_doc(family, network, title, example, size)
    return _named(constructor, title, doc)


def _registered(family, size, name, damping):
    """Returns the zoo's name for a network with a damping, by default `name`."""
    is_named = isinstance(damping, str) and damping in family.names
    return family.names[damping][1].format(size) if is_named else name


def _any_depth(family, own_damping):
    """Returns the constructor of a family at any depth, such as `InResNet`."""
    name = family.names[own_damping][1]

    def constructor(depth: int, **kwargs: Any) -> keras.Model:
        if str(depth) not in family.networks:
            raise ValueError(
                f"`depth` must be one of {', '.join(family.networks)}. "
                f"Received: depth={depth!r}"
            )
        return BY_MODEL[name.format(depth)](**kwargs)

    doc = _documentation(family, family.networks["20"], own_damping)
    title = family.names[own_damping][0].format("")
    depth = f"    depth: one of {', '.join(family.networks)}.\n"
    example = f"zoo.{title}(8, input_shape=(8, 8, 1), classes=3)"
    description = doc(title=f"{title} of any depth", depth=depth, example=example)
    return _named(constructor, title, description)


def _documentation(family, network, damping):
    """Returns the docstring as a function of the title, the depth and the example."""
    style = network.style
    is_symmetric = style.scaling == "symmetric"
    summary = f"{family.title}, whose damped blocks compute a(λ) x + b(λ) f(x)."
    if not network.block.pooled:
        summary += " The first block and blocks that change the shape are never damped."
    has_imagenet = network.application is not None
    imagenet = '"imagenet" (downloaded by Keras), ' if has_imagenet else ""
    weights = (
        f"weights: None for random weights, the name of shipped weights, {imagenet}or "
        "the path of a `.weights.h5` or `.keras` file of the same network. A file of "
        "the undamped network works as well: every λ then starts from 0."
    )
    return functools.partial(
        _DOC.format,
        summary=textwrap.fill(summary, 84),
        damping=damping,
        weights=textwrap.fill(
            weights, 84, initial_indent=" " * 4, subsequent_indent=" " * 8
        ),
        download='\n    OSError: if the "imagenet" weights cannot be downloaded.'
        if has_imagenet
        else "",
        scaling=",\n        x / 127.5 - 1" if is_symmetric else "",
        minimum=style.minimum,
        side=style.side,
        features=style.widths[-1] * network.block.widths[-1],
        strides=style.strides,
        reference=textwrap.fill(family.reference, 80, subsequent_indent="    "),
    )


def _named(function, name, doc):
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _of(family, size, damping):
    is_continuous = isinstance(family, presets.ContinuousFamily)
    return (_continuous if is_continuous else _constructor)(family, size, damping)


BY_MODEL = {name: _of(*key) for name, key in registry.MODELS.items()}
ANY_SIZE = {
    **{name: _any_depth(*key) for name, key in registry.ANY_DEPTH.items()},
    **{name: _any_size(name, *key) for name, key in registry.ANY_SIZE.items()},
}
