"""The zoo as data: blocks, networks, families and names.

The name of a model is that of its family and its size: `"in_resnet"` and `"20"`.
"""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Block:
    """A pre-activation residual branch: BN, ReLU and convolution, repeated.

    With `pooled`, a block is a convolution with pooling, BN and GELU, which may change
    the shape, and a residual branch of convolution, BN and GELU, which does not.

    Attributes:
        kernels: kernel size of each convolution.
        widths: filters of each convolution, as a multiple of the stage's width.
        strided: index of the convolution with the block's stride.
        groups: number of groups of that convolution.
        pooled: whether each block pools after its first convolution; its network starts
            with whitened patches and ends with global max pooling.
    """

    kernels: tuple[int, ...]
    widths: tuple[int, ...]
    strided: int
    groups: int = 1
    pooled: bool = False


BASIC = Block(kernels=(3, 3), widths=(1, 1), strided=0)
BOTTLENECK = Block(kernels=(1, 3, 1), widths=(1, 1, 4), strided=1)
POOLED = Block(kernels=(3, 3), widths=(1, 1), strided=0, pooled=True)


def resnext_block(cardinality: int, base_width: int) -> Block:
    """Returns the bottleneck of a ResNeXt; a stage of width 64 has the base width."""
    inner = cardinality * base_width // 64
    return Block((1, 3, 1), (inner, inner, 4), strided=1, groups=cardinality)


@dataclass(frozen=True)
class Style:
    """Conventions shared by several networks.

    Attributes:
        side: default height and width of the images.
        minimum: smallest height and width.
        classes: default number of classes.
        widths: widths of the stages.
        stem: (kernel, stride, filters) of the stem's convolution.
        pool: whether the stem ends with a 3x3 max pooling of stride 2.
        strides: product of all strides.
        bias: whether the stem, the projections and the last convolution of a block
            have a bias.
        epsilon: epsilon of the batch normalisations.
        shared: whether a projection shares the first BN and ReLU of the branch instead
            of having its own.
        stride_last: whether the resolution is reduced by the last block of a stage,
            with a subsampled shortcut, instead of the first block of the next stage.
        scaling: `"standard"`: pixels are normalised with `PIXEL_MEAN` and `PIXEL_STD`;
            `"symmetric"`: scaled to [-1, 1].
    """

    side: int
    minimum: int
    classes: int
    widths: tuple[int, ...]
    stem: tuple[int, int, int]
    pool: bool
    strides: int
    bias: bool
    epsilon: float
    shared: bool
    stride_last: bool
    scaling: str


# Yang et al. 2020 and their code.
CIFAR = Style(
    side=32,
    minimum=4,
    classes=10,
    widths=(16, 32, 64),
    stem=(3, 1, 16),
    pool=False,
    strides=4,
    bias=False,
    epsilon=1e-5,
    shared=False,
    stride_last=False,
    scaling="standard",
)
# The same with the widths of Xie et al. 2017, section 5.2.
CIFAR_RESNEXT = replace(CIFAR, widths=(64, 128, 256), stem=(3, 1, 64))
# Jordan 2024, with damped shortcuts.
AIR = replace(CIFAR, minimum=8, widths=(64, 256, 256), strides=8)
# ResNetV2 of keras.applications.
IMAGENET = Style(
    side=224,
    minimum=32,
    classes=1000,
    widths=(64, 128, 256, 512),
    stem=(7, 2, 64),
    pool=True,
    strides=32,
    bias=True,
    epsilon=1.001e-5,
    shared=True,
    stride_last=True,
    scaling="symmetric",
)


@dataclass(frozen=True)
class Network:
    """One size of a family.

    Attributes:
        depth: number of layers with weights.
        block: kind of the blocks.
        repeats: number of blocks in each stage.
        style: conventions of the network.
        published: published number of parameters of the undamped network, rounded.
        source: where it was published.
        application: network of `keras.applications` whose weights fit.
    """

    depth: int
    block: Block
    repeats: tuple[int, ...]
    style: Style
    published: float | None = None
    source: str | None = None
    application: str | None = None


