"""Where the images of a folder lie: its splits, classes and files."""

from __future__ import annotations

import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator

from inres_tf.data.image_files import is_image
from inres_tf.errors import UserError

_TRAIN = ("train", "training")
# In order of preference.
_TEST = (
    ("test", "testing"),
    ("val", "valid", "validation", "validate", "dev", "development"),
    ("eval", "evaluation", "holdout"),
)
_WORD = re.compile("([a-z]+?)(set|data|images)?$")
# Of Mac OS, Synology, Windows and Linux.
_SYSTEM_FOLDERS = {
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of this name is left out without a word."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files and folders in a folder that are not hidden, sorted by name.

    Raises:
        UserError: if the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error}") from error


def sub_folders(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the visible sub-folders by name, in Unicode NFC, sorted by name.

    Raises:
        UserError: if two names differ only in their Unicode form.
    """
    folders: dict[str, pathlib.Path] = {}
    for path in visible(folder):
        if path.is_dir():
            name = unicodedata.normalize("NFC", path.name)
            if name in folders:
                raise UserError(
                    f"{folder} holds two folders named {name!r}, {path.name!a} and "
                    f"{folders[name].name!a}, which are equal in Unicode; give them "
                    "different names or put their files into one"
                )
            folders[name] = path
    return dict(sorted(folders.items()))


def find_splits(root: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path] | None:
    """Finds the folders of the training and test images, by their names.

    The names are `train` and `test`, `val` or the like in any case, alone or with the
    same addition, as in `seg_train` and `seg_test`.

    Args:
        root: the folder to search.

    Returns:
        The two folders, or None if the sub-folders are classes.

    Raises:
        UserError: if several folders are of one split, or classes look like splits.

    Example:
        >>> import pathlib
        >>> from inres_tf.data import folder_layout
        >>> for name in ("Training_set", "Test_set"):
        ...     pathlib.Path(name).mkdir()
        >>> [path.name for path in folder_layout.find_splits(pathlib.Path())]
        ['Training_set', 'Test_set']
    """
    folders = sub_folders(root)
    train = _of_split(folders, _TRAIN)
    for words in _TEST:
        test = _of_split(folders, words)
        for addition in sorted(set(train) & set(test)):
            found = [*train[addition], *test[addition]]
            if len(found) > 2:
                raise UserError(
                    f"{root} holds several folders of one split: "
                    f"{', '.join(path.name for path in found)}; keep one for training "
                    "and one for testing"
                )
            return _innermost(found[0], _TRAIN), _innermost(found[1], words)
    _check_classes(root, folders, train.get((), []))
    return None


def _of_split(folders, words) -> dict[tuple[str, ...], list[pathlib.Path]]:
    """Returns the folders whose names hold one of some words, by the rest of it."""
    found: dict[tuple[str, ...], list[pathlib.Path]] = {}
    for name, path in folders.items():
        tokens = re.findall("[a-z]+", name.casefold())
        for i, token in enumerate(tokens):
            [(word, addition)] = _WORD.findall(token)
            if word in words:
                rest = filter(None, [*tokens[:i], addition, *tokens[i + 1 :]])
                found.setdefault(tuple(rest), []).append(path)
                break
    return found


def _innermost(folder, words):
    """Descends as long as the only folder in one is of the same split."""
    inner = sub_folders(folder)
    if len(inner) == 1 and _of_split(inner, words):
        return _innermost(*inner.values(), words)
    return folder


def _check_classes(root, folders, train):
    """Refuses classes that hold what only splits or whole datasets hold."""
    names = [set(sub_folders(path)) for path in folders.values()]
    shared = sorted(set.intersection(*names)) if len(names) > 1 else []
    if len(shared) > 1:
        raise UserError(
            f"the folders {', '.join(folders)} in {root} all hold folders of the names "
            f"{', '.join(shared)}; a folder of classes must hold one sub-folder per "
            "class, and one of splits the folders 'train' and 'test' (or 'val') with "
            "these"
        )
    for path in train:
        if len(folders) > 1 and len(sub_folders(path)) > 1:
            raise UserError(
                f"{path} looks like a split, but there is no folder for testing "
                "next to it; name that 'test' or 'val', or pass folder:" + str(path)
            )


class Walk:
    """Finds the image files of classes, and notes what is left out.

    Links to folders are followed, once per class.

    Args:
        root: the folder of the dataset, whose name the notes leave out.

    Attributes:
        strays: files that are no images.
        outside: images and folders that belong to no class.
        repeated: folders, reached by a link, whose images are read already.
    """

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.strays: list[pathlib.Path] = []
        self.outside: list[pathlib.Path] = []
        self.repeated: list[pathlib.Path] = []

    def note_outside(self, folder: pathlib.Path, read: Iterable[pathlib.Path]) -> None:
        """Notes what lies in a folder beside the sub-folders that are read."""
        for path in visible(folder):
            if path.is_dir() or is_image(path):
                # A split's folder may lie inside a folder of its name.
                if not any(path in (inner, *inner.parents) for inner in read):
                    self.outside.append(path)
            else:
                self.strays.append(path)

    def images(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Returns the image files of one class, at any depth, sorted by name.

        Raises:
            UserError: if a folder cannot be read.
        """
        root, inside = self.root.resolve(), folder.resolve()
        above = {_identity(path) for path in (root, *root.parents, *inside.parents)}
        if _identity(inside) in above:
            self.repeated.append(folder)
            return []
        return list(self._images(folder, {*above, _identity(inside)}))

    def _images(self, folder, seen) -> Iterator[pathlib.Path]:
        for path in visible(folder):
            if not path.is_dir():
                if is_image(path):
                    yield path
                else:
                    self.strays.append(path)
            elif _identity(path) in seen:
                self.repeated.append(path)
            else:
                seen.add(_identity(path))
                yield from self._images(path, seen)

    def notes(self) -> list[str]:
        """Returns what was left out, one line per kind."""
        kinds = {
            "not images": self.strays,
            "outside the folders of classes": self.outside,
            "links to folders that are already read or contain the link": self.repeated,
        }
        return [
            f"left out, {kind}: {self.counted(paths)}"
            for kind, paths in kinds.items()
            if paths
        ]

    def counted(self, *paths: Iterable[pathlib.Path]) -> str:
        """Returns the number of paths and the first three below the root, for messages.

        Of several sequences, paths at the same place are shown as equal.
        """
        rows = list(zip(*paths, strict=True))
        shown = [
            " = ".join(os.path.relpath(path, self.root) for path in row)
            for row in rows[:3]
        ]
        return f"{len(rows)} ({', '.join(shown + ['...'] * (len(rows) > 3))})"


def _identity(path):
    status = path.stat()
    return status.st_dev, status.st_ino
