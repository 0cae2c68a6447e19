"""The zoo as editors and type checkers see it: made by `python -m zoo._stubs`."""

import os
from typing import Any, Literal

import keras

Damping = Literal["none", "in", "lambda_in", "exponential", "plain"]
Pooling = Literal["avg", "max"]

def list_models() -> list[str]:
    """The sorted names of all models that `get_model` builds."""

def get_model(name: str, **kwargs: Any) -> keras.Model:
    """Builds a model of the zoo by name."""

def describe(
    name: str,
    input_shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
) -> dict[str, Any]:
    """Parameters, operations and damped blocks of a model of the zoo."""

def load_application(
    model: keras.Model, source: keras.Model, rate: float = 0.0
) -> None:
    """Copies the weights of a ResNetV2 of `keras.applications`."""

def ResNet(depth: int, **kwargs: Any) -> keras.Model:
    """Pre-activation residual network, damping 'none' of any depth: 8, 20, 32, 44, 56, 110, 164."""

def InResNet(depth: int, **kwargs: Any) -> keras.Model:
    """Pre-activation residual network, damping 'in' of any depth: 8, 20, 32, 44, 56, 110, 164."""

def LambdaInResNet(depth: int, **kwargs: Any) -> keras.Model:
    """Pre-activation residual network, damping 'lambda_in' of any depth: 8, 20, 32, 44, 56, 110, 164."""

def ExponentialResNet(depth: int, **kwargs: Any) -> keras.Model:
    """Pre-activation residual network, damping 'exponential' of any depth: 8, 20, 32, 44, 56, 110, 164."""

def PlainNet(depth: int, **kwargs: Any) -> keras.Model:
    """Pre-activation residual network, damping 'plain' of any depth: 8, 20, 32, 44, 56, 110, 164."""

def EnResNet(depth: int, **kwargs: Any) -> keras.Model:
    """Noise-injected residual network (EnResNet), damping 'none' of any depth: 8, 20, 32, 44, 56, 110, 164."""

