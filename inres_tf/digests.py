"""Digests that tell whether images, weights or files are still the same."""

import hashlib
import os
import pathlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def fingerprint(images: npt.ArrayLike, labels: npt.ArrayLike) -> str:
    """Returns 16 hexadecimal digits that identify images and their labels.

    Args:
        images: pixels, (number, height, width, channels).
        labels: integer classes, (number,).
    """
    return of_arrays([images, labels])


def of_arrays(arrays: Iterable[npt.ArrayLike]) -> str:
    """Returns 16 hexadecimal digits that identify arrays: values, shapes and types.

    Args:
        arrays: the arrays, such as the weights of a model.

    Example:
        >>> from inres_tf import digests
        >>> digests.of_arrays([[1.0, 2.0]]) == digests.of_arrays([[1.0], [2.0]])
        False
    """
    digest = hashlib.sha256()
    for values in arrays:
        array = np.ascontiguousarray(values)
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(array.data)
    return digest.hexdigest()[:16]


def of_text(text: str) -> str:
    """Returns 16 hexadecimal digits that identify a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_file(path: str | os.PathLike[str]) -> str | None:
    """Returns 16 hexadecimal digits that identify a file's content; None: no file."""
    try:
        return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def stamps(folder: str | os.PathLike[str], pattern: str) -> list[list]:
    """Returns names, sizes and modification times of large files.

    Args:
        folder: their folder.
        pattern: a pattern of `pathlib.Path.glob`, such as `"*.npy"`.

    Returns:
        `[name, bytes, seconds since 1970]` of each file, sorted.
    """
    folder = pathlib.Path(folder)
    stats = [
        (str(path.relative_to(folder)), path.stat())
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    ]
    return [[name, stat.st_size, stat.st_mtime] for name, stat in stats]
