import json

import pytest

from inres_tf.errors import UserError
from inres_tf.training import metrics_log


def make_rows(epochs, scale=1.0, blocks=("stage1_block2_merge",)):
    """Rows of `metrics.jsonl`, with different values for each `scale`."""
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "images_per_second")
    return [
        {
            "epoch": epoch,
            "step": 11 * epoch,
            **dict.fromkeys(names, scale / epoch),
            "learning_rate": 0.1 / epoch,
            "lambda": dict.fromkeys(blocks, scale / epoch),
            "dead_blocks": 0,
        }
        for epoch in range(1, epochs + 1)
    ]


def write(folder, rows, name="metrics.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def test_find_takes_folders_files_and_folders_of_runs(tmp_path, monkeypatch):
    a, b, c = make_rows(2), make_rows(3, scale=2.0), make_rows(4, scale=3.0)
    write(tmp_path / "runs" / "a", a)
    write(tmp_path / "runs" / "paper" / "b-seed0", b)
    # Ignored: a run within a run, and runs without a finished epoch.
    write(tmp_path / "runs" / "a" / "checkpoints" / "old", c)
    (tmp_path / "runs" / "started").mkdir()
    write(tmp_path / "runs" / "interrupted", [])
    assert metrics_log.find([tmp_path / "runs"]) == {"a": a, "paper/b-seed0": b}
    assert metrics_log.find([tmp_path / "runs" / "a"]) == {"a": a}
    assert metrics_log.find([tmp_path / "runs" / "a" / "metrics.jsonl"]) == {"a": a}
    file = write(tmp_path / "kept", c, name="best.jsonl")
    assert metrics_log.find([file, tmp_path / "runs" / "a"]) == {"best": c, "a": a}
    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert metrics_log.find(["."]) == {"a": a}


def test_find_distinguishes_runs_of_the_same_name(tmp_path):
    first, second = (write(tmp_path / name / "run", make_rows(2)) for name in "xy")
    histories = metrics_log.find([tmp_path / "x" / "run", tmp_path / "y" / "run"])
    assert list(histories) == [str(first), str(second)]


def test_find_reads_a_run_named_twice_once(tmp_path):
    file = write(tmp_path / "run", make_rows(2))
    assert list(metrics_log.find([file, tmp_path / "run"])) == ["run"]


def test_find_reads_unfinished_runs(tmp_path):
    rows = make_rows(3)
    write(tmp_path / "run", rows[:1])
    assert metrics_log.find([tmp_path / "run"]) == {"run": rows[:1]}
    write(tmp_path / "run", rows)
    assert metrics_log.find([tmp_path / "run"]) == {"run": rows}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"epoch": 2, "loss"', "line 2 is not the metrics of an epoch: Expecting"),
        ("[1, 2]", "line 2 is not the metrics of an epoch: it lacks lambda"),
        (json.dumps(make_rows(1)[0] | {"loss": "low"}), "it lacks numbers for loss"),
        (
            json.dumps({"epoch": 1, "lambda": {}}),
            "it lacks numbers for loss, accuracy, val_loss, val_accuracy, learning_",
        ),
        (
            json.dumps(make_rows(1)[0] | {"lambda": {"x": None}}),
            "it lacks numbers for x",
        ),
        (json.dumps(make_rows(1, blocks=["x"])[0]), "its damped blocks are not those"),
        ("\udcff", "line 1 is not the metrics of an epoch: 'utf-8' codec"),
    ],
)
def test_damaged_files_are_rejected(line, message, tmp_path):
    path = write(tmp_path / "run", make_rows(1))
    with path.open("a", errors="surrogateescape") as file:
        file.write(line)
    for argument in (tmp_path, tmp_path / "run", path):
        with pytest.raises(UserError) as error:
            metrics_log.find([argument])
        assert str(error.value).startswith(f"{path}, line ")
        assert message in str(error.value)


def test_missing_runs_are_reported(tmp_path):
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