def ResNet8(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet8",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'none': `help(zoo.ResNet8)` has the arguments."""

def ResNet20(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet20",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'none': `help(zoo.ResNet20)` has the arguments."""

def ResNet32(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet32",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'none': `help(zoo.ResNet32)` has the arguments."""

def ResNet44(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet44",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'none': `help(zoo.ResNet44)` has the arguments."""

def ResNet56(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet56",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'none': `help(zoo.ResNet56)` has the arguments."""

def ResNet110(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet110",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'none': `help(zoo.ResNet110)` has the arguments."""

def ResNet164(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet164",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'none': `help(zoo.ResNet164)` has the arguments."""

def InResNet8(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet8",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'in': `help(zoo.InResNet8)` has the arguments."""

def InResNet20(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet20",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'in': `help(zoo.InResNet20)` has the arguments."""

def InResNet32(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet32",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'in': `help(zoo.InResNet32)` has the arguments."""

def InResNet44(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet44",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'in': `help(zoo.InResNet44)` has the arguments."""

def InResNet56(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet56",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'in': `help(zoo.InResNet56)` has the arguments."""

def InResNet110(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet110",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'in': `help(zoo.InResNet110)` has the arguments."""

def InResNet164(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet164",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'in': `help(zoo.InResNet164)` has the arguments."""

def LambdaInResNet8(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet8",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'lambda_in': `help(zoo.LambdaInResNet8)` has the arguments."""

def LambdaInResNet20(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet20",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'lambda_in': `help(zoo.LambdaInResNet20)` has the arguments."""

def LambdaInResNet32(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet32",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'lambda_in': `help(zoo.LambdaInResNet32)` has the arguments."""

def LambdaInResNet44(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet44",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'lambda_in': `help(zoo.LambdaInResNet44)` has the arguments."""

def LambdaInResNet56(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet56",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'lambda_in': `help(zoo.LambdaInResNet56)` has the arguments."""

def LambdaInResNet110(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet110",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'lambda_in': `help(zoo.LambdaInResNet110)` has the arguments."""

def LambdaInResNet164(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet164",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'lambda_in': `help(zoo.LambdaInResNet164)` has the arguments."""

def ExponentialResNet8(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet8",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'exponential': `help(zoo.ExponentialResNet8)` has the arguments."""

def ExponentialResNet20(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet20",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'exponential': `help(zoo.ExponentialResNet20)` has the arguments."""

def ExponentialResNet32(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet32",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'exponential': `help(zoo.ExponentialResNet32)` has the arguments."""

def ExponentialResNet44(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet44",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'exponential': `help(zoo.ExponentialResNet44)` has the arguments."""

def ExponentialResNet56(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet56",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'exponential': `help(zoo.ExponentialResNet56)` has the arguments."""

def ExponentialResNet110(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet110",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'exponential': `help(zoo.ExponentialResNet110)` has the arguments."""

def ExponentialResNet164(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet164",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'exponential': `help(zoo.ExponentialResNet164)` has the arguments."""

def PlainNet8(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain8",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'plain': `help(zoo.PlainNet8)` has the arguments."""

def PlainNet20(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain20",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'plain': `help(zoo.PlainNet20)` has the arguments."""

def PlainNet32(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain32",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'plain': `help(zoo.PlainNet32)` has the arguments."""

def PlainNet44(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain44",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'plain': `help(zoo.PlainNet44)` has the arguments."""

def PlainNet56(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain56",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'plain': `help(zoo.PlainNet56)` has the arguments."""

def PlainNet110(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain110",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'plain': `help(zoo.PlainNet110)` has the arguments."""

def PlainNet164(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain164",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network, damping 'plain': `help(zoo.PlainNet164)` has the arguments."""

def EnResNet8(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "en_resnet8",
    stochastic_depth: float = 0.0,
    noise: float = 0.001,
) -> keras.Model:
    """Noise-injected residual network (EnResNet), damping 'none': `help(zoo.EnResNet8)` has the arguments."""

def EnResNet20(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "en_resnet20",
    stochastic_depth: float = 0.0,
    noise: float = 0.001,
) -> keras.Model:
    """Noise-injected residual network (EnResNet), damping 'none': `help(zoo.EnResNet20)` has the arguments."""

def EnResNet32(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "en_resnet32",
    stochastic_depth: float = 0.0,
    noise: float = 0.001,
) -> keras.Model:
    """Noise-injected residual network (EnResNet), damping 'none': `help(zoo.EnResNet32)` has the arguments."""

def EnResNet44(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "en_resnet44",
    stochastic_depth: float = 0.0,
    noise: float = 0.001,
) -> keras.Model:
    """Noise-injected residual network (EnResNet), damping 'none': `help(zoo.EnResNet44)` has the arguments."""

def EnResNet56(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "en_resnet56",
    stochastic_depth: float = 0.0,
    noise: float = 0.001,
) -> keras.Model:
    """Noise-injected residual network (EnResNet), damping 'none': `help(zoo.EnResNet56)` has the arguments."""

def EnResNet110(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "en_resnet110",
    stochastic_depth: float = 0.0,
    noise: float = 0.001,
) -> keras.Model:
    """Noise-injected residual network (EnResNet), damping 'none': `help(zoo.EnResNet110)` has the arguments."""

def EnResNet164(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "en_resnet164",
    stochastic_depth: float = 0.0,
    noise: float = 0.001,
) -> keras.Model:
    """Noise-injected residual network (EnResNet), damping 'none': `help(zoo.EnResNet164)` has the arguments."""

def ResNeXt11_4x16d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnext11_4x16d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'none': `help(zoo.ResNeXt11_4x16d)` has the arguments."""

def ResNeXt29_2x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnext29_2x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'none': `help(zoo.ResNeXt29_2x64d)` has the arguments."""

def ResNeXt29_4x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnext29_4x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'none': `help(zoo.ResNeXt29_4x64d)` has the arguments."""

def ResNeXt29_8x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnext29_8x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'none': `help(zoo.ResNeXt29_8x64d)` has the arguments."""

def ResNeXt29_16x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnext29_16x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'none': `help(zoo.ResNeXt29_16x64d)` has the arguments."""

def ResNeXt29_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnext29_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'none': `help(zoo.ResNeXt29_32x4d)` has the arguments."""

def InResNeXt11_4x16d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnext11_4x16d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'in': `help(zoo.InResNeXt11_4x16d)` has the arguments."""

def InResNeXt29_2x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnext29_2x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'in': `help(zoo.InResNeXt29_2x64d)` has the arguments."""

def InResNeXt29_4x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnext29_4x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'in': `help(zoo.InResNeXt29_4x64d)` has the arguments."""

def InResNeXt29_8x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnext29_8x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'in': `help(zoo.InResNeXt29_8x64d)` has the arguments."""

def InResNeXt29_16x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnext29_16x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'in': `help(zoo.InResNeXt29_16x64d)` has the arguments."""

def InResNeXt29_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnext29_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'in': `help(zoo.InResNeXt29_32x4d)` has the arguments."""

def LambdaInResNeXt11_4x16d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnext11_4x16d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'lambda_in': `help(zoo.LambdaInResNeXt11_4x16d)` has the arguments."""

def LambdaInResNeXt29_2x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnext29_2x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'lambda_in': `help(zoo.LambdaInResNeXt29_2x64d)` has the arguments."""

def LambdaInResNeXt29_4x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnext29_4x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'lambda_in': `help(zoo.LambdaInResNeXt29_4x64d)` has the arguments."""

def LambdaInResNeXt29_8x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnext29_8x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'lambda_in': `help(zoo.LambdaInResNeXt29_8x64d)` has the arguments."""

def LambdaInResNeXt29_16x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnext29_16x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'lambda_in': `help(zoo.LambdaInResNeXt29_16x64d)` has the arguments."""

def LambdaInResNeXt29_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnext29_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'lambda_in': `help(zoo.LambdaInResNeXt29_32x4d)` has the arguments."""

def ExponentialResNeXt11_4x16d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnext11_4x16d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'exponential': `help(zoo.ExponentialResNeXt11_4x16d)` has the arguments."""

def ExponentialResNeXt29_2x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnext29_2x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'exponential': `help(zoo.ExponentialResNeXt29_2x64d)` has the arguments."""

def ExponentialResNeXt29_4x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnext29_4x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'exponential': `help(zoo.ExponentialResNeXt29_4x64d)` has the arguments."""

def ExponentialResNeXt29_8x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnext29_8x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'exponential': `help(zoo.ExponentialResNeXt29_8x64d)` has the arguments."""

def ExponentialResNeXt29_16x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnext29_16x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'exponential': `help(zoo.ExponentialResNeXt29_16x64d)` has the arguments."""

def ExponentialResNeXt29_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnext29_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'exponential': `help(zoo.ExponentialResNeXt29_32x4d)` has the arguments."""

def PlainResNeXt11_4x16d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain_resnext11_4x16d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'plain': `help(zoo.PlainResNeXt11_4x16d)` has the arguments."""

def PlainResNeXt29_2x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain_resnext29_2x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'plain': `help(zoo.PlainResNeXt29_2x64d)` has the arguments."""

def PlainResNeXt29_4x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain_resnext29_4x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'plain': `help(zoo.PlainResNeXt29_4x64d)` has the arguments."""

def PlainResNeXt29_8x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain_resnext29_8x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'plain': `help(zoo.PlainResNeXt29_8x64d)` has the arguments."""

def PlainResNeXt29_16x64d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain_resnext29_16x64d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'plain': `help(zoo.PlainResNeXt29_16x64d)` has the arguments."""

def PlainResNeXt29_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (32, 32, 3),
    pooling: Pooling | None = None,
    classes: int = 10,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain_resnext29_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'plain': `help(zoo.PlainResNeXt29_32x4d)` has the arguments."""

def ResNet50V2(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet50v2",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'none': `help(zoo.ResNet50V2)` has the arguments."""

def ResNet101V2(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet101v2",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'none': `help(zoo.ResNet101V2)` has the arguments."""

def ResNet152V2(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnet152v2",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'none': `help(zoo.ResNet152V2)` has the arguments."""

def InResNet50(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet50",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'in': `help(zoo.InResNet50)` has the arguments."""

def InResNet101(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet101",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'in': `help(zoo.InResNet101)` has the arguments."""

def InResNet152(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnet152",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'in': `help(zoo.InResNet152)` has the arguments."""

def LambdaInResNet50(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet50",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'lambda_in': `help(zoo.LambdaInResNet50)` has the arguments."""

def LambdaInResNet101(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet101",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'lambda_in': `help(zoo.LambdaInResNet101)` has the arguments."""

def LambdaInResNet152(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnet152",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'lambda_in': `help(zoo.LambdaInResNet152)` has the arguments."""

def ExponentialResNet50(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet50",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'exponential': `help(zoo.ExponentialResNet50)` has the arguments."""

def ExponentialResNet101(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet101",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'exponential': `help(zoo.ExponentialResNet101)` has the arguments."""

def ExponentialResNet152(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnet152",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'exponential': `help(zoo.ExponentialResNet152)` has the arguments."""

def PlainNet50(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain50",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'plain': `help(zoo.PlainNet50)` has the arguments."""

def PlainNet101(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain101",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'plain': `help(zoo.PlainNet101)` has the arguments."""

def PlainNet152(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain152",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation residual network (ResNetV2), damping 'plain': `help(zoo.PlainNet152)` has the arguments."""

def ResNeXt50_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnext50_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'none': `help(zoo.ResNeXt50_32x4d)` has the arguments."""

def ResNeXt101_32x8d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "none",
    name: str = "resnext101_32x8d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'none': `help(zoo.ResNeXt101_32x8d)` has the arguments."""

def InResNeXt50_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnext50_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'in': `help(zoo.InResNeXt50_32x4d)` has the arguments."""

def InResNeXt101_32x8d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "in",
    name: str = "in_resnext101_32x8d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'in': `help(zoo.InResNeXt101_32x8d)` has the arguments."""

def LambdaInResNeXt50_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnext50_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'lambda_in': `help(zoo.LambdaInResNeXt50_32x4d)` has the arguments."""

def LambdaInResNeXt101_32x8d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "lambda_in",
    name: str = "lambda_in_resnext101_32x8d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'lambda_in': `help(zoo.LambdaInResNeXt101_32x8d)` has the arguments."""

def ExponentialResNeXt50_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnext50_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'exponential': `help(zoo.ExponentialResNeXt50_32x4d)` has the arguments."""

def ExponentialResNeXt101_32x8d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "exponential",
    name: str = "exponential_resnext101_32x8d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'exponential': `help(zoo.ExponentialResNeXt101_32x8d)` has the arguments."""

def PlainResNeXt50_32x4d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain_resnext50_32x4d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'plain': `help(zoo.PlainResNeXt50_32x4d)` has the arguments."""

def PlainResNeXt101_32x8d(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = (224, 224, 3),
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    damping: Damping = "plain",
    name: str = "plain_resnext101_32x8d",
    stochastic_depth: float = 0.0,
    noise: float = 0.0,
) -> keras.Model:
    """Pre-activation ResNeXt, damping 'plain': `help(zoo.PlainResNeXt101_32x8d)` has the arguments."""
