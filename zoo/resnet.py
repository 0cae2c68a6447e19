"""The CIFAR residual networks of the paper, under every damping.

Depth 6n+2 (basic blocks) or 9n+2 (bottlenecks); three stages of 16, 32 and 64
channels (x4 for bottlenecks). Pre-activation; the stem is a bare 3x3 convolution.
"""

import keras
from keras import layers

from inres_tf import dampings
from inres_tf.layers import DampedAdd
from zoo import builder, presets
from zoo import weights as weight_files

_DOC = """{title}

Pre-activation residual network for small images whose damped blocks compute
a(λ) x + b(λ) f(x). The first block of the network and those of stages 2 and 3,
where the shape changes, are never damped.

Args:
{depth}    weights: None (random), the name of shipped weights, or the path of a
        `.weights.h5` or `.keras` file of the same network.
    include_top: whether to end with global average pooling and the classifier.
    include_preprocessing: True: the model takes pixels in [0, 255] (uint8 or
        float) and normalises them itself. False: it takes normalised values.
    input_tensor: Keras tensor to use as the input.
    input_shape: (height, width, channels), at least 4x4; height and width may be
        None. None: (32, 32, 3), or (None, None, 3) without the top.
    pooling: without the top: None (feature maps), "avg" or "max".
    classes: number of classes.
    classifier_activation: activation of the last layer; None for logits.
    damping: "none", "in", "lambda_in", "exponential" or "plain"; see
        `inres_tf.layers.DampedAdd`.
    name: name of the model.

Returns:
    A functional `keras.Model`: (batch, height, width, channels) to
    (batch, classes), or without the top to (batch, height / 4, width / 4, 64)
    feature maps (256 channels at depth 164) or their pooled (batch, 64).

Raises:
    ValueError: for a wrong argument, or `classes` that contradict `weights`.

Reference:
    Yang et al., Interpolation between Residual and Non-Residual Networks, ICML
    2020 (arXiv 2006.05749); He et al., Identity Mappings in Deep Residual
    Networks, ECCV 2016, for the undamped network."""


def _body(x, depth, damping):
    block_name, repeats = presets.CIFAR_DEPTHS[depth]
    block = presets.BLOCKS[block_name]
    k_range = dampings.scalar_range(damping, depth)
    x = builder.conv(x, presets.CIFAR_STEM_WIDTH, 3, name="stem_conv")
    for stage, width in enumerate(presets.CIFAR_WIDTHS, start=1):
        for i in range(1, repeats + 1):
            name = f"stage{stage}_block{i}"
            if i == 1:
                merge = layers.Add(name=f"{name}_merge")
            else:
                k_init = k_range and keras.initializers.RandomUniform(*k_range)
                merge = DampedAdd(damping, k_init, name=f"{name}_merge")
            stride = 2 if i == 1 and stage > 1 else 1
            project = x.shape[-1] != width * block.widths[-1]
            x = builder.residual_block(x, block, width, stride, project, merge, name)
    return x


def build(
    depth,
    weights,
    include_top,
    include_preprocessing,
    input_tensor,
    input_shape,
    pooling,
    classes,
    classifier_activation,
    damping,
    name,
):
    """Builds a network; all but `depth` are the arguments of its constructor."""
    dampings.get(damping)
    builder.check_top(include_top, pooling, classes)
    inputs = builder.input_pixels(input_tensor, input_shape, include_top, 4, 4)
    shape = tuple(inputs.shape[1:])

    x = inputs
    if include_preprocessing:
        x = builder.normalization(x.shape[-1])(x)
    x = _body(x, depth, damping)
    outputs = builder.head(x, include_top, pooling, classes, classifier_activation)
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(inputs)
        inputs = sources[0] if len(sources) == 1 else sources
    model = keras.Model(inputs, outputs, name=name)
    if weights is None:
        return model

    registered = presets.CIFAR_FAMILIES[damping][1] + str(depth)
    path = weight_files.resolve(registered, weights)
    if include_top and classifier_activation not in (None, "softmax"):
        raise ValueError(
            "With `weights`, `classifier_activation` must be None or 'softmax'. "
            f"Received: classifier_activation={classifier_activation!r}"
        )
    saved = weight_files.saved_classes(path)
    if include_top and saved is not None and saved != classes:
        raise ValueError(
            f"The weights in {path.name} are for classes={saved}: pass that, or "
            "include_top=False to put a classifier of your own on top. "
            f"Received: classes={classes}"
        )
    if include_top or saved is None:
        weight_files.load(model, path)
        return model
    whole = build(
        depth,
        path,
        True,
        include_preprocessing,
        None,
        shape,
        None,
        saved,
        None,
        damping,
        name,
    )
    model.set_weights(whole.get_weights()[: len(model.weights)])
    return model


def _named(depth, damping):
    """The constructor of one depth and damping, such as `InResNet20`."""
    family, stem = presets.CIFAR_FAMILIES[damping]

    def constructor(
        weights=None,
        include_top=True,
        include_preprocessing=True,
        input_tensor=None,
        input_shape=(32, 32, 3),
        pooling=None,
        classes=10,
        classifier_activation="softmax",
        damping=damping,
        name=f"{stem}{depth}",
    ):
        return build(
            depth,
            weights,
            include_top,
            include_preprocessing,
            input_tensor,
            input_shape,
            pooling,
            classes,
            classifier_activation,
            damping,
            name,
        )

    title = f"{family}-{depth}: damping {damping!r} by default."
    return _documented(
        constructor, f"{family}{depth}", _DOC.format(title=title, depth="")
    )


def _family(damping):
    """The constructor of a family at any depth, such as `InResNet(depth=20)`."""
    family, stem = presets.CIFAR_FAMILIES[damping]

    def constructor(depth, damping=damping, name=None, **kwargs):
        if depth not in presets.CIFAR_DEPTHS:
            raise ValueError(
                f"`depth` must be one of {', '.join(map(str, presets.CIFAR_DEPTHS))}. "
                f"Received: depth={depth!r}"
            )
        return CONSTRUCTORS[f"{stem}{depth}"](
            damping=damping, name=name or f"{stem}{depth}", **kwargs
        )

    depths = ", ".join(map(str, presets.CIFAR_DEPTHS))
    doc = _DOC.format(
        title=f"{family} of any depth: damping {damping!r} by default.",
        depth=f"    depth: one of {depths}.\n",
    )
    return _documented(constructor, family, doc)


def _documented(function, name, doc):
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


CONSTRUCTORS = {
    f"{stem}{depth}": _named(depth, damping)
    for damping, (_, stem) in presets.CIFAR_FAMILIES.items()
    for depth in presets.CIFAR_DEPTHS
}
FAMILIES = {
    family: _family(damping) for damping, (family, _) in presets.CIFAR_FAMILIES.items()
}
