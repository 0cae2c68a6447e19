"""Plots of accuracy over attack strength, certified radius and clean accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from inres_tf.plotting import line_styles, make_axes, shared_legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from inres_tf.reporting.comparison import Cell


def accuracy_over(
    panels: Mapping[str, Mapping[str, Mapping[float, Cell]]],
    xlabel: str,
    models: list[str],
) -> Figure:
    """Accuracy over the strength of attacks or corruptions, one panel for each.

    Args:
        panels: by title of the panel (an attack or corruption) and by model, a
            `comparison.Cell` by strength, 0 being clean. Bands show its interval.
        xlabel: label of the strength.
        models: all models, in the order of their colours.
    """
    figure, axes = make_axes(len(panels), width=3.8, columns=4)
    styles = dict(zip(models, line_styles()))
    for (title, by_model), ax in zip(panels.items(), axes):
        for name, points in by_model.items():
            _curve(ax, points, **styles[name], label=name)
        ax.set(xlabel=xlabel, ylabel="accuracy (%)", ylim=(0, 101))
        ax.set_title(title, wrap=True)
    shared_legend(figure, *axes)
    return figure


def certified_over(
    panels: Mapping[str, Mapping[str, Mapping[float, Cell]]],
    attacked: Mapping[str, Mapping[float, Cell]],
    models: list[str],
) -> Figure:
    """Certified accuracy over the L2 radius, with that under attack as dashed lines.

    No attack can fall below a certificate. The gap between both lines is what neither
    proves.

    Args:
        panels: by title of the panel (the method) and by model, a `comparison.Cell` by
            radius. Bands show its interval.
        attacked: by model, a `comparison.Cell` by radius.
        models: all models, in the order of their colours.
    """
    figure, axes = make_axes(len(panels), width=5.2, columns=4)
    styles = dict(zip(models, line_styles()))
    for (title, by_model), ax in zip(panels.items(), axes):
        for name, points in by_model.items():
            _curve(ax, points, **styles[name] | {"marker": ""}, label=name)
            if name in attacked:
                style = styles[name] | {"linestyle": "--"}
                _curve(ax, attacked[name], **style, label=f"{name}, attacked")
        ax.set(
            xlabel="L2 radius (1/255)",
            ylabel="accuracy (%)",
            ylim=(0, 101),
            title=title,
        )
    shared_legend(figure, *axes)
    return figure


def _curve(ax, points, color, **style):
    """Draws the means of cells by strength, and a band of their intervals."""
    strengths = sorted(points)
    cells = [points[strength] for strength in strengths]
    ax.plot(strengths, [100 * cell.mean for cell in cells], color=color, **style)
    low, high = ([100 * getattr(c, e) for c in cells] for e in ("low", "high"))
    ax.fill_between(strengths, low, high, color=color, alpha=0.15, linewidth=0)


def trade_off(
    panels: Mapping[str, Mapping[str, Sequence[Cell]]], models: list[str]
) -> Figure:
    """Accuracy under attack over clean accuracy: one point per model, with intervals.

    Args:
        panels: by title of the panel (the attack) and by model, two `comparison.Cell`s:
            clean and under attack.
        models: all models, in the order of their colours.
    """
    figure, axes = make_axes(len(panels), width=3.8, columns=4)
    styles = dict(zip(models, line_styles()))
    for (title, by_model), ax in zip(panels.items(), axes):
        for name, cells in by_model.items():
            x, y = (100 * cell.mean for cell in cells)
            sides = [
                [[100 * (c.mean - c.low)], [100 * (c.high - c.mean)]] for c in cells
            ]
            style = styles[name] | {"elinewidth": 1, "markersize": 7}
            ax.errorbar(x, y, yerr=sides[1], xerr=sides[0], **style, ls="", label=name)
        ax.set(xlabel="clean accuracy (%)", ylabel=f"{title} (%)")
    shared_legend(figure, *axes)
    return figure
