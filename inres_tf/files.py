"""Files and folders that are written completely or not at all, by one process."""

import contextlib
import errno
import fcntl
import json
import math
import os
import pathlib
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from inres_tf.errors import UserError

_LOCK = ".lock"
# Characters of a name that a temporary file repeats: file systems allow 255 bytes.
_LONGEST = 50
# What /dev/stdout is a link to: a descriptor of this process.
_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self))/fd/(\d+)")


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path to write to, then renames it to `path`.

    After an error the temporary file is removed, and `path` is as before. An existing
    file keeps its permissions and its owner, and a link keeps pointing to it. A device,
    a pipe or an open descriptor such as `/dev/stdout` is not replaced: what was written
    goes into it.

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
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = pathlib.Path(folder, pathlib.Path(path).name)
            yield temporary
            with open(temporary, "rb") as source, _open_stream(path) as target:
                shutil.copyfileobj(source, target)
        return
    path = pathlib.Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix comes last: Keras chooses the format by it.
    name = path.name[-_LONGEST:]
    temporary = path.with_name(f".writing-{os.getpid()}-{name}")
    old = path.with_name(f".old-{os.getpid()}-{name}")
    try:
        yield temporary
        _keep_permissions(path, temporary)
        _sync(temporary)
        if path.is_dir():  # os.replace cannot replace a folder
            path.rename(old)
        os.replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        if error.filename in (None, str(temporary), str(old)):
            error.filename = str(path)
        raise
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for leftover in (temporary, old):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            leftover.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with atomic(path) as temporary:
        # Paths that are not UTF-8 may be part of it.
        temporary.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def is_being_written(temporary: pathlib.Path) -> bool:
    """Returns whether the process that writes a temporary file of `atomic` lives.

    After an hour, it counts as dead: the process may have been on another machine.

    Args:
        temporary: the file or folder, `.writing-PROCESS-NAME`.
    """
    owner = re.match(r"\.writing-(\d+)-", temporary.name)
    try:
        if owner is None or time.time() - temporary.stat().st_mtime > 3600:
            return False
        os.kill(int(owner[1]), 0)
    except PermissionError:  # a process of somebody else
        return True
    except (OSError, OverflowError):
        return False
    return True


def to_json(value: Any, indent: int | None = None) -> str:
    """Returns a value as JSON (RFC 8259), with null for numbers that are not finite.

    Args:
        value: dicts, lists, tuples, strings, numbers, booleans and None.
        indent: spaces per level; None for one line.

    Example:
        >>> from inres_tf import files
        >>> files.to_json({"mean": float("nan"), "all": (1.5, float("inf"))})
        '{"mean": null, "all": [1.5, null]}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a JSON file atomically; see `to_json`."""
    write_text(path, to_json(value, indent=2) + "\n")


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def expand(path: str) -> str:
    """Returns a path, or `folder:` and a path, with the home in place of `~`.

    Example:
        >>> import os
        >>> from inres_tf import files
        >>> files.expand("folder:~/a") == "folder:" + os.path.expanduser("~/a")
        True
        >>> files.expand("runs/in_resnet20")
        'runs/in_resnet20'
    """
    kind = "folder:" if path.startswith("folder:") else ""
    return kind + os.path.expanduser(path.removeprefix(kind))


def check_creatable(path: str | os.PathLike[str]) -> None:
    """Checks, before a computation, that a file can be created or replaced.

    Args:
        path: the file, whose folders need not exist.

    Raises:
        UserError: if the file system refuses it.
        NotADirectoryError: if a part of the path is a file.
    """
    folder = pathlib.Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    try:
        # In /proc, say, permissions do not tell.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: no file can be created in {folder} "
            f"({error.strerror}); choose another folder"
        ) from error


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is a device, a pipe, a socket or an open descriptor."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _descriptor(path) -> int | None:
    """The descriptor of this process that a path is, directly or by links."""
    path = os.path.abspath(path)
    for _ in range(40):  # as many links as Linux follows
        if match := _DESCRIPTOR.fullmatch(path):
            return int(match[1])
        if not os.path.islink(path):
            break
        path = os.path.abspath(os.path.join(os.path.dirname(path), os.readlink(path)))
    return None


def _open_stream(path):
    """Opens a stream for writing, at the position of an open descriptor."""
    descriptor = _descriptor(path)
    return open(path if descriptor is None else os.dup(descriptor), "wb")


@contextlib.contextmanager
def lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps a folder for this process, and creates it if necessary.

    The lock ends with the process, however that ends. On file systems without locks
    there is none.

    Args:
        folder: the folder.

    Raises:
        UserError: if another process has the folder.

    Example:
        >>> from inres_tf import files
        >>> with files.lock("run"), files.lock("run"):
        ...     pass
        Traceback (most recent call last):
        inres_tf.errors.UserError: run is in use by process ...
    """
    folder = pathlib.Path(folder)
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    descriptor = _locked(path)
    try:
        os.truncate(descriptor, 0)
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        os.write(descriptor, owner.encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        if created:  # and nothing was written to it
            with contextlib.suppress(OSError):
                folder.rmdir()


def _locked(path) -> int:
    """Opens a lock file and locks it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 300).decode(errors="replace")
            os.close(descriptor)
            raise UserError(
                f"{path.parent} is in use by {owner or 'another process'}; wait until "
                "it has ended, or choose another --output_dir"
            ) from error
        except OSError:  # no locks here
            return descriptor
        # The process that had the lock may have removed the file meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def _keep_permissions(path, temporary):
    """Gives the permissions and the owner of what it replaces to a file or folder."""
    if not path.exists():
        return
    old = path.stat()
    with contextlib.suppress(PermissionError):  # only root may change the owner
        os.chown(temporary, old.st_uid, old.st_gid)
    os.chmod(temporary, stat.S_IMODE(old.st_mode))


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
