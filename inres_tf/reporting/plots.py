"""Plots of accuracy over attack strength and over clean accuracy."""

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
            strengths = sorted(points)
            cells = [points[strength] for strength in strengths]
            means = [100 * cell.mean for cell in cells]
            ax.plot(strengths, means, "-", **styles[name], label=name)
            low, high = ([100 * getattr(c, e) for c in cells] for e in ("low", "high"))
            color = styles[name]["color"]
            ax.fill_between(strengths, low, high, color=color, alpha=0.15, linewidth=0)
        ax.set(xlabel=xlabel, ylabel="accuracy (%)", ylim=(0, 101))
        ax.set_title(title, wrap=True)
    shared_legend(figure, *axes)
    return figure


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
