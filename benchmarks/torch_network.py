"""In-ResNet in PyTorch, with which the benchmarks compare the package.

The parameters have the names of the official code, so that
`inres_tf.convert.load_official_state` loads them into a network of the zoo. As a
program, it is a contender of `training_speed`.
"""

import argparse
from collections.abc import Callable

import contenders
import torch
from torch import nn
from torch.nn import functional

_WIDTHS = (16, 32, 64)
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class Block(nn.Module):
    """The branch of a residual block: BN, ReLU and 3x3 convolution, twice.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        stride: stride of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (batch, inputs, height, width) to (batch, outputs, height, width)."""
        x = self.conv1(functional.relu(self.bn1(x)))
        return self.conv2(functional.relu(self.bn2(x)))


class Projection(nn.Module):
    """The shortcut where the shape changes: BN, ReLU, 1x1 convolution of stride 2.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.downsample = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halves the resolution."""
        return self.downsample(x)


class InResNet(nn.Module):
    """In-ResNet of basic blocks for 32x32 images, from pixels to logits.

    Args:
        depth: number of layers with weights, 6 n + 2.
        damped: whether blocks that keep the shape, except the first block, are damped
            by λ = relu(1 - k); otherwise the network is a ResNet.

    Reference:
        Yang, Liu, Bao, Shi: Interpolation between Residual and Non-Residual Networks,
        ICML 2020.
    """

    def __init__(self, depth: int = 20, damped: bool = True):
        super().__init__()
        self.repeats = (depth - 2) // 6
        for name, values in (("mean", _MEAN), ("std", _STD)):
            value = 255 * torch.tensor(values).reshape(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList()
        self.ks = nn.ParameterDict()
        inputs = 16
        for stage, width in enumerate(_WIDTHS):
            for i in range(self.repeats):
                stride = 1 + (stage > 0 and i == 0)
                if damped and i > 0:
                    k = torch.empty(1).uniform_(0.75, 0.80)
                    self.ks[str(len(self.blocks))] = nn.Parameter(k)
                self.blocks.append(Block(inputs, width, stride))
                inputs = width
        self.downsample21 = Projection(16, 32)
        self.downsample31 = Projection(32, 64)
        self.bn = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps pixels in [0, 255], (batch, 3, height, width), to (batch, 10) logits."""
        x = self.conv1((pixels - self.mean) / self.std)
        projections = {
            self.repeats: self.downsample21,
            2 * self.repeats: self.downsample31,
        }
        for i, block in enumerate(self.blocks):
            shortcut = x
            if i in projections:
                shortcut = projections[i](x)
            elif str(i) in self.ks:
                shortcut = (1 - functional.relu(1 - self.ks[str(i)])) * x
            x = shortcut + block(x)
        x = functional.relu(self.bn(x)).mean((2, 3))
        return self.fc(x)


def training_step(
    network: InResNet, compiled: bool, mixed: bool = False
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The SGD step of `train.train`: momentum 0.9, coupled weight decay 1e-4.

    Args:
        network: an `InResNet`.
        compiled: whether `torch.compile` compiles the forward and backward pass.
        mixed: whether to compute in bfloat16 where autocast does.

    Returns:
        Function of (pixels, labels) that returns the mean cross-entropy.
    """
    network.train()
    forward = torch.compile(network) if compiled else network
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True
    )

    def step(pixels, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = functional.cross_entropy(forward(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def inference(
    network: InResNet, compiled: bool, mixed: bool = False
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The forward pass in evaluation mode.

    Args:
        network: an `InResNet`.
        compiled: whether `torch.compile` compiles it.
        mixed: whether to compute in bfloat16 where autocast does.

    Returns:
        Function of pixels that returns the logits.
    """
    network.eval()
    forward = torch.compile(network) if compiled else network

    def logits(pixels):
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=mixed),
        ):
            return forward(pixels)

    return logits


def contend() -> None:
    """Runs one contender on random images."""
    parser = argparse.ArgumentParser(description=contend.__doc__)
    parser.add_argument("--train", action="store_true", help="a step, or else logits")
    parser.add_argument("--compiled", action="store_true", help="use torch.compile")
    parser.add_argument("--layout", choices=["NCHW", "channels_last"], required=True)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0, help="0 for one per core")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    layout = torch.channels_last
    if options.layout == "NCHW":
        layout = torch.contiguous_format
    network = InResNet(options.depth).to(memory_format=layout)
    images = torch.randint(0, 256, (options.batch_size, 3, 32, 32)).float()
    images = images.contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (options.batch_size,))
    mixed = options.precision == "bfloat16"
    if options.train:
        step = training_step(network, options.compiled, mixed)
        contenders.answer(lambda: float(step(images, labels)))
    else:
        logits = inference(network, options.compiled, mixed)
        contenders.answer(lambda: logits(images).float().numpy())


if __name__ == "__main__":
    contend()
