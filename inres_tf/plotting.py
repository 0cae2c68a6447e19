"""Plots of training and evaluation. Every function returns a matplotlib figure."""

import itertools

from inres_tf.files import atomic

_STYLE = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "font.size": 10,
}


def make_axes(count=1, width=5.2, columns=None):
    """A figure and its axes, in rows of `columns` where there are more."""
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


def save(figure, path) -> None:
    """Writes a figure to a `.png` or `.svg` file, atomically."""
    with atomic(path) as temporary:
        figure.savefig(temporary)


def shared_legend(figure, *axes) -> None:
    """One legend of all panels, below them."""
    handles = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    # As many columns as there is room for: in points, a handle and the longest name.
    room = 45 + 6 * max(map(len, handles), default=0)
    columns = max(1, int(72 * figure.get_figwidth() // room))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns)


def line_styles():
    """Colours, and for more than ten other markers."""
    for marker in itertools.cycle("osD^v"):
        for color in itertools.islice(color_cycle(), 10):
            yield {"color": color, "marker": marker}


def color_cycle():
    """The colors of lines, over and over."""
    from matplotlib import color_sequences

    return itertools.cycle(color_sequences["tab10"])
