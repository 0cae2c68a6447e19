"""Progress bars that a terminal shows moving and a log file now and then."""

import sys

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30


class _Lines:
    """A log file for tqdm: a line for each state of a bar, none for taking it away."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        if text.strip():
            self._stream.write(text.strip() + "\n")

    def flush(self):
        self._stream.flush()


def bar(iterable, label: str, unit: str, total=None, disable=False):
    """Wraps an iterable in a progress bar on stderr.

    Args:
        iterable: what to go through.
        label: what is being done.
        unit: what an item is called.
        total: number of items, where `len` does not tell.
        disable: whether to show nothing.
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
        # A log file gets a line now and then, and none of what ends before.
        mininterval=0.1 if live else SECONDS_BETWEEN_LINES,
        maxinterval=10 if live else SECONDS_BETWEEN_LINES,
        delay=0 if live else SECONDS_BETWEEN_LINES,
        ascii=not live,
        dynamic_ncols=live,
    )
