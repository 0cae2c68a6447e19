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
PROCESS_TIMEOUT = 600  # seconds; generous, since the machine may be busy
RUN = {"model": "in_resnet8", "epochs": 4, "verbose": 0}


def build(shape, classes):
    return zoo.InResNet8(input_shape=shape, classes=classes)


def make_config(folder):
    return TrainConfig(**RUN, output_dir=str(folder))


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """An uninterrupted run, and a copy of its folder after two epochs."""
    folder = tmp_path_factory.mktemp("complete")
    early = folder / "early"

    class Copy(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                ignore = shutil.ignore_patterns(".lock")
                shutil.copytree(folder / "run", early, ignore=ignore)

    result = run.train(make_config(folder / "run"), build, [Copy()])
    return result, early


def without_times(history):
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in history]


def assert_resumes_like(folder, expected):
    """Resumes the run in a folder, and checks that it ends as if uninterrupted."""
    result = run.train(make_config(folder), build)
    weights = zip(
        [*result.model.weights, *result.model.optimizer.variables],
        [*expected.model.weights, *expected.model.optimizer.variables],
        strict=True,
    )
    for a, b in weights:
        np.testing.assert_array_equal(a, b)
    assert without_times(result.history) == without_times(expected.history)
    assert not list(folder.rglob(".*"))


def run_python(code, *arguments, **options):
    """Runs Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        timeout=PROCESS_TIMEOUT,
        **options,
    )


# Trains in a process that dies at a given call of a function of the file system.
DYING_RUN = """
    import os, signal, sys
    from train import cli
    cli.import_tensorflow()
    from inres_tf import plotting, training
    import zoo

    name, fatal_call, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    modules = {"replace": os, "rmtree": training.checkpoints.shutil, "save": plotting}
    module = modules[name]
    original, calls = getattr(module, name), []

    def dying(*arguments, **options):
        calls.append(arguments)
        if name == "save" or sum("checkpoint" in str(a) for a in calls) >= fatal_call:
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
        pytest.param("replace", 3, id="before a checkpoint is renamed"),
        pytest.param("rmtree", 1, id="before an old checkpoint is deleted"),
        pytest.param(
            "save", 1, id="before the curves are drawn", marks=pytest.mark.long
        ),
    ],
)
def test_killed_run_resumes_bit_for_bit(name, call, complete, tmp_path):
    folder = tmp_path / "run"
    process = run_python(DYING_RUN, name, str(call), str(folder))
    assert process.returncode == -signal.SIGKILL
    saved = checkpoints.list_checkpoints(folder / "checkpoints")
    assert saved and not (folder / "model.keras").exists()
    (folder / ".writing-999999999-model.keras").write_bytes(b"half")
    (folder / ".writing-999999999-export").mkdir()  # of a killed train.export
    assert_resumes_like(folder, complete[0])
    assert (folder / "curves.png").exists()


def damage(path, kind):
    content = path.read_bytes()
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "flipped bit":
        content = bytearray(content)
        content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["model.keras", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("kind", ["truncated", "flipped bit"])
def test_damaged_checkpoint_is_reported_and_the_previous_one_used(
    file, kind, complete, tmp_path, capfd
):
    result, early = complete
    folder = tmp_path / "run"
    shutil.copytree(early, folder)
    older, newer = checkpoints.list_checkpoints(folder / "checkpoints")
    damage(newer / file, kind)
    assert checkpoints.newest(folder / "checkpoints") == older
    message = capfd.readouterr().err
    assert f"checkpoint {newer}" in message
    assert f"renamed to damaged-{newer.name}" in message
    assert (newer.parent / f"damaged-{newer.name}" / file).exists()
    if (file, kind) == ("model.keras", "truncated"):
        assert_resumes_like(folder, result)


def test_run_stops_if_all_checkpoints_are_damaged(complete, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(complete[1], folder)
    for path in checkpoints.list_checkpoints(folder / "checkpoints"):
        damage(path / "model.keras", "truncated")
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=r"00022/model.keras is damaged, and no older"):
        run.train(make_config(folder), build)
    assert sorted(folder.rglob("*")) == before


def test_checkpoint_that_a_killed_process_moved_is_restored(complete, tmp_path):
    """The process was killed between moving the old folder and the new one."""
    folder = tmp_path / "run"
    shutil.copytree(complete[1], folder)
    newer = checkpoints.list_checkpoints(folder / "checkpoints")[-1]
    newer.rename(newer.with_name(f".old-7-{newer.name}"))
    (newer.parent / f".writing-7-{newer.name}").mkdir()
    assert checkpoints.newest(folder / "checkpoints") == newer
    assert sorted(p.name for p in newer.parent.iterdir()) == [
        "checkpoint-00000011",
        newer.name,
    ]


def test_full_disk_stops_the_run_and_keeps_the_last_checkpoint(complete, tmp_path):
    """Simulated by limiting the size of files to half of a checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(complete[1], folder)
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
    process = run_python(code, capture_output=True, text=True)
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr and "too large" in process.stderr
    assert checkpoints.list_checkpoints(folder / "checkpoints") == before
    for path in before:
        checkpoints.check(path)
    assert_resumes_like(folder, complete[0])


def test_checkpoints_hold_what_a_run_needs_to_resume(complete):
    result, _ = complete
    _, state = checkpoints.restore(result.checkpoint)
    assert state["epoch"] == 4 and state["step_in_epoch"] == 0
    assert [row["step"] for row in state["history"]] == [11, 22, 33, 44]
    best = max(result.history, key=lambda row: row["val_accuracy"])
    assert state["best"] == {k: best[k] for k in ("epoch", "val_accuracy", "val_loss")}
    assert json.loads((result.checkpoint / "state.json").read_text())["seeds"] == []


def test_checksums_are_those_of_sha256sum(complete):
    folder = complete[0].checkpoint
    process = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"],
        cwd=folder,
        timeout=PROCESS_TIMEOUT,
    )
    assert process.returncode == 0
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 2
