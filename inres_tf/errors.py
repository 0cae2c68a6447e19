"""Exceptions that the command-line programs report as one-line messages."""

import contextlib
import re
from collections.abc import Iterator


class UserError(Exception):
    """A mistake or circumstance that the user can correct.

    The command-line programs report it in one line, without a traceback.

    Attributes:
        code: exit code of the program.
    """

    code: int = 1


@contextlib.contextmanager
def arguments_as_flags() -> Iterator[None]:
    """Names flags where messages of a `UserError` name arguments of a function.

    Example:
        >>> from inres_tf.errors import UserError, arguments_as_flags
        >>> with arguments_as_flags():
        ...     raise UserError("set `image_size=64`, or pass `download=True`")
        Traceback (most recent call last):
            ...
        inres_tf.errors.UserError: set --image_size=64, or pass --download
    """
    try:
        yield
    except UserError as error:
        text = re.sub(r"`(\w+)(?:=True|(=[^`]*)|)`", r"--\1\2", str(error))
        error.args = (text,)
        raise


class WorkerLost(UserError):
    """Another worker of a distributed run is gone: exit code 69 (EX_UNAVAILABLE)."""

    code: int = 69


class Stopped(UserError):
    """A signal ended a run after a checkpoint was saved.

    The exit code is 130 after Ctrl-C and 75 (EX_TEMPFAIL: the same command resumes the
    run) after SIGTERM, which clusters send before they reclaim a machine, or SIGHUP.

    Args:
        message: the error message.
        preempted: whether the signal was SIGTERM or SIGHUP.
    """

    def __init__(self, message: str, preempted: bool) -> None:
        super().__init__(message)
        self.code = 75 if preempted else 130
