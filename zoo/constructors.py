"""The constructors of the zoo, derived from the families in `presets`."""

import functools
import os
import textwrap
from typing import Any

import keras

from zoo import build, registry

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
    title = family.names[own_damping][0].format(size)
    smallest = network.style.minimum
    example = f"zoo.{title}(input_shape=({smallest}, {smallest}, 3), classes=3)"
    return _named(constructor, title, doc(title=title, depth="", example=example))


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
    summary = (
        f"{family.title}, whose damped blocks compute a(λ) x + b(λ) f(x). The first "
        "block and blocks that change the shape are never damped."
    )
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


BY_MODEL = {name: _constructor(*key) for name, key in registry.MODELS.items()}
ANY_DEPTH = {name: _any_depth(*key) for name, key in registry.ANY_DEPTH.items()}
