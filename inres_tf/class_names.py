"""Names of the classes of a model, which its `.keras` file carries.

A model whose classes have names has them as `model.class_names`, in the order of its
logits.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from inres_tf.errors import UserError

if TYPE_CHECKING:
    import keras

_MEMBER = "class_names.json"
# Of more classes, messages list only those that differ.
_LISTED = 30


class _Dataset(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def class_names(self) -> Sequence[str]: ...


def of(model: keras.Model) -> tuple[str, ...] | None:
    """Returns the names of a model's classes, in the order of its logits, or None."""
    return getattr(model, "class_names", None)


def assign(model: keras.Model, names: Sequence[str] | None) -> None:
    """Names the classes of a model.

    Args:
        model: the model.
        names: names in the order of its logits; None leaves the model as it is.
    """
    if names is not None:
        # Past Keras, which would track a tuple as a part of the model.
        object.__setattr__(model, "class_names", tuple(names))


def save(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Saves a model with the names of its classes.

    Args:
        model: the model.
        path: the `.keras` file.

    Example:
        >>> import zoo
        >>> from inres_tf import class_names
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1), classes=2)
        >>> class_names.assign(model, ["cat", "dog"])
        >>> class_names.save(model, "model.keras")
        >>> class_names.read("model.keras")
        ('cat', 'dog')
    """
    model.save(path)
    names = of(model)
    if names is not None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_MEMBER, json.dumps(names))


def read(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Reads the names of the classes from a `.keras` file.

    Args:
        path: the file.

    Returns:
        Names in the order of the logits; None if the file has none.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if _MEMBER not in archive.namelist():
            return None
        return tuple(map(str, json.loads(archive.read(_MEMBER))))


def check(
    names: Sequence[str] | None, found: Sequence[str], who: str, where: str
) -> None:
    """Checks that images have the classes of a model, in the same order.

    Args:
        names: names of the model's classes; None for unknown ones, which always fit.
        found: names of the classes of the images.
        who: what has the first names, for the message.
        where: what has the others.

    Raises:
        UserError: if they do not.

    Example:
        >>> from inres_tf import class_names
        >>> class_names.check(("cat", "dog"), ("dog", "cat"), "the model", "the folder")
        Traceback (most recent call last):
        inres_tf.errors.UserError: the class names of the model and of the folder differ
        in their order: cat, dog and dog, cat; ...
    """
    if names is None or tuple(names) == tuple(found):
        return
    how = " in their order: " if sorted(names) == sorted(found) else ": "
    pairs = [(a, b) for a, b in zip(names, found) if a != b]
    if max(len(names), len(found)) <= _LISTED or not pairs:
        lists = f"{', '.join(names)} and {', '.join(found)}"
    else:
        lists = "; ".join(f"{a} and {b}" for a, b in pairs[:_LISTED])
    raise UserError(
        f"the class names of {who} and of {where} differ{how}{lists}; use the images "
        "that it was trained on, or give their classes the same names"
    )


def check_dataset(model: keras.Model, dataset: _Dataset) -> None:
    """Checks that a dataset has the classes of a model, in the same order.

    Raises:
        UserError: if it does not.
    """
    who, where = f"model {model.name}", f"dataset {dataset.name}"
    check(of(model), dataset.class_names, who, where)
