"""Files and folders that are written completely or not at all."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path to write to, then renames it to `path`.

    After an error the temporary file is removed, and `path` is as before.

    Args:
        path: the file or folder to write.

    Example:
        >>> import pathlib
        >>> from inres_tf import files
        >>> with files.atomic("notes.txt") as temporary:
        ...     _ = temporary.write_text("done")
        >>> pathlib.Path("notes.txt").read_text()
        'done'
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix comes last: Keras chooses the format by it.
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    old = path.with_name(f".old-{os.getpid()}-{path.name}")
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir():  # os.replace cannot replace a folder
            path.rename(old)
        try:
            os.replace(temporary, path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        _fsync(path.parent)
    finally:
        for leftover in (temporary, old):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            leftover.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path):
    """Flushes a file, or a folder and everything in it, to disk."""
    if path.is_dir():
        for child in path.iterdir():
            _sync(child)
    _fsync(path)


def _fsync(path):
    """Flushes a file, or the directory entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
