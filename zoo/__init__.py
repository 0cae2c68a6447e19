"""Model zoo: constructors in the manner of `keras.applications`, and a registry.

import zoo
model = zoo.InResNet20(classes=10)
model = zoo.get_model("in_resnet20", classes=10)   # the same
zoo.list_models()
zoo.describe("in_resnet20")
"""

from zoo import constructors
from zoo.applications import load_application
from zoo.description import describe

_NAMED = {f.__name__: f for f in constructors.CONSTRUCTORS.values()}

globals().update(constructors.DEPTHS)
globals().update(_NAMED)

__all__ = [
    "describe",
    "get_model",
    "list_models",
    "load_application",
    *constructors.DEPTHS,
    *_NAMED,
]


def list_models() -> list[str]:
    """Sorted names of every model that `get_model` builds."""
    return sorted(constructors.MODELS)


def get_model(name: str, **kwargs):
    """Builds a model of the zoo by name.

    Args:
        name: one of `list_models()`, such as `"in_resnet56"`.
        **kwargs: arguments of the constructor of that name (`zoo.InResNet56`).

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: if there is no such model; the message names close ones.
    """
    constructors.find(name)
    return constructors.CONSTRUCTORS[name](**kwargs)
