"""Writes `zoo/__init__.pyi`, which shows the constructors to editors.

python -m zoo._stubs
"""

import pathlib

from zoo import presets, registry

PATH = pathlib.Path(__file__).with_name("__init__.pyi")

_HEAD = '''\
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
'''

_CONSTRUCTOR = '''
def {title}(
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = ({side}, {side}, 3),
    pooling: Pooling | None = None,
    classes: int = {classes},
    classifier_activation: Any = "softmax",
    damping: Damping = "{damping}",
    name: str = "{name}",
    stochastic_depth: float = 0.0,
    noise: float = {noise},
) -> keras.Model:
    """{summary}: `help(zoo.{title})` has the arguments."""
'''

_ANY_DEPTH = '''
def {title}(depth: int, **kwargs: Any) -> keras.Model:
    """{summary} of any depth: {depths}."""
'''


def text() -> str:
    """The text of the stub file."""
    parts = [_HEAD]
    for title, (family, damping) in registry.ANY_DEPTH.items():
        parts.append(
            _ANY_DEPTH.format(
                title=title,
                summary=_summary(family, damping),
                depths=", ".join(family.networks),
            )
        )
    for title, name in registry.CONSTRUCTORS.items():
        family, size, damping = registry.MODELS[name]
        style = family.networks[size].style
        parts.append(
            _CONSTRUCTOR.format(
                title=title,
                side=style.side,
                classes=style.classes,
                damping=damping,
                name=name,
                noise=family.noise,
                summary=_summary(family, damping),
            )
        )
    return "".join(parts)


def _summary(family: presets.Family, damping: str) -> str:
    title = family.title.replace(" for small images", "")
    title = title.replace(" for ImageNet-sized images", "")
    return f"{title}, damping {damping!r}"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
