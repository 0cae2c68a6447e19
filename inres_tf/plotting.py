"""Helpers for matplotlib figures."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from inres_tf.files import atomic

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "font.size": 10,
}


def make_axes(
    count: int = 1, width: float = 5.2, columns: int | None = None
) -> tuple[Figure, np.ndarray]:
    """Makes a figure of several panels.

    Args:
        count: number of panels.
        width: width of a panel in inches.
        columns: most panels in a row; all by default.

    Returns:
        The figure and its `count` axes.

    Example:
        >>> from inres_tf import plotting
        >>> figure, axes = plotting.make_axes(3, columns=2)
        >>> len(axes)
        3
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(count, columns or count)
    rows = -(-count // columns)
    with rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, 3.6 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[count:]:
            ax.remove()
        return figure, axes[:count]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure to a `.png` or `.svg` file, atomically."""
    with atomic(path) as temporary:
        figure.savefig(temporary)


def shared_legend(figure: Figure, *axes: Axes) -> None:
    """Adds one legend for all panels, below them."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    # As many columns as fit. In points: 45 for a handle, 6 for a character of a label.
    column = 45 + 6 * max(map(len, handles), default=0)
    columns = max(1, int(72 * figure.get_figwidth() // column))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns)


def plain_logarithm(axis: Axis) -> None:
    """Labels a logarithmic axis by numbers such as 0.5, and by few of them."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("{x:g}" if high < 10 * low else "")


def line_styles() -> Iterator[dict[str, Any]]:
    """Yields ten colours with one marker, then with the next one, endlessly."""
    for marker in itertools.cycle("osD^v"):
        for color in itertools.islice(color_cycle(), 10):
            yield {"color": color, "marker": marker}


def color_cycle() -> Iterator[Any]:
    """Yields ten line colours endlessly."""
    from matplotlib import color_sequences

    return itertools.cycle(color_sequences["tab10"])
