"""Plots of training and evaluation. Every function returns a matplotlib figure."""

from inres_tf.checkpoints import atomic

_STYLE = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "font.size": 10,
}


def _axes(count=1, width=5.2):
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width * count, 3.6), layout="constrained")
        return figure, figure.subplots(1, count, squeeze=False)[0]


def save(figure, path) -> None:
    """Writes a figure to a `.png` or `.svg` file, atomically."""
    with atomic(path) as temporary:
        figure.savefig(temporary)


def training_curves(histories: dict[str, list[dict]]):
    """Loss and accuracy by epoch.

    Args:
        histories: the rows of `metrics.jsonl` by name of the model.
    """
    figure, axes = _axes(2)
    for (name, rows), color in zip(histories.items(), _colors()):
        epochs = [row["epoch"] for row in rows]
        for ax, key, scale in ((axes[0], "loss", 1), (axes[1], "accuracy", 100)):
            ax.plot(
                epochs, [scale * r[key] for r in rows], "--", color=color, alpha=0.6
            )
            ax.plot(
                epochs, [scale * r[f"val_{key}"] for r in rows], color=color, label=name
            )
    axes[0].set(xlabel="epoch", ylabel="cross-entropy", yscale="log")
    axes[1].set(xlabel="epoch", ylabel="accuracy (%)")
    axes[0].set_title("solid: evaluated, dashed: training", fontsize=9)
    axes[1].legend()
    return figure


def rates_by_depth(rates: dict[str, dict[str, float]]):
    """λ of each damped block.

    Args:
        rates: for each model, λ by name of the layer, in the order of the network. One
            without damped blocks is left out and keeps its colour.
    """
    figure, (ax,) = _axes()
    for (name, by_layer), color in zip(rates.items(), _colors()):
        if by_layer:
            blocks, found = range(1, len(by_layer) + 1), list(by_layer.values())
            ax.plot(blocks, found, "o-", color=color, label=name)
    ax.set(xlabel="damped block", ylabel="λ")
    ax.set_ylim(bottom=0)
    ax.locator_params(axis="x", integer=True)
    ax.legend()
    return figure


def accuracy_over(panels: dict[str, dict[str, dict[float, float]]], xlabel: str):
    """Accuracy over the strength of attacks or corruptions, a panel for each.

    Args:
        panels: for each attack or corruption, for each model, accuracy in [0, 1] by
            strength (0: clean).
        xlabel: what the strength is.
    """
    figure, axes = _axes(len(panels), width=3.8)
    for (title, models), ax in zip(panels.items(), axes):
        for name, points in models.items():
            strengths = sorted(points)
            ax.plot(strengths, [100 * points[s] for s in strengths], "o-", label=name)
        ax.set(xlabel=xlabel, title=title, ylim=(0, 101))
    axes[0].set_ylabel("accuracy (%)")
    axes[0].legend()
    return figure


def _colors():
    from matplotlib import color_sequences

    return list(color_sequences["tab10"]) * 10
