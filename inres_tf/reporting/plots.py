"""Plots of accuracy over attack strength, certified radius and clean accuracy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from inres_tf.layers import dead_blocks
from inres_tf.plotting import line_styles, make_axes, shared_legend
from inres_tf.reporting import verdicts
from inres_tf.reporting.measurements import CLEAN, EvaluatedRun
from inres_tf.training.plots import rates_by_depth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from inres_tf.reporting.comparison import Cell, Comparison


class Drawing(NamedTuple):
    """A plot of a comparison.

    Attributes:
        heading: what it shows.
        draw: function of the panels that returns the figure.
        panels: what the figure shows, by title of the panel.
    """

    heading: str
    draw: Callable[[dict[str, Any]], Figure]
    panels: dict[str, Any]

    def figure(self) -> Figure:
        """Draws it."""
        return self.draw(self.panels)


def drawings(comparison: Comparison) -> dict[str, Drawing]:
    """The plots of a comparison, by name of their files."""
    models = list(comparison.models)
    found: dict[str, Drawing] = {}
    for name, heading, groups, xlabel in (
        ("accuracy_over_eps", "Accuracy over ε", ("worst", "attack"), "ε (1/255)"),
        ("accuracy_over_severity", "Accuracy over severity", ("severity",), "severity"),
    ):
        curves: dict[str, Any] = {}
        for group in groups:
            curves |= comparison.curves(group)
        if curves:
            draw = functools.partial(accuracy_over, xlabel=xlabel, models=models)
            found[name] = Drawing(heading, draw, curves)
    certified = comparison.curves("certified_curve")
    if certified:
        attacked: dict[str, Any] = {}
        for curve, by_model in comparison.curves("certificate").items():
            attacked |= by_model if curve.startswith("attacked") else {}
        draw = functools.partial(certified_over, attacked=attacked, models=models)
        heading = "Certified accuracy over radius"
        found["certified_over_radius"] = Drawing(heading, draw, certified)
    panels: dict[str, Any] = {}
    for column in comparison.columns:
        if column.group == "worst":
            cells = {
                model: (comparison.cell(model, CLEAN), comparison.cell(model, column))
                for model in models
            }
            title = comparison.label(column)
            panels[title] = {model: pair for model, pair in cells.items() if all(pair)}
    if panels:
        draw = functools.partial(trade_off, models=models)
        found["trade_off"] = Drawing("Worst case over clean accuracy", draw, panels)
    damped = {model: rates(runs[0]) for model, runs in comparison.models.items()}
    if any(damped.values()):
        draw_rates = lambda panels: rates_by_depth(panels["λ"])
        several = len(comparison.runs) > len(comparison.models)
        title = "λ by depth" + ", first seed" * several
        found["lambda_by_depth"] = Drawing(title, draw_rates, {"λ": damped})
    return found


def rates(run: EvaluatedRun) -> dict[str, float]:
    """λ by layer of a run; nan where it is not finite."""
    by_layer = run.result.get("lambda", {})
    return {k: math.nan if v is None else v for k, v in by_layer.items()}


def dead_block_counts(runs: Sequence[EvaluatedRun]) -> str:
    """Numbers of damped blocks with λ = 0 and of all, "2 and 0 of 6" for two seeds.

    Args:
        runs: the seeds of one model.

    Returns:
        Text; empty without damped blocks.
    """
    by_run = [rates(run) for run in runs]
    if not any(by_run):
        return ""
    counts = [str(dead_blocks(of_run)) for of_run in by_run]
    return f"{verdicts.listed(counts)} of {max(map(len, by_run))}"


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
        ax.set(xlabel=xlabel, ylabel="accuracy (%)")
        ax.set_title(title, wrap=True)
    _fit(axes)
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
        ax.set(xlabel="L2 radius (1/255)", ylabel="accuracy (%)", title=title)
    _fit(axes)
    shared_legend(figure, *axes)
    return figure


def _fit(axes: Iterable) -> None:
    """Lets all panels show the same accuracies, those of the curves and bands."""
    low, high = zip(*(ax.get_ylim() for ax in axes))
    for ax in axes:
        ax.set_ylim(max(min(low), -1), min(max(high), 101))
        ax.set_xlim(left=0)


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
        ax.locator_params(nbins=5)
    shared_legend(figure, *axes)
    return figure
