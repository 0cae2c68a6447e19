"""Progress bars: live in a terminal, an occasional line in a log file."""

import sys
from collections.abc import Iterable

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30


class _Lines:
    """A stream for tqdm that writes each state of a bar as a line of its own."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        if text.strip():
            self._stream.write(text.strip() + "\n")

    def flush(self):
        self._stream.flush()


def bar(
    iterable: Iterable,
    label: str,
    unit: str,
    total: int | None = None,
    disable: bool = False,
) -> tqdm:
    """Wraps an iterable in a progress bar on stderr.

    Args:
        iterable: the items to iterate over.
        label: text before the bar.
        unit: name of an item.
        total: number of items, if `iterable` has no length.
        disable: whether to show nothing.

    Example:
        >>> from inres_tf import progress
        >>> sum(progress.bar([1, 2, 3], "adding", "number"))
        6
    """
    live = sys.stderr.isatty()
    return tqdm(
        iterable,
        label,
        total=total,
        unit=unit,
        disable=disable,
        leave=False,
        file=sys.stderr if live else _Lines(sys.stderr),
        # A log file gets few lines, and none from bars that finish early.
        mininterval=0.1 if live else SECONDS_BETWEEN_LINES,
        maxinterval=10 if live else SECONDS_BETWEEN_LINES,
        delay=0 if live else SECONDS_BETWEEN_LINES,
        ascii=not live,
        dynamic_ncols=live,
    )
