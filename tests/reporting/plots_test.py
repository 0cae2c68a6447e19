import json

import numpy as np
import pytest
from matplotlib.colors import to_hex

from inres_tf.errors import UserError
from inres_tf.training import metrics_log, plots

DAMPED = ["stage1_block2_merge", "stage1_block3_merge", "stage2_block2_merge"]


def rows(epochs, seed=0, blocks=DAMPED):
    """Rows of `metrics.jsonl`, with another value everywhere."""
    rng = np.random.default_rng(seed)
    found = []
    for epoch in range(1, epochs + 1):
        rates = {name: rng.uniform() for name in blocks}
        names = ("loss", "accuracy", "val_loss", "val_accuracy", "images_per_second")
        row = {"epoch": epoch, "step": 11 * epoch} | {n: rng.uniform() for n in names}
        row |= {"learning_rate": 0.1 / epoch, "lambda": rates, "dead_blocks": epoch % 3}
        found.append(row)
    return found


def write(folder, rows, name="metrics.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def panels(figure):
    """Axes of a figure by what they show; those of λ by the run as well."""
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


def test_everything_draws_the_rows_in_one_colour_a_run():
    runs = {"a": rows(4), "b": rows(6, seed=1), "plain": rows(5, seed=2, blocks=[])}
    runs["b"][0]["lambda"] = dict.fromkeys(DAMPED, 3.0)
    figure = plots.training_curves(runs, everything=True)
    found = panels(figure)
    colors = {}
    both = (("cross-entropy", "loss", 1), ("accuracy (%)", "accuracy", 100))
    for label, key, scale in both:
        lines = curves(found[label])
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
        lines = curves(found[label])
        assert [line[1] for line in lines] == names.split()
        for style, name, color, epochs, values in lines:
            assert (style, color) == ("-", colors[name])
            assert epochs == column(runs[name], "epoch")
            assert values == column(runs[name], key)
    assert found["learning rate"].get_yscale() == "log"
    for name in "ab":
        lines = curves(found[f"λ of {name}"])
        assert [line[1] for line in lines] == DAMPED
        for line in lines:
            assert line[4] == [row["lambda"][line[1]] for row in runs[name]]
        assert len({line[2] for line in lines}) == 3
        assert to_hex(found[f"λ of {name}"].title.get_color()) == colors[name]
    assert "λ of plain" not in found
    assert found["λ of a"].get_ylim() == found["λ of b"].get_ylim()
    assert found["λ of a"].get_ylim()[1] > 3
    for label in ("images/s", "blocks with λ = 0", "λ of a"):
        assert found[label].get_ylim()[0] == 0


def test_loss_and_accuracy_alone_are_the_reports():
    figure = plots.training_curves({"a": rows(3)})
    assert list(panels(figure)) == ["cross-entropy", "accuracy (%)"]


def test_fifty_blocks_are_told_apart_by_depth():
    blocks = [f"block{i}" for i in range(51)]
    figure = plots.training_curves({"a": rows(2, blocks=blocks)}, everything=True)
    lines = curves(panels(figure)["λ of a"])
    lightness = [sum(int(line[2][i : i + 2], 16) for i in (1, 3, 5)) for line in lines]
    assert len(set(line[2] for line in lines)) == 51
    assert lightness[0] < lightness[25] < lightness[50]
    bar = panels(figure)["damped block"]
    assert bar.get_ylim() == (1, 51)


def test_an_undamped_run_has_neither_rates_nor_dead_blocks():
    figure = plots.training_curves({"a": rows(3, blocks=[])}, everything=True)
    assert list(panels(figure)) == [
        "cross-entropy",
        "accuracy (%)",
        "learning rate",
        "images/s",
    ]


def test_one_epoch_is_seen():
    figure = plots.training_curves({"a": rows(1)}, everything=True)
    for ax in figure.axes:
        assert all(line.get_marker() == "o" for line in ax.get_lines())


def test_more_runs_than_colors_are_all_drawn():
    runs = {str(i): rows(2, seed=i, blocks=[]) for i in range(120)}
    figure = plots.training_curves(runs)
    assert len(figure.axes[0].get_lines()) == 240


def test_runs_are_found_by_folder_file_and_folder_of_runs(tmp_path, monkeypatch):
    a, b, c = rows(2), rows(3, seed=1), rows(4, seed=2)
    write(tmp_path / "runs" / "a", a)
    write(tmp_path / "runs" / "paper" / "b-seed0", b)
    # Within a run nothing else is a run.
    write(tmp_path / "runs" / "a" / "checkpoints" / "old", c)
    # One that has begun, and one that was interrupted in its first epoch.
    (tmp_path / "runs" / "begun").mkdir()
    write(tmp_path / "runs" / "cut", [])
    assert metrics_log.find([tmp_path / "runs"]) == {"a": a, "paper/b-seed0": b}
    assert metrics_log.find([tmp_path / "runs" / "a"]) == {"a": a}
    assert metrics_log.find([tmp_path / "runs" / "a" / "metrics.jsonl"]) == {"a": a}
    kept = write(tmp_path / "kept", c, name="best.jsonl")
    assert metrics_log.find([kept, tmp_path / "runs" / "a"]) == {"best": c, "a": a}
    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert metrics_log.find(["."]) == {"a": a}


def test_runs_of_the_same_name_are_told_apart_and_one_named_twice_is_one(tmp_path):
    one, two = (write(tmp_path / part / "run", rows(2)) for part in ("x", "y"))
    found = metrics_log.find([tmp_path / "x" / "run", tmp_path / "y" / "run"])
    assert list(found) == [str(one), str(two)]
    assert list(metrics_log.find([one, tmp_path / "x" / "run"])) == ["run"]


def test_a_run_still_going_on_grows(tmp_path):
    done = rows(3)
    write(tmp_path / "run", done[:1])
    assert len(metrics_log.find([tmp_path / "run"])["run"]) == 1
    write(tmp_path / "run", done)
    assert metrics_log.find([tmp_path / "run"]) == {"run": done}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"epoch": 2, "loss"', "line 2 is not the metrics of an epoch: Expecting"),
        ("[1, 2]", "line 2 is not the metrics of an epoch: it lacks lambda"),
        (json.dumps(rows(1)[0] | {"loss": "low"}), "it lacks numbers for loss"),
        (
            json.dumps({"epoch": 1, "lambda": {}}),
            "it lacks numbers for loss, accuracy, val_loss, val_accuracy, learning_",
        ),
        (json.dumps(rows(1)[0] | {"lambda": {"x": None}}), "it lacks numbers for x"),
        (json.dumps(rows(1, blocks=["x"])[0]), "its damped blocks are not those of"),
        ("\udcff", "line 1 is not the metrics of an epoch: 'utf-8' codec"),
    ],
)
def test_damaged_and_foreign_files_are_said(line, message, tmp_path):
    file = write(tmp_path / "run", rows(1))
    with file.open("a", errors="surrogateescape") as end:
        end.write(line)
    for path in (tmp_path, tmp_path / "run", file):
        with pytest.raises(UserError) as error:
            metrics_log.find([path])
        assert str(error.value).startswith(f"{file}, line ")
        assert message in str(error.value)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="none does not exist; name a run's folder"):
        metrics_log.find([tmp_path / "none"])
    with pytest.raises(UserError, match="no run in .* has a finished epoch yet"):
        metrics_log.find([tmp_path])
    empty = write(tmp_path / "run", [])
    with pytest.raises(UserError, match="metrics.jsonl has no finished epoch yet"):
        metrics_log.find([tmp_path / "run"])
    empty.unlink()
    with pytest.raises(UserError, match="no run in .*run has a finished epoch yet"):
        metrics_log.find([tmp_path / "run"])
