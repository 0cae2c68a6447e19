"""Labels in the forms in which they are usually kept, checked before any work."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inres_tf.errors import UserError


class LabelError(UserError, ValueError):
    """Labels that do not give one class for each image."""


def checked(
    labels: npt.ArrayLike,
    number: int | None = None,
    classes: int | None = None,
    name: str = "`labels`",
) -> np.ndarray:
    """Converts labels to one integer class per image, after a check.

    Args:
        labels: class of each image, from 0: integers or whole floats, (number,) or
            (number, 1); or one-hot rows, (number, classes).
        number: number of images; None for any.
        classes: number of classes; None for any.
        name: what the labels are called in error messages.

    Returns:
        Classes, int64, (number,).

    Raises:
        LabelError: if the labels mean no class, one that does not exist, or are not one
            per image. It is both a `ValueError` and a `UserError`.

    Example:
        >>> from inres_tf import labels
        >>> labels.checked([[3], [0]]).tolist()
        [3, 0]
        >>> labels.checked([[0, 0, 1], [1, 0, 0]]).tolist()
        [2, 0]
        >>> labels.checked([3, -1])
        Traceback (most recent call last):
            ...
        inres_tf.labels.LabelError: `labels` must be classes from 0. Received -1 for
        image 1: its class is unknown; leave out such images
    """
    try:
        values = np.asarray(labels)
    except ValueError as error:  # rows of different lengths
        raise LabelError(f"{name} must be one class per image: {error}") from error
    if values.dtype.kind not in "biuf" and values.size:
        raise LabelError(
            f"{name} must be integers, the index of each image's class from 0. "
            f"Received: type {values.dtype}"
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    elif values.ndim == 2:
        values = _from_one_hot(values, name)
    if values.ndim != 1:
        raise LabelError(
            f"{name} must be one class per image, (number,), (number, 1) or one-hot. "
            f"Received: shape {values.shape}"
        )
    if number is not None and len(values) != number:
        raise LabelError(
            f"{name} must be one class per image. Received: {len(values)} labels for "
            f"{number} images"
        )
    _refuse(values, ~np.isfinite(values) | (values != np.round(values)), name, _WHOLE)
    _refuse(values, values < 0, name, _UNKNOWN)
    if classes is not None:
        advice = f"there are {classes} classes, 0 to {classes - 1}"
        _refuse(values, values >= classes, name, advice)
    return values.astype(np.int64)


_WHOLE = "it must be a whole number"
_UNKNOWN = "its class is unknown; remove such images"


def _from_one_hot(values, name):
    ones = values == 1
    if not ((values == 0) | ones).all() or (ones.sum(1) != 1).any():
        raise LabelError(
            f"{name} of shape {values.shape} must be one-hot, with a single 1 and "
            "otherwise 0 in each row, or one class per image"
        )
    return ones.argmax(1)


def _refuse(values, wrong, name, advice):
    """Raises LabelError if there are wrong values; names the first."""
    where = np.flatnonzero(wrong)
    if len(where):
        others = f" and for {len(where) - 1} others" if len(where) > 1 else ""
        raise LabelError(
            f"{name} must be classes from 0. Received {values[where[0]]} for image "
            f"{where[0]}{others}: {advice}"
        )
