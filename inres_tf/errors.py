"""What ends a program in one line."""


class UserError(Exception):
    """A mistake or circumstance that the user can mend: one line, no traceback.

    Attributes:
        code: the exit code of a binary that it ends.
    """

    code = 1


class WorkerLost(UserError):
    """Another worker of a distributed run is gone: exit code 69 (EX_UNAVAILABLE)."""

    code = 69


class Stopped(UserError):
    """A signal ended a run after a checkpoint.

    Exit code 130 after Ctrl-C, and 75 (EX_TEMPFAIL: the same command again goes on)
    after SIGTERM, by which clusters announce that they take a machine back.
    """

    def __init__(self, message: str, preempted: bool):
        super().__init__(message)
        self.code = 75 if preempted else 130
