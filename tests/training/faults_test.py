"""Crashes, full disks and damaged files: a run loses at most one epoch."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import zoo
from inres_tf.errors import UserError
from inres_tf.training import checkpoints, run
from inres_tf.training.config import TrainConfig

ROOT = pathlib.Path(__file__).parents[2]
RUN = {"model": "in_resnet8", "epochs": 4, "verbose": 0}


def build(shape, classes):
    return zoo.InResNet8(input_shape=shape, classes=classes)


def config(folder, **changes):
    return TrainConfig(**RUN | changes, output_dir=str(folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and a copy of it as it was after two epochs."""
    folder = tmp_path_factory.mktemp("whole")
    early = folder / "early"

    class Copy(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                shutil.copytree(folder / "run", early)

    result = run.train(config(folder / "run"), build, [Copy()])
    return result, early


def resumed_like(folder, whole):
    """Goes on, and checks that it ends as if nothing had happened."""
    result = run.train(config(folder), build)
    for a, b in zip(result.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = zip(
        result.model.optimizer.variables, whole.model.optimizer.variables, strict=True
    )
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
    times = ("images_per_second",)
    assert [{k: v for k, v in r.items() if k not in times} for r in result.history] == [
        {k: v for k, v in r.items() if k not in times} for r in whole.history
    ]
    assert not [p for p in folder.rglob(".*") if p.name != ".."]
    return result


# Runs a training whose process dies at a given call of a function of the file system.
CHILD = """
    import os, signal, sys
    from train import cli
    cli.import_tensorflow()
    from inres_tf import plotting, training
    import zoo

    name, call, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    module = {"replace": os, "rmtree": training.checkpoints.shutil, "save": plotting}[name]
    original, calls = getattr(module, name), []

    def dying(*arguments, **options):
        calls.append(arguments)
        if name == "save" or sum("checkpoint" in str(a) for a in calls) >= call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(module, name, dying)
    run = {"model": "in_resnet8", "epochs": 4, "verbose": 0}
    config = training.TrainConfig(**run, output_dir=folder)
    training.train(config, lambda s, n: zoo.InResNet8(input_shape=s, classes=n))
"""


@pytest.mark.parametrize(
    ("name", "call"),
    [
        pytest.param("replace", 3, id="before a checkpoint appears"),
        pytest.param("rmtree", 1, id="before an old one is deleted"),
        pytest.param("save", 1, id="before the curves are drawn"),
    ],
)
def test_killed_at_any_moment_goes_on_bit_for_bit(name, call, whole, tmp_path):
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), name, str(call), str(folder)],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL
    left = checkpoints.list_checkpoints(folder / "checkpoints")
    assert left and not (folder / "model.keras").exists()
    (folder / ".writing-7-model.keras").write_bytes(b"half")
    resumed_like(folder, whole[0])
    assert (folder / "curves.png").exists()


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "one bit":
        content = bytearray(content)
        content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["model.keras", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("how", ["truncated", "one bit"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_used(
    file, how, whole, tmp_path, capfd
):
    result, early = whole
    folder = tmp_path / "run"
    shutil.copytree(early, folder)
    older, newer = checkpoints.list_checkpoints(folder / "checkpoints")
    damage(newer / file, how)
    assert checkpoints.newest(folder / "checkpoints") == older
    said = capfd.readouterr().err
    assert f"checkpoint {newer}" in said and f"damaged-{newer.name}" in said
    assert (newer.parent / f"damaged-{newer.name}" / file).exists()
    if (file, how) == ("model.keras", "truncated"):
        resumed_like(folder, result)


def test_checkpoints_that_are_all_damaged_stop_the_run(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[1], folder)
    for path in checkpoints.list_checkpoints(folder / "checkpoints"):
        damage(path / "model.keras", "truncated")
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=r"00022/model.keras is damaged, and no older"):
        run.train(config(folder), build)
    assert sorted(folder.rglob("*")) == before


def test_what_a_kill_moved_away_is_put_back(whole, tmp_path):
    """Killed between moving an old folder of the same step away and the new one in."""
    folder = tmp_path / "run"
    shutil.copytree(whole[1], folder)
    newer = checkpoints.list_checkpoints(folder / "checkpoints")[-1]
    newer.rename(newer.with_name(f".old-7-{newer.name}"))
    (newer.parent / f".writing-7-{newer.name}").mkdir()
    assert checkpoints.newest(folder / "checkpoints") == newer
    assert sorted(p.name for p in newer.parent.iterdir()) == [
        "checkpoint-00000011",
        newer.name,
    ]


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(whole, tmp_path):
    """No file may grow beyond half a checkpoint, as on a disk that fills up."""
    folder = tmp_path / "run"
    shutil.copytree(whole[1], folder)
    before = checkpoints.list_checkpoints(folder / "checkpoints")
    limit = (before[-1] / "model.keras").stat().st_size // 2
    code = f"""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        import runpy, sys
        sys.argv = ["train/train.py", "--model=in_resnet8", "--epochs=4", "--verbose=0",
                    "--output_dir={folder}"]
        runpy.run_module("train.train", run_name="__main__", alter_sys=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and "too large" in done.stderr
    assert checkpoints.list_checkpoints(folder / "checkpoints") == before
    for path in before:
        checkpoints.check(path)
    resumed_like(folder, whole[0])


def test_checkpoints_hold_what_a_run_needs(whole):
    _, state = checkpoints.restore(whole[0].checkpoint)
    assert state["epoch"] == 4 and state["step_in_epoch"] == 0
    assert [row["step"] for row in state["history"]] == [11, 22, 33, 44]
    best = max(whole[0].history, key=lambda row: row["val_accuracy"])
    assert state["best"] == {k: best[k] for k in ("epoch", "val_accuracy", "val_loss")}
    sums = (whole[0].checkpoint / "SHA256SUMS").read_text()
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "-"],
        input=sums,
        cwd=whole[0].checkpoint,
        text=True,
    )
    assert done.returncode == 0 and len(sums.splitlines()) == 2
    assert json.loads((whole[0].checkpoint / "state.json").read_text())["seeds"] == []
