"""Model zoo: constructors like those of `keras.applications`, and a registry.

>>> import zoo
>>> model = zoo.InResNet20(classes=10)
>>> model = zoo.get_model("in_resnet20", classes=10)  # the same
>>> zoo.list_models()[:3]
['airnet', 'cpl_small', 'cpl_tiny']
>>> zoo.describe("in_resnet20")["parameters"]
273856

`import zoo` or `import inres_tf` before `keras.models.load_model` reads a saved model:
they register its layers with Keras, which otherwise says `Could not locate class
'BatchNormalization'`.

Keras is imported when the first model is built. Editors and type checkers find the
signatures of all constructors in `__init__.pyi`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import inres_tf  # noqa: F401  # registers its layers with Keras
from zoo import registry

if TYPE_CHECKING:
    import keras

# From function name to its module.
_FUNCTIONS = {
    "card": "zoo.cards",
    "decode_predictions": "zoo.cards",
    "describe": "zoo.description",
    "load_application": "zoo.applications",
    "preprocess_input": "zoo.preprocessing",
}

__all__ = [
    "card",
    "decode_predictions",
    "describe",
    "get_model",
    "list_models",
    "load_application",
    "preprocess_input",
    *registry.ANY_DEPTH,
    *registry.ANY_SIZE,
    *registry.CONSTRUCTORS,
]


def list_models(weights: str | None = None) -> list[str]:
    """Returns the sorted names of all models that `get_model` builds.

    Args:
        weights: name of shipped weights, such as `"cifar10"`: only the models that have
            them; None for all models.

    Raises:
        ValueError: if no model has such weights.

    Example:
        >>> len(zoo.list_models())
        117
        >>> zoo.list_models()[0]
        'airnet'
    """
    if weights is not None:
        return importlib.import_module("zoo.cards").models_with(weights)
    return sorted(registry.MODELS)


def get_model(name: str, **kwargs: Any) -> keras.Model:
    """Builds a model of the zoo by name.

    Args:
        name: one of `list_models()`, such as `"in_resnet56"`.
        **kwargs: arguments of the constructor, here `zoo.InResNet56`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: if the model is unknown; the message suggests similar names.

    Example:
        >>> model = zoo.get_model("in_resnet8", input_shape=(8, 8, 1), classes=3)
        >>> model.output_shape
        (None, 3)
    """
    registry.find(name)
    return _constructors().BY_MODEL[name](**kwargs)


def _constructors():
    return importlib.import_module("zoo.constructors")


def __getattr__(name: str):
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name in registry.CONSTRUCTORS:
        return _constructors().BY_MODEL[registry.CONSTRUCTORS[name]]
    if name in registry.ANY_DEPTH or name in registry.ANY_SIZE:
        return _constructors().ANY_SIZE[name]
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
