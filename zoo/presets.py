"""The zoo's sizes as data: blocks, depths, dampings and the names they give."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A pre-activation residual branch: BN, ReLU, conv for each of its convolutions.

    Attributes:
        kernels: side of each convolution's kernel.
        widths: filters of each convolution, as a multiple of the stage's width.
        strided: index of the convolution that carries the block's stride.
    """

    kernels: tuple[int, ...]
    widths: tuple[int, ...]
    strided: int


BLOCKS = {
    "basic": Block(kernels=(3, 3), widths=(1, 1), strided=0),
    "bottleneck": Block(kernels=(1, 3, 1), widths=(1, 1, 4), strided=1),
}

# depth: (block, blocks in a stage); 6n+2 for basic blocks, 9n+2 for bottlenecks.
CIFAR_DEPTHS = {
    8: ("basic", 1),
    20: ("basic", 3),
    32: ("basic", 5),
    44: ("basic", 7),
    56: ("basic", 9),
    110: ("basic", 18),
    164: ("bottleneck", 18),
}
CIFAR_STEM_WIDTH = 16
CIFAR_WIDTHS = (16, 32, 64)

# damping: (constructor, model name) without the depth.
CIFAR_FAMILIES = {
    "none": ("ResNet", "resnet"),
    "in": ("InResNet", "in_resnet"),
    "lambda_in": ("LambdaInResNet", "lambda_in_resnet"),
    "exponential": ("ExponentialResNet", "exponential_resnet"),
    "plain": ("PlainNet", "plain"),
}

# Mean and standard deviation of the pixels, in [0, 1], of the training protocol
# (CIFAR-10). Images of other than three channels take the mean of the three.
PIXEL_MEAN = (0.4914, 0.4822, 0.4465)
PIXEL_STD = (0.2023, 0.1994, 0.2010)

# model name: {weights name: (file in the package, classes)}.
WEIGHTS: dict[str, dict[str, tuple[str, int]]] = {}
