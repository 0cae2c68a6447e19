"""SIGINT and SIGTERM, noted to stop training after a step."""

import contextlib
import signal


class Signals:
    """Notes SIGINT (Ctrl-C) and SIGTERM while in scope, to stop after a step.

    A second SIGINT interrupts at once.

    Args:
        alone: whether there is no other worker, which would have to stop at the same
            step.

    Attributes:
        local_stop: whether this process received SIGINT, and SIGTERM: 0.0 or 1.0 each.
        global_stop: whether all workers know of a SIGINT, and of a SIGTERM.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, alone: bool):
        self._alone = alone
        self.local_stop, self.global_stop = [0.0, 0.0], [False, False]

    def __enter__(self):
        self._previous = {}
        for number in self._NUMBERS:
            # Outside the main thread signals cannot be handled.
            with contextlib.suppress(ValueError):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        which = self._NUMBERS.index(number)
        if number == signal.SIGINT and self.local_stop[which]:
            raise KeyboardInterrupt
        self.local_stop[which] = 1.0
        if self._alone:
            self.note(self.local_stop)

    def note(self, stops) -> None:
        """Notes the signals that any worker received."""
        self.global_stop = [a or bool(b) for a, b in zip(self.global_stop, stops)]
