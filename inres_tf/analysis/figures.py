"""Plots of the results of the analyses, as matplotlib figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inres_tf.analysis._lyapunov import label
from inres_tf.analysis.comparison import through_blocks
from inres_tf.plotting import (
    color_cycle,
    line_styles,
    make_axes,
    plain_logarithm,
    shared_legend,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from inres_tf.analysis._calibration import CorruptedCalibration
    from inres_tf.analysis._continuous import Continuous
    from inres_tf.analysis._landscape import Landscape
    from inres_tf.analysis._lipschitz import Lipschitz
    from inres_tf.analysis._lyapunov import Lyapunov
    from inres_tf.analysis.gradients import GradientNorms


def landscape(result: Landscape) -> Figure:
    """Mean loss over the plane, as a surface and as contours with the accuracy.

    Args:
        result: result of `inres_tf.analysis.landscape`.
    """
    figure, (left, ax) = make_axes(2)
    position = left.get_subplotspec()
    left.remove()
    surface: Any = figure.add_subplot(position, projection="3d")
    # The first axis of the arrays is the attack direction, drawn along x.
    attack, random = np.meshgrid(result.steps, result.steps, indexing="ij")
    surface.plot_surface(attack, random, result.mean_loss, cmap="viridis")
    names = {"sign": "sign of the gradient", "gradient": "gradient", "pgd": "PGD"}
    attack_label = f"{names[result.direction]} (1/255)"
    surface.set(xlabel=attack_label, ylabel="random (1/255)", zlabel="cross-entropy")
    filled = ax.contourf(attack, random, result.mean_loss, levels=20, cmap="viridis")
    figure.colorbar(filled, ax=ax, label="cross-entropy (nats)")
    accuracy = 100 * result.accuracy
    if np.ptp(accuracy) > 0:
        lines = ax.contour(attack, random, accuracy, colors="white", linewidths=0.8)
        ax.clabel(lines, fmt="%g%%", fontsize=8)
    ax.plot(0, 0, "+", color="red")
    ax.set(xlabel=attack_label, ylabel="random (1/255)")
    ax.set_title("white: accuracy, red: the clean images", fontsize=9)
    return figure


def lyapunov(result: Lyapunov) -> Figure:
    """Growth over depth and exponents by block, one line per λ.

    Args:
        result: result of `inres_tf.analysis.lyapunov`.
    """
    figure, axes = make_axes(4, columns=2)
    depth = np.arange(len(result.names) + 1)
    panels = (("random signs", result.growth_random), ("PGD", result.growth_pgd))
    for (title, growth), ax in zip(panels, axes):
        relative = through_blocks(growth)
        low, middle, high = np.quantile(relative, (0.25, 0.5, 0.75), axis=1)
        for i, (setting, color) in enumerate(zip(result.settings, color_cycle())):
            ax.plot(depth, middle[i], "o-", ms=3, color=color, label=label(setting))
            ax.fill_between(depth, low[i], high[i], color=color, alpha=0.15)
        ax.set(xlabel="blocks passed", ylabel="growth of the difference (L2)")
        if (middle > 0).any():
            ax.set_yscale("log")
            plain_logarithm(ax.yaxis)
        ax.set_title(f"{title}: median and quartiles of the images", fontsize=9)
    axes[0].legend(fontsize=8)
    blocks = depth[1:]
    for i, (setting, color) in enumerate(zip(result.settings, color_cycle())):
        mean = result.exponents[i].mean(0)
        axes[2].plot(blocks, mean, "o-", ms=3, color=color, label=label(setting))
        axes[3].plot(blocks, result.rates[i], "o-", ms=3, color=color)
    axes[2].axhline(0, color="black", linewidth=0.8)
    axes[2].set(xlabel="block", ylabel="largest exponent, mean")
    axes[3].sharex(axes[2])
    axes[3].set(xlabel="block", ylabel="λ")
    axes[3].set_title("gaps: undamped blocks", fontsize=9)
    for ax in axes:
        ax.locator_params(axis="x", integer=True)
    return figure


def lipschitz(result: Lipschitz) -> Figure:
    """Local Lipschitz constants of the logits and the margin, and by block.

    Args:
        result: result of `inres_tf.analysis.lipschitz`.
    """
    figure, axes = make_axes(2 if result.names else 1)
    for name, values in (("logits", result.network), ("margin", result.margin)):
        _histogram(axes[0], values, name)
    axes[0].set(xlabel="local Lipschitz constant (L2, per 1/255)", ylabel="images")
    if axes[0].get_legend_handles_labels()[0]:
        axes[0].legend()
    if result.names:
        depth = np.arange(1, len(result.names) + 1)
        low, middle, high = np.quantile(result.blocks, (0, 0.5, 1), axis=0)
        color = "tab:green"  # not that of the histograms
        axes[1].plot(
            depth, middle, "o-", ms=3, color=color, label="median of the images"
        )
        axes[1].fill_between(
            depth, low, high, color=color, alpha=0.2, label="all images"
        )
        axes[1].set(xlabel="block", ylabel="local Lipschitz constant (L2)")
        axes[1].locator_params(axis="x", integer=True)
        axes[1].set_ylim(bottom=0)
        axes[1].legend()
    return figure


def gradients(result: GradientNorms) -> Figure:
    """Histograms of the norms of the input gradients.

    Args:
        result: result of `inres_tf.analysis.gradient_norms`.
    """
    figure, axes = make_axes(4, columns=2)
    for ax, (name, norms) in zip(
        axes, (("L1", result.l1), ("L2", result.l2), ("L∞", result.linf))
    ):
        _histogram(ax, norms)
        ax.set(xlabel=f"{name} norm (nats per 1/255)", ylabel="images")
        ax.set_title(f"exactly 0: {(norms == 0).sum()} of {len(norms)}", fontsize=9)
    axes[3].hist(100 * result.zeros, bins=np.linspace(0, 100, 21))
    axes[3].set(xlabel="entries that are exactly 0 (%)", ylabel="images")
    return figure


def _histogram(ax, values, name=None):
    """Draws a histogram of the positive values over a logarithmic axis."""
    positive = values[values > 0]
    if not len(positive):
        return
    low, high = np.log10([positive.min(), positive.max()])
    if high - low < 1e-6:  # equal values
        low, high = low - 0.5, high + 0.5
    # Slightly wider than the values, so that rounding does not leave any out.
    bins = np.logspace(low - 1e-6, high + 1e-6, 25)
    ax.hist(positive, bins=bins, alpha=0.7, label=name)
    ax.set_xscale("log")
    plain_logarithm(ax.xaxis)


def calibration(result: CorruptedCalibration) -> Figure:
    """Reliability diagrams, and confidence and accuracy by severity.

    Args:
        result: result of `inres_tf.analysis.corrupted_calibration`.
    """
    names = list(dict.fromkeys(name for name, _ in result.corrupted))
    figure, axes = make_axes(3 if names else 1, width=4.4)
    bins = len(result.clean.count)
    middles = (np.arange(bins) + 0.5) / bins
    axes[0].bar(middles, result.clean.accuracy_by_bin, 1 / bins, edgecolor="white")
    ece, bad = result.clean.ece, result.clean.non_finite
    shown = f"{100 * ece:.1f}%" if not bad else f"undefined, {bad} outputs not finite"
    axes[0].set_title(f"clean: ECE {shown}", fontsize=9)
    for ax in axes[:2] if names else axes:
        ax.plot([0, 1], [0, 1], "--", color="black", linewidth=0.8)
        ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.01))
    for name, style in zip(names, line_styles()):
        corrupted = result.corrupted[name, result.severity]
        filled = corrupted.count > 0
        axes[1].plot(
            corrupted.confidence_by_bin[filled],
            corrupted.accuracy_by_bin[filled],
            **style,
            ms=3,
            label=name,
        )
        severities = [s for n, s in result.corrupted if n == name]
        sets = [result.clean, *(result.corrupted[name, s] for s in severities)]
        for key, line in (("accuracy", "-"), ("confidence", "--")):
            values = [100 * getattr(calibration, key) for calibration in sets]
            axes[2].plot([0, *severities], values, line, **style, ms=3)
    if names:
        axes[1].set_title(f"corrupted, severity {result.severity}", fontsize=9)
        shared_legend(figure, axes[1])
        axes[2].set(xlabel="severity", ylabel="%", ylim=(0, 101))
        axes[2].set_title("solid: accuracy, dashed: confidence", fontsize=9)
    return figure


def continuous(result: Continuous) -> Figure:
    """Distance to the continuous limit, and agreement and accuracy, by steps.

    Args:
        result: result of `inres_tf.analysis.continuous`.
    """
    figure, (left, right) = make_axes(2)
    lines = zip(result.methods, result.distances, result.logits, color_cycle())
    for i, (method, distances, logits, color) in enumerate(lines):
        orders = result.orders[i][np.isfinite(result.orders[i])]
        name = f"{method}, order {orders[-1]:.1f}" if len(orders) else method
        left.plot(result.steps, distances, "o-", ms=3, color=color, label=name)
        for share, line in ((result.accuracy, "o-"), (result.agreement, "s--")):
            right.plot(result.steps, 100 * share(logits), line, ms=3, color=color)
    network = result.distance(result.network).mean()
    left.axhline(network, color="black", linewidth=0.8, label="network")
    left.set(xlabel="steps per block", ylabel="relative distance of the logits, mean")
    if (result.distances > 0).any():
        left.set_yscale("log")
    left.legend(fontsize=8)
    right.set(xlabel="steps per block", ylabel="%", ylim=(0, 101))
    right.set_title("solid: accuracy, dashed: agreement with the limit", fontsize=9)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xticks(result.steps, [str(steps) for steps in result.steps])
        ax.minorticks_off()
    return figure
