"""Size and cost of the networks of the zoo, computed without building them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from inres_tf.layers import dampings
from zoo import air, builder, cards, neural_ode, presets, registry


def describe(
    name: str,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
) -> dict[str, Any]:
    """Describes a model of the zoo without building it.

    Args:
        name: one of `zoo.list_models()`.
        input_shape: (height, width, channels); None: the constructor's default.
        classes: number of classes; None: the constructor's default.

    Returns:
        Dict with `name`, `damping`, `depth` (layers with weights), `input_shape`,
        `classes`, `parameters` (as `count_params`, including the moving statistics of
        the batch normalisations and the vectors of power iterations),
        `trainable_parameters`, `published_parameters` of the undamped network and their
        `source` (None if unknown), `flops` (floating-point operations of the
        convolutions and the classifier for one image, where a multiply-add counts as
        two), `blocks` (flows of a neural ODE), `damped_blocks`, `noise` (the default)
        and `weights`, the names of available weights.

    Raises:
        ValueError: if the model is unknown, or `input_shape` or `classes` is invalid.

    Example:
        >>> facts = zoo.describe("in_resnet20")
        >>> facts["parameters"], facts["damped_blocks"]
        (273856, 6)
    """
    family, size, damping = registry.find(name)
    network = family.networks[size]
    style = network.style
    if input_shape is None:
        input_shape = (style.side, style.side, 3)
    shape = builder.check_shape(input_shape, style)
    if None in shape:
        raise ValueError(
            "`input_shape` must have a known height and width to count operations. "
            f"Received: input_shape={input_shape}"
        )
    classes = style.classes if classes is None else classes
    builder.check_top(True, None, classes)
    noise = family.noise if isinstance(family, presets.Family) else 0.0
    if isinstance(network, presets.ContinuousNetwork):
        count = _count_continuous(network, shape, classes)
        damped = 0 if damping == "none" else count.blocks
    else:
        blocks = builder.blocks(network)
        count = _count(network, blocks, shape, classes)
        damped = 0 if damping == "none" else sum(block.damped for block in blocks)
    trainable = count.trainable + (damped if dampings.get(damping).rate else 0)
    weights = cards.shipped(name)
    return {
        "name": name,
        "damping": damping,
        "depth": count.depth,
        "input_shape": shape,
        "classes": classes,
        "parameters": trainable + count.others,
        "trainable_parameters": trainable,
        "published_parameters": network.published,
        "source": network.source,
        "flops": count.operations,
        "blocks": count.blocks,
        "damped_blocks": damped,
        "noise": noise,
        "weights": weights + (["imagenet"] if network.application else []),
    }


class _Count(NamedTuple):
    depth: int
    blocks: int
    trainable: int
    others: int
    operations: int


def _count_continuous(network, shape, classes):
    """Counts a network of continuous depth with its own solver."""
    height, width, channels = shape
    trainable, others, operations, layers, blocks = 0, 0, 0, 0, 0

    def shrink(cell):
        return -(-height // cell), -(-width // cell)

    height, width = shrink(network.cell)
    for i, stage in enumerate(network.stages):
        if i:
            height, width = shrink(2)
        # A block applies its kernel twice, as a plain flow applies its two.
        kernel = stage.kernel**2 * stage.width**2
        operators, evaluations = stage.blocks, stage.blocks
        blocks += 1 if network.flow else stage.blocks
        if network.flow:
            solver = neural_ode.solver_of(network.solver, stage.blocks)
            evaluations = solver.steps * solver.evaluations_per_step
            operators = 2 if network.flow == "plain" else 1
        biases = 1 if network.flow else stage.blocks
        trainable += operators * kernel + biases * stage.width
        others += operators * (height * width * stage.width + 1)
        operations += 2 * 2 * kernel * height * width * evaluations
        layers += operators
        channels = stage.width
    features = height * width * channels
    if network.units:
        features = network.units
        trainable += features**2 + features
        others += features + 1
        operations += 4 * features**2
        layers += 1
    return _Count(
        layers + 1,
        blocks,
        trainable + features * classes + classes,
        others,
        operations + 2 * features * classes,
    )


def _count(network, blocks, shape, classes):
    """Counts a residual network."""
    style, block = network.style, network.block
    height, width, channels = shape
    norms, convolutions, frozen, operations = 0, 0, 0, 0

    def convolve(kernel, inputs, outputs, stride, bias, groups=1):
        nonlocal convolutions, operations
        weights = kernel**2 * (inputs // groups) * outputs
        convolutions += weights + (outputs if bias else 0)
        operations += 2 * weights * -(-height // stride) * -(-width // stride)

    kernel, stride, filters = style.stem
    if block.pooled:
        kernel, stride, filters = air.STEM_KERNEL, 1, air.stem_filters(channels)
        frozen = kernel**2 * channels * filters
    convolve(kernel, channels, filters, stride, style.bias)
    for reduction in (stride, 2 if style.pool else 1):
        height, width = -(-height // reduction), -(-width // reduction)
    channels = filters
    last = len(block.kernels) - 1
    for _, filters, stride, _ in blocks:
        outputs = filters * block.widths[-1]
        if channels != outputs and not block.pooled:
            convolve(1, channels, outputs, stride, style.bias)
            norms += 0 if style.shared else channels
        for i, (kernel, factor) in enumerate(zip(block.kernels, block.widths)):
            is_strided = i == block.strided
            norms += filters * factor if block.pooled else channels
            convolve(
                kernel,
                channels,
                filters * factor,
                stride if is_strided and not block.pooled else 1,
                style.bias and i == last,
                block.groups if is_strided else 1,
            )
            channels = filters * factor
            if block.pooled and is_strided:
                height, width = height // stride, width // stride
            elif is_strided:
                height, width = -(-height // stride), -(-width // stride)
    if not block.pooled:
        norms += channels
    classifier = channels * classes + classes
    return _Count(
        network.depth,
        len(blocks),
        convolutions - frozen + 2 * norms + classifier,
        2 * norms + frozen,
        operations + 2 * channels * classes,
    )
