"""Plots of training curves and damping rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inres_tf.plotting import (
    color_cycle,
    line_styles,
    make_axes,
    plain_logarithm,
    shared_legend,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Label and scale of the panels with one line per run.
_PANELS = {
    "loss": ("cross-entropy", 1),
    "accuracy": ("accuracy (%)", 100),
    "learning_rate": ("learning rate", 1),
    "images_per_second": ("images/s", 1),
    "dead_blocks": ("blocks with λ = 0", 1),
}
_LOGARITHMIC = ("loss", "learning_rate")
_FROM_ZERO = ("images_per_second", "dead_blocks")


def training_curves(
    histories: dict[str, list[dict[str, Any]]], everything: bool = False
) -> Figure:
    """Plots the metrics of runs by epoch, in one colour per run.

    Args:
        histories: the rows of `metrics.jsonl` by name of the model or run.
        everything: whether to plot, as well as loss and accuracy, the learning rate,
            the images per second and, for damped networks, the number of blocks with
            λ = 0 and λ of each block, in one panel per run coloured by depth.

    Returns:
        The figure.
    """
    damped = [name for name, rows in histories.items() if rows[0].get("lambda")]
    panels = list(_PANELS) if everything else ["loss", "accuracy"]
    if not damped:
        panels = [key for key in panels if key != "dead_blocks"]
    rate_panels = damped if everything else []
    figure, axes = make_axes(len(panels) + len(rate_panels), columns=3)
    colors = dict(zip(histories, color_cycle()))
    for key, ax in zip(panels, axes):
        for name, rows in histories.items():
            if key != "dead_blocks" or name in damped:
                _plot_metric(ax, key, rows, name, colors[name])
        ax.set(xlabel="epoch", ylabel=_PANELS[key][0])
        ax.locator_params(axis="x", integer=True)
        if key in _LOGARITHMIC:
            ax.set_yscale("log")
            plain_logarithm(ax.yaxis)
        if key in _FROM_ZERO:
            ax.set_ylim(bottom=0)
    axes[0].set_title("solid: evaluated, dashed: training", fontsize=9)
    shared_legend(figure, axes[1])
    rates = {name: histories[name] for name in rate_panels}
    _plot_all_rates(figure, axes[len(panels) :], rates, colors)
    return figure


def rates_by_epoch(histories: dict[str, list[dict[str, Any]]]) -> Figure:
    """Plots λ of each block by epoch, with a panel for each run.

    Args:
        histories: the rows of `metrics.jsonl` of damped networks, by name.

    Returns:
        The figure.
    """
    figure, axes = make_axes(len(histories), columns=3)
    _plot_all_rates(figure, axes, histories, {})
    return figure


def _plot_all_rates(figure, axes, histories, colors):
    """Plots λ of each run by epoch, all over the same range."""
    for (name, rows), ax in zip(histories.items(), axes):
        ax.sharey(axes[0])
        _plot_rates(figure, ax, rows)
        ax.set_title(name, fontsize=9, color=colors.get(name, "black"))
    for ax in axes:
        ax.set_ylim(bottom=0)


def _plot_metric(ax, key, rows, name, color):
    """Plots a metric of a run, and the training metric dashed if both are known."""
    epochs, scale = [row["epoch"] for row in rows], _PANELS[key][1]
    # A single point would be invisible without a marker.
    marker = "o" if len(rows) == 1 else None
    if f"val_{key}" in rows[0]:
        values = [scale * row[key] for row in rows]
        ax.plot(epochs, values, "--", color=color, alpha=0.6, marker=marker)
        key = f"val_{key}"
    values = [scale * row[key] for row in rows]
    ax.plot(epochs, values, color=color, label=name, marker=marker)


def _plot_rates(figure, ax, rows):
    """Plots λ of each block of a run by epoch, with a colour bar of the depth."""
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


def rates_by_depth(rates: dict[str, dict[str, float]]) -> Figure:
    """Plots λ of each damped block.

    Args:
        rates: for each model, λ by name of the layer, in the order of the network.
            Models without damped blocks are left out, and keep their colour.

    Returns:
        The figure.
    """
    figure, (ax,) = make_axes()
    for (name, by_layer), style in zip(rates.items(), line_styles()):
        if by_layer:
            depths, values = range(1, len(by_layer) + 1), list(by_layer.values())
            ax.plot(depths, values, "-", **style, label=name)
    ax.set(xlabel="damped block", ylabel="λ")
    ax.set_ylim(bottom=0)
    ax.locator_params(axis="x", integer=True)
    shared_legend(figure, ax)
    return figure