def _cifar(depth, block, published=None):
    layers = len(block.kernels)
    repeats = ((depth - 2) // (3 * layers),) * 3
    source = published and "He et al. 2016, CVPR"
    return Network(depth, block, repeats, CIFAR, published, source)


def _cifar_resnext(depth, cardinality, base_width, published=None):
    block = resnext_block(cardinality, base_width)
    source = published and "Xie et al. 2017"
    return Network(
        depth, block, ((depth - 2) // 9,) * 3, CIFAR_RESNEXT, published, source
    )


RESNETS = {
    "8": _cifar(8, BASIC),
    "20": _cifar(20, BASIC, 0.27e6),
    "32": _cifar(32, BASIC, 0.46e6),
    "44": _cifar(44, BASIC, 0.66e6),
    "56": _cifar(56, BASIC, 0.85e6),
    "110": _cifar(110, BASIC, 1.7e6),
    "164": _cifar(164, BOTTLENECK),
}
RESNEXTS = {
    "11_4x16d": _cifar_resnext(11, 4, 16),
    "29_2x64d": _cifar_resnext(29, 2, 64),
    "29_4x64d": _cifar_resnext(29, 4, 64),
    "29_8x64d": _cifar_resnext(29, 8, 64, 34.4e6),
    "29_16x64d": _cifar_resnext(29, 16, 64, 68.1e6),
    "29_32x4d": _cifar_resnext(29, 32, 4),
}
AIRNETS = {"": Network(8, POOLED, (1, 1, 1), AIR, 2.0e6, "Jordan 2024")}
_KERAS = "keras.io/api/applications"
IMAGENET_RESNETS = {
    "50": Network(50, BOTTLENECK, (3, 4, 6, 3), IMAGENET, 25.6e6, _KERAS, "ResNet50V2"),
    "101": Network(
        101, BOTTLENECK, (3, 4, 23, 3), IMAGENET, 44.7e6, _KERAS, "ResNet101V2"
    ),
    "152": Network(
        152, BOTTLENECK, (3, 8, 36, 3), IMAGENET, 60.4e6, _KERAS, "ResNet152V2"
    ),
}
IMAGENET_RESNEXTS = {
    "50_32x4d": Network(
        50,
        resnext_block(32, 4),
        (3, 4, 6, 3),
        IMAGENET,
        25.0e6,
        "Xie et al. 2017",
    ),
    "101_32x8d": Network(
        101,
        resnext_block(32, 8),
        (3, 4, 23, 3),
        IMAGENET,
        88.8e6,
        "torchvision, resnext101_32x8d",
    ),
}


@dataclass(frozen=True)
class Stage:
    """A stage of a network of continuous depth.

    Attributes:
        width: number of channels.
        blocks: convex potential blocks, or Euler steps of the flow.
        kernel: side of the kernels.
    """

    width: int
    blocks: int
    kernel: int = 3


@dataclass(frozen=True)
class ContinuousNetwork:
    """One size of the networks of continuous depth.

    Between two stages, cells of 2x2 pixels move into the channels.

    Attributes:
        cell: side of the cells that move into the channels before the first stage.
        stages: stages, each one flow or several convex potential blocks.
        units: units of the dense convex potential block after the stages; 0 for none.
        flow: the right-hand side, a kind of `ConvDynamics`; None for convex potential
            blocks.
        solver: method that integrates the flow.
        lipschitz: the largest Lipschitz constant of the flow's right-hand side.
        style: conventions shared with the other networks.
        published: published number of parameters, rounded.
        source: where it was published.
    """

    cell: int
    stages: tuple[Stage, ...]
    units: int
    flow: str | None
    solver: str | None
    lipschitz: float | None
    style: Style
    published: float | None = None
    source: str | None = None
    application: None = None


def _continuous(flow, solver=None, lipschitz=None):
    """Returns a kind of network of continuous depth in every size."""
    dense = flow is None

    def network(cell, stages, units, published=None, source=None):
        style = replace(CIFAR, minimum=1)
        return ContinuousNetwork(
            cell,
            tuple(Stage(*stage) for stage in stages),
            units if dense else 0,
            flow,
            solver,
            # With L = 1/h and λ <= 1/h, steps of length h do not expand.
            float(stages[0][1]) if flow == "potential" else lipschitz,
            style,
            published if dense else None,
            source if dense else None,
        )

    return {
        "tiny": network(2, [(8, 2), (16, 2)], 32),
        "small": network(2, [(32, 4), (64, 4), (128, 4)], 256),
        "xs": network(
            1,
            [(16, 5), (32, 5), (64, 5), (128, 5), (256, 5, 1)],
            512,
            1.57e6,
            "Prach et al. 2024, CVPR",
        ),
    }


@dataclass(frozen=True)
class Family:
    """Networks whose names differ only in the size and the damping.

    Attributes:
        title: short description.
        names: dict from damping to (constructor, model name), with `{}` for the size.
        networks: dict from size to network.
        reference: papers.
        noise: default of the constructors' argument `noise`.
    """

    title: str
    names: dict[str, tuple[str, str]]
    networks: dict[str, Network] = field(repr=False)
    reference: str
    noise: float = 0.0


@dataclass(frozen=True)
class ContinuousFamily:
    """Networks of continuous depth whose names differ only in size and damping.

    Attributes:
        title: short description.
        names: dict from damping to (constructor, model name), with `{}` for the size.
        networks: dict from size to network.
        reference: papers.
    """

    title: str
    names: dict[str, tuple[str, str]]
    networks: dict[str, ContinuousNetwork] = field(repr=False)
    reference: str


_RESNET_NAMES = {
    "none": ("ResNet{}", "resnet{}"),
    "in": ("InResNet{}", "in_resnet{}"),
    "lambda_in": ("LambdaInResNet{}", "lambda_in_resnet{}"),
    "exponential": ("ExponentialResNet{}", "exponential_resnet{}"),
    "plain": ("PlainNet{}", "plain{}"),
}
_RESNEXT_NAMES = {
    "none": ("ResNeXt{}", "resnext{}"),
    "in": ("InResNeXt{}", "in_resnext{}"),
    "lambda_in": ("LambdaInResNeXt{}", "lambda_in_resnext{}"),
    "exponential": ("ExponentialResNeXt{}", "exponential_resnext{}"),
    "plain": ("PlainResNeXt{}", "plain_resnext{}"),
}
_AIRNET_NAMES = {
    "none": ("AirNet{}", "airnet{}"),
    "in": ("InAirNet{}", "in_airnet{}"),
    "lambda_in": ("LambdaInAirNet{}", "lambda_in_airnet{}"),
    "exponential": ("ExponentialAirNet{}", "exponential_airnet{}"),
    "plain": ("PlainAirNet{}", "plain_airnet{}"),
}
_YANG = (
    "Yang et al., Interpolation between Residual and Non-Residual Networks, ICML 2020 "
    "(arXiv 2006.05749)"
)
_HE = "He et al., Identity Mappings in Deep Residual Networks, ECCV 2016"
_XIE = (
    "Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR "
    "2017 (arXiv 1611.05431)"
)
_WANG = (
    "Wang et al., ResNets Ensemble via the Feynman-Kac Formalism to Improve Natural "
    "and Robust Accuracies, NeurIPS 2019 (arXiv 1811.10745)"
)

_JORDAN = (
    "Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024 (arXiv 2404.00498)"
)

FAMILIES = {
    "resnet": Family(
        "Pre-activation residual network for small images",
        _RESNET_NAMES,
        RESNETS,
        f"{_YANG}; {_HE}, for the undamped network.",
    ),
    "en_resnet": Family(
        "Noise-injected residual network (EnResNet) for small images",
        {"none": ("EnResNet{}", "en_resnet{}")},
        RESNETS,
        f"{_WANG}; the noise follows the code of {_YANG}.",
        noise=0.001,
    ),
    "resnext": Family(
        "Pre-activation ResNeXt for small images",
        _RESNEXT_NAMES,
        RESNEXTS,
        f"{_YANG}; {_XIE}, for the undamped network.",
    ),
    "airnet": Family(
        "Wide network for small images that trains in a few epochs (AirNet)",
        _AIRNET_NAMES,
        AIRNETS,
        f"{_JORDAN}, for the network without shortcuts; {_YANG}.",
    ),
    "imagenet_resnet": Family(
        "Pre-activation residual network (ResNetV2) for ImageNet-sized images",
        {**_RESNET_NAMES, "none": ("ResNet{}V2", "resnet{}v2")},
        IMAGENET_RESNETS,
        f"{_YANG}; {_HE}, for the undamped network.",
    ),
    "imagenet_resnext": Family(
        "Pre-activation ResNeXt for ImageNet-sized images",
        _RESNEXT_NAMES,
        IMAGENET_RESNEXTS,
        f"{_YANG}; {_XIE}, for the undamped network.",
    ),
}

_CHEN = "Chen et al., Neural Ordinary Differential Equations, NeurIPS 2018"
_DUPONT = (
    "Dupont et al., Augmented Neural ODEs, NeurIPS 2019, for the channels of zeros"
)
_MEUNIER = (
    "Meunier et al., A Dynamical System Perspective for Lipschitz Neural Networks, "
    "ICML 2022 (arXiv 2110.12690)"
)
_PRACH = (
    "Prach et al., 1-Lipschitz Layers Compared: Memory, Speed, and Certifiable "
    "Robustness, CVPR 2024, for the widths of size xs"
)

CONTINUOUS = {
    "node": ContinuousFamily(
        "Neural ODE classifier",
        {"none": ("NODE{}", "node_{}")},
        _continuous("plain", "rk4"),
        f"{_CHEN}; {_DUPONT}.",
    ),
    "lip_node": ContinuousFamily(
        "Neural ODE classifier with a limited Lipschitz constant",
        {"none": ("LipNODE{}", "lip_node_{}")},
        _continuous("plain", "heun", 0.5),
        f"{_CHEN}; {_DUPONT}; the bound is Grönwall's inequality.",
    ),
    "damped_node": ContinuousFamily(
        "Damped gradient flow of a convex potential, a contracting neural ODE "
        "classifier",
        {"in": ("DampedNODE{}", "damped_node_{}")},
        _continuous("potential", "heun"),
        f"{_MEUNIER}; {_YANG}, for the damping; {_DUPONT}.",
    ),
    "cpl": ContinuousFamily(
        "Network of convex potential blocks (CPL)",
        {
            "none": ("CPL{}", "cpl_{}"),
            "in": ("DampedCPL{}", "damped_cpl_{}"),
        },
        _continuous(None),
        f"{_MEUNIER}; {_PRACH}; {_YANG}, for the damping.",
    ),
}

# Mean and standard deviation of CIFAR-10 pixels in [0, 1], as in the training protocol.
# Images without three channels are normalised with their mean over the channels.
PIXEL_MEAN = (0.4914, 0.4822, 0.4465)
PIXEL_STD = (0.2023, 0.1994, 0.2010)
