"""Model zoo: constructors in the manner of `keras.applications`, and a registry.

import zoo
model = zoo.InResNet20(classes=10)
model = zoo.get_model("in_resnet20", classes=10)   # the same
zoo.list_models()
"""

import difflib

from zoo import resnet

_MODELS = dict(resnet.CONSTRUCTORS)

globals().update({f.__name__: f for f in _MODELS.values()})
globals().update(resnet.FAMILIES)

__all__ = [
    "get_model",
    "list_models",
    *resnet.FAMILIES,
    *(f.__name__ for f in _MODELS.values()),
]


def list_models() -> list[str]:
    """Sorted names of every model that `get_model` builds."""
    return sorted(_MODELS)


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
    if name not in _MODELS:
        close = difflib.get_close_matches(str(name), _MODELS, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(close)}? " if close else ""
        raise ValueError(
            f"There is no model {name!r} in the zoo. {hint}"
            f"zoo.list_models() gives all {len(_MODELS)}."
        )
    return _MODELS[name](**kwargs)
