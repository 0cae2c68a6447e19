import numpy as np
from matplotlib.colors import to_hex

from inres_tf.training import plots

DAMPED = ["stage1_block2_merge", "stage1_block3_merge", "stage2_block2_merge"]


def make_rows(epochs, seed=0, blocks=DAMPED):
    """Rows of `metrics.jsonl` with random values."""
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, epochs + 1):
        rates = {name: rng.uniform() for name in blocks}
        names = ("loss", "accuracy", "val_loss", "val_accuracy", "images_per_second")
        row = {"epoch": epoch, "step": 11 * epoch} | {n: rng.uniform() for n in names}
        row |= {"learning_rate": 0.1 / epoch, "lambda": rates, "dead_blocks": epoch % 3}
        rows.append(row)
    return rows


def panels(figure):
    """Axes of a figure by the label of y, and by the run too if it is λ."""
    return {
        f"λ of {ax.get_title()}" if ax.get_ylabel() == "λ" else ax.get_ylabel(): ax
        for ax in figure.axes
    }


def curves(ax):
    """(style, label, colour, xs, ys) of each line."""
    return [
        (
            line.get_linestyle(),
            line.get_label(),
            to_hex(line.get_color()),
            list(line.get_xdata()),
            list(line.get_ydata()),
        )
        for line in ax.get_lines()
    ]


def column(rows, key, scale=1):
    return [scale * row[key] for row in rows]


def test_everything_plots_the_rows_in_one_colour_per_run():
    runs = {
        "a": make_rows(4),
        "b": make_rows(6, seed=1),
        "plain": make_rows(5, seed=2, blocks=[]),
    }
    runs["b"][0]["lambda"] = dict.fromkeys(DAMPED, 3.0)
    axes = panels(plots.training_curves(runs, everything=True))
    colors = {}
    both = (("cross-entropy", "loss", 1), ("accuracy (%)", "accuracy", 100))
    for label, key, scale in both:
        lines = curves(axes[label])
        assert len(lines) == 6
        for (name, run), dashed, solid in zip(runs.items(), lines[::2], lines[1::2]):
            color = colors.setdefault(name, solid[2])
            epochs = column(run, "epoch")
            assert dashed == ("--", dashed[1], color, epochs, column(run, key, scale))
            evaluated = column(run, f"val_{key}", scale)
            assert solid == ("-", name, color, epochs, evaluated)
    assert len(set(colors.values())) == 3
    for label, key, names in (
        ("learning rate", "learning_rate", "a b plain"),
        ("images/s", "images_per_second", "a b plain"),
        ("blocks with λ = 0", "dead_blocks", "a b"),
    ):
        lines = curves(axes[label])
        assert [line[1] for line in lines] == names.split()
        for style, name, color, epochs, values in lines:
            assert (style, color) == ("-", colors[name])
            assert epochs == column(runs[name], "epoch")
            assert values == column(runs[name], key)
    assert axes["learning rate"].get_yscale() == "log"
    for name in "ab":
        ax = axes[f"λ of {name}"]
        lines = curves(ax)
        assert [line[1] for line in lines] == DAMPED
        for line in lines:
            assert line[4] == [row["lambda"][line[1]] for row in runs[name]]
        assert len({line[2] for line in lines}) == 3
        assert to_hex(ax.title.get_color()) == colors[name]
    assert "λ of plain" not in axes
    assert axes["λ of a"].get_ylim() == axes["λ of b"].get_ylim()
    assert axes["λ of a"].get_ylim()[1] > 3
    for label in ("images/s", "blocks with λ = 0", "λ of a"):
        assert axes[label].get_ylim()[0] == 0


def test_by_default_loss_and_accuracy_are_plotted():
    figure = plots.training_curves({"a": make_rows(3)})
    assert list(panels(figure)) == ["cross-entropy", "accuracy (%)"]


def test_many_blocks_are_coloured_by_depth():
    blocks = [f"block{i}" for i in range(51)]
    rows = make_rows(2, blocks=blocks)
    axes = panels(plots.training_curves({"a": rows}, everything=True))
    colors = [line[2] for line in curves(axes["λ of a"])]
    lightness = [sum(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in colors]
    assert len(set(colors)) == 51
    assert lightness[0] < lightness[25] < lightness[50]
    assert axes["damped block"].get_ylim() == (1, 51)


def test_undamped_runs_have_no_panels_of_rates():
    figure = plots.training_curves({"a": make_rows(3, blocks=[])}, everything=True)
    assert list(panels(figure)) == [
        "cross-entropy",
        "accuracy (%)",
        "learning rate",
        "images/s",
    ]


def test_a_single_epoch_has_markers():
    figure = plots.training_curves({"a": make_rows(1)}, everything=True)
    for ax in figure.axes:
        assert all(line.get_marker() == "o" for line in ax.get_lines())


def test_more_runs_than_colours_are_all_plotted():
    runs = {str(i): make_rows(2, seed=i, blocks=[]) for i in range(120)}
    figure = plots.training_curves(runs)
    assert len(figure.axes[0].get_lines()) == 240


def test_rates_by_depth_leaves_out_undamped_models_but_keeps_their_colours():
    rates = {"plain": {}, "damped": {"one": 0.25, "two": 0.0}}
    (ax,) = plots.rates_by_depth(rates).axes
    ((_, label, color, depths, values),) = curves(ax)
    assert (label, depths, values) == ("damped", [1, 2], [0.25, 0.0])
    ((_, _, alone, *_),) = curves(plots.rates_by_depth({"x": rates["damped"]}).axes[0])
    assert color != alone
