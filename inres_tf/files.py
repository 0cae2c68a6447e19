"""Files and folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil


@contextlib.contextmanager
def atomic(path: pathlib.Path):
    """Yields a path to write a file or folder at, which then becomes `path`.

    After an error nothing is left, and what `path` held before is still there.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, since Keras chooses the format by it.
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    old = path.with_name(f".old-{os.getpid()}-{path.name}")
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir():  # which cannot be replaced in one step
            path.rename(old)
        try:
            os.replace(temporary, path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        _sync_one(path.parent)
    finally:
        for rest in (temporary, old):
            if rest.is_dir():
                shutil.rmtree(rest, ignore_errors=True)
            rest.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic(pathlib.Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path):
    """Flushes a file, or a folder and all below it, to the disk."""
    if path.is_dir():
        for child in path.iterdir():
            _sync(child)
    _sync_one(path)


def _sync_one(path):
    """Flushes a file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
