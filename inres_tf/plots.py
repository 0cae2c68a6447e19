"""Plots of training and evaluation. Every function returns a matplotlib figure."""

import itertools

from inres_tf.checkpoints import atomic

_STYLE = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "font.size": 10,
}


def _axes(count=1, width=5.2, columns=None):
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


# Panels of one line a run: what they show, its scale, their label.
_PANELS = {
    "loss": ("cross-entropy", 1),
    "accuracy": ("accuracy (%)", 100),
    "learning_rate": ("learning rate", 1),
    "images_per_second": ("images/s", 1),
    "dead_blocks": ("blocks with λ = 0", 1),
}
_LOGARITHMIC = ("loss", "learning_rate")
_FROM_ZERO = ("images_per_second", "dead_blocks")


def training_curves(histories: dict[str, list[dict]], everything=False):
    """What `metrics.jsonl` holds, by epoch, in one colour a run.

    Args:
        histories: the rows of `metrics.jsonl` by name of the model or run.
        everything: whether to show beside loss and accuracy the learning rate, images
            per second and, for damped networks, how many blocks have λ = 0 and the λ of
            each, in a panel a run and coloured by the block's depth.
    """
    damped = [name for name, rows in histories.items() if rows[0].get("lambda")]
    panels = list(_PANELS) if everything else ["loss", "accuracy"]
    if not damped:
        panels = [key for key in panels if key != "dead_blocks"]
    rates = damped if everything else []
    figure, axes = _axes(len(panels) + len(rates), columns=3)
    colors = dict(zip(histories, _colors()))
    for key, ax in zip(panels, axes):
        for name, rows in histories.items():
            if key != "dead_blocks" or name in damped:
                _curve(ax, key, rows, name, colors[name])
        ax.set(xlabel="epoch", ylabel=_PANELS[key][0])
        ax.locator_params(axis="x", integer=True)
        if key in _LOGARITHMIC:
            ax.set_yscale("log")
        if key in _FROM_ZERO:
            ax.set_ylim(bottom=0)
    axes[0].set_title("solid: evaluated, dashed: training", fontsize=9)
    axes[1].legend()
    below = axes[len(panels) :]
    for name, ax in zip(rates, below):
        ax.sharey(below[0])
        _rates_by_epoch(figure, ax, histories[name])
        ax.set_title(name, fontsize=9, color=colors[name])
    for ax in below:
        ax.set_ylim(bottom=0)
    return figure


def _curve(ax, key, rows, name, color):
    """A run's line in a panel, and its dashed one where it is evaluated too."""
    epochs, scale = [row["epoch"] for row in rows], _PANELS[key][1]
    # One point makes no line.
    marker = "o" if len(rows) == 1 else None
    if f"val_{key}" in rows[0]:
        values = [scale * row[key] for row in rows]
        ax.plot(epochs, values, "--", color=color, alpha=0.6, marker=marker)
        key = f"val_{key}"
    values = [scale * row[key] for row in rows]
    ax.plot(epochs, values, color=color, label=name, marker=marker)


def _rates_by_epoch(figure, ax, rows):
    """λ of each block of one run, with a colour bar of the blocks' depths."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    epochs, names = [row["epoch"] for row in rows], list(rows[0]["lambda"])
    shades = ScalarMappable(Normalize(1, max(2, len(names))), colormaps["viridis"])
    marker = "o" if len(rows) == 1 else None
    for depth, name in enumerate(names, start=1):
        values = [row["lambda"][name] for row in rows]
        color = shades.to_rgba(depth)
        ax.plot(epochs, values, color=color, label=name, marker=marker, linewidth=1)
    ax.set(xlabel="epoch", ylabel="λ")
    ax.locator_params(axis="x", integer=True)
    ticks = MaxNLocator(integer=True)
    figure.colorbar(shades, ax=ax, label="damped block", ticks=ticks)


def rates_by_depth(rates: dict[str, dict[str, float]]):
    """λ of each damped block.

    Args:
        rates: for each model, λ by name of the layer, in the order of the network. One
            without damped blocks is left out and keeps its colour.
    """
    figure, (ax,) = _axes()
    for (name, by_layer), style in zip(rates.items(), _styles()):
        if by_layer:
            blocks, found = range(1, len(by_layer) + 1), list(by_layer.values())
            ax.plot(blocks, found, "-", **style, label=name)
    ax.set(xlabel="damped block", ylabel="λ")
    ax.set_ylim(bottom=0)
    ax.locator_params(axis="x", integer=True)
    _legend(figure, ax)
    return figure


def accuracy_over(panels, xlabel: str, models: list[str]):
    """Accuracy over the strength of attacks or corruptions, a panel for each.

    Args:
        panels: for each attack or corruption, for each model that has it, a
            `comparison.Cell` by strength (0: clean), whose interval is the band.
        xlabel: what the strength is.
        models: all models, in the order of their colours.
    """
    figure, axes = _axes(len(panels), width=3.8, columns=4)
    styles = dict(zip(models, _styles()))
    for (title, by_model), ax in zip(panels.items(), axes):
        for name, points in by_model.items():
            strengths = sorted(points)
            cells = [points[strength] for strength in strengths]
            means = [100 * cell.mean for cell in cells]
            ax.plot(strengths, means, "-", **styles[name], label=name)
            low, high = ([100 * getattr(c, e) for c in cells] for e in ("low", "high"))
            color = styles[name]["color"]
            ax.fill_between(strengths, low, high, color=color, alpha=0.15, linewidth=0)
        ax.set(xlabel=xlabel, ylabel="accuracy (%)", ylim=(0, 101))
        ax.set_title(title, wrap=True)
    _legend(figure, *axes)
    return figure


def trade_off(panels, models: list[str]):
    """Accuracy under attack over clean accuracy, a point a model with its intervals.

    Args:
        panels: by what is attacked, for each model that has it, two cells as those of
            `accuracy_over`: clean and under attack.
        models: all models, in the order of their colours.
    """
    figure, axes = _axes(len(panels), width=3.8, columns=4)
    styles = dict(zip(models, _styles()))
    for (title, by_model), ax in zip(panels.items(), axes):
        for name, cells in by_model.items():
            x, y = (100 * cell.mean for cell in cells)
            sides = [
                [[100 * (c.mean - c.low)], [100 * (c.high - c.mean)]] for c in cells
            ]
            style = styles[name] | {"elinewidth": 1, "markersize": 7}
            ax.errorbar(x, y, yerr=sides[1], xerr=sides[0], **style, ls="", label=name)
        ax.set(xlabel="clean accuracy (%)", ylabel=f"{title} (%)")
    _legend(figure, *axes)
    return figure


def _legend(figure, *axes) -> None:
    """One legend of all panels, below them."""
    handles = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    # As many columns as there is room for: in points, a handle and the longest name.
    room = 45 + 6 * max(map(len, handles), default=0)
    columns = max(1, int(72 * figure.get_figwidth() // room))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns)


def _styles():
    """Colours, and for more than ten other markers."""
    for marker in itertools.cycle("osD^v"):
        for color in itertools.islice(_colors(), 10):
            yield {"color": color, "marker": marker}


def _colors():
    from matplotlib import color_sequences

    return itertools.cycle(color_sequences["tab10"])
