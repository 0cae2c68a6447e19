"""The constructors of the zoo, made from the families of `presets`."""

import functools
import textwrap

from zoo import build, registry

_DOC = """{title}: damping {damping!r} by default.

{summary}

Args:
{depth}    weights: None (random), the name of shipped weights{imagenet},
        or the path of a `.weights.h5` or `.keras` file of the same network. One of the
        undamped network will do: every λ then starts from 0.
    include_top: whether to end with global average pooling and the classifier.
    include_preprocessing: True: the model takes pixels in [0, 255] (uint8 or
        float) and normalises them itself. False: it takes normalised values{scaling}.
    input_tensor: Keras tensor to use as the input.
    input_shape: (height, width, channels), at least {minimum}x{minimum}; height
        and width may be None. None: ({side}, {side}, 3), or (None, None, 3) without
        the top.
    pooling: without the top: None (feature maps), "avg" or "max".
    classes: number of classes.
    classifier_activation: activation of the last layer; None for logits.
    damping: "none", "in", "lambda_in", "exponential" or "plain"; see
        `inres_tf.layers.DampedAdd`.
    name: name of the model.
    stochastic_depth: probability in [0, 1) that a sample goes without the last block's
        branch in training; it grows linearly from 0 at the first block (Huang et al.,
        Deep Networks with Stochastic Depth, ECCV 2016).
    noise: scale in [0, 1) of the noise added in training: N(0, noise) after the first
        block, U(0, noise) after the others (EnResNet).

Returns:
    A functional `keras.Model`: (batch, height, width, channels) to
    (batch, classes), or without the top to feature maps of {features} channels and
    1/{strides} of the height and width, or their pooled (batch, {features}).

Raises:
    ValueError: for a wrong argument, or `classes` that contradict `weights`.{fetch}

Reference:
    {reference}"""


def _constructor(family, size, own_damping):
    """The constructor of one network, such as `InResNet20`."""
    network = family.networks[size]
    own_name = family.names[own_damping][1].format(size)
    side = network.style.side

    def constructor(
        weights=None,
        include_top=True,
        include_preprocessing=True,
        input_tensor=None,
        input_shape=(side, side, 3),
        pooling=None,
        classes=network.style.classes,
        classifier_activation="softmax",
        damping=own_damping,
        name=own_name,
        stochastic_depth=0.0,
        noise=family.noise,
    ):
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
    return _named(constructor, title, doc(title=title, depth=""))


def _registered(family, size, name, damping):
    """The zoo's name of a network under a damping, if it has one."""
    known = isinstance(damping, str) and damping in family.names
    return family.names[damping][1].format(size) if known else name


def _any_depth(family, own_damping):
    """The constructor of a family at any depth, such as `InResNet(depth=20)`."""
    stem = family.names[own_damping][1]

    def constructor(depth, **kwargs):
        if str(depth) not in family.networks:
            raise ValueError(
                f"`depth` must be one of {', '.join(family.networks)}. "
                f"Received: depth={depth!r}"
            )
        return BY_MODEL[stem.format(depth)](**kwargs)

    doc = _documentation(family, family.networks["20"], own_damping)
    title = family.names[own_damping][0].format("")
    depth = f"    depth: one of {', '.join(family.networks)}.\n"
    return _named(constructor, title, doc(title=f"{title} of any depth", depth=depth))


def _documentation(family, network, damping):
    style = network.style
    symmetric = style.scaling == "symmetric"
    summary = (
        f"{family.title}, whose damped blocks compute a(λ) x + b(λ) f(x). The first "
        "block and those that change the shape are never damped."
    )
    fetched = network.application is not None
    return functools.partial(
        _DOC.format,
        summary=textwrap.fill(summary, 84),
        damping=damping,
        imagenet=', "imagenet" (Keras fetches it)' if fetched else "",
        fetch='\n    OSError: if "imagenet" cannot be fetched.' if fetched else "",
        scaling=",\n        x / 127.5 - 1" if symmetric else "",
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
