"""Progress bars that a terminal shows moving and a log file now and then."""

import sys

from tqdm import tqdm


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
        # A log file gets a line at a time, and none of what ends within seconds.
        mininterval=0.1 if live else 30,
        delay=0 if live else 10,
        ascii=not live,
        dynamic_ncols=live,
    )
