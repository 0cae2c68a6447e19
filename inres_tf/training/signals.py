"""SIGINT, SIGTERM and SIGHUP, recorded to stop training after a step."""

import contextlib
import os
import signal
import types
from collections.abc import Iterable

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


class Signals:
    """Context manager that records SIGINT (Ctrl-C) and SIGTERM instead of stopping.

    The training loop then stops after its current step. A second SIGINT interrupts at
    once. SIGHUP, of a terminal that closes, counts as SIGTERM unless it is ignored, as
    under `nohup`.

    Args:
        alone: whether this is the only worker. Several workers must stop after the same
            step.

    Attributes:
        local_stop: whether this process received SIGINT, and SIGTERM: 0.0 or 1.0 each.
        global_stop: whether any worker received SIGINT, and SIGTERM, as known by all.
    """

    def __init__(self, alone: bool):
        self._alone = alone
        self.local_stop, self.global_stop = [0.0, 0.0], [False, False]

    def __enter__(self) -> "Signals":
        self._previous = {}
        numbers = [signal.SIGINT, signal.SIGTERM]
        if _HANGUP and signal.getsignal(_HANGUP) != signal.SIG_IGN:
            numbers.append(_HANGUP)
        for number in numbers:
            # Python handles signals in the main thread only.
            with contextlib.suppress(ValueError):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        index = 0 if number == signal.SIGINT else 1
        if number == _HANGUP:
            leave_terminal()
        if number == signal.SIGINT and self.local_stop[index]:
            raise KeyboardInterrupt
        self.local_stop[index] = 1.0
        if self._alone:
            self.note(self.local_stop)

    def note(self, stops: Iterable[float]) -> None:
        """Records the signals that the workers received.

        Args:
            stops: two numbers, for SIGINT and SIGTERM: above 0 if a worker received it.
        """
        self.global_stop = [
            known or bool(stop) for known, stop in zip(self.global_stop, stops)
        ]


def leave_terminal() -> None:
    """Sends what is written to a terminal that has closed nowhere.

    Otherwise writing the next line of progress would be an error.
    """
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
