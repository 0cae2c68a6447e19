import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import zoo
from inres_tf.analysis import ANALYSES
from inres_tf.errors import UserError
from inres_tf.training import checkpoints

ROOT = pathlib.Path(__file__).parents[2]


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_help_explains_every_flag():
    own = {
        "analyze": ("checkpoint", "landscape", "rates", "output_dir"),
        "train": ("model", "resume", "learning_rate"),
        "evaluate": ("checkpoint", "protocol", "output"),
        "export": ("checkpoint", "overwrite"),
        "convert": ("official_checkpoint", "output"),
        "list": ("models", "json"),
        "plot": ("output",),
        "compare": ("baseline", "output_dir", "title", "allow_different"),
        "reproduce": ("models", "seeds", "eps", "weight_decay"),
    }
    runs = {name: process(f"train.{name}", "--help") for name in own}
    for name, names in own.items():
        out, err = runs[name].communicate(timeout=120)
        assert err == "" and f"python -m train.{name}" in out
        for flag in names:
            assert re.search(rf"--(\[no\])?{flag}:\s+\S", out), (name, flag)


def test_list_prints_what_describe_says(binary):
    code, out, _ = binary("list", "--models=in_resnet*, resnet50v2")
    assert code == 0
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in out.splitlines()]
    names = [row[0] for row in rows[2:]]
    assert names[:3] == ["in_resnet8", "in_resnet20", "in_resnet32"]
    assert set(names) == {
        n for n in zoo.list_models() if n.startswith("in_resnet") or n == "resnet50v2"
    }
    assert rows[3][1:4] == ["273,856", "0.08", "6 of 9"]
    assert rows[-1][0] == "resnet50v2" and rows[-1][-1] == "imagenet"

    code, out, _ = binary("list", "--models=resnet8", "--json")
    assert json.loads(out) == json.loads(json.dumps(zoo.describe("resnet8")))
    code, out, _ = binary("list")
    assert out.count("\n") == len(zoo.list_models()) + 2

    for wrong, message in (
        ("inresnet20", "no model 'inresnet20' in the zoo; --models takes in_resnet20"),
        ("vgg*", "no model of the zoo matches --models=vgg*"),
        (",", "--models names none"),
    ):
        code, out, err = binary("list", f"--models={wrong}")
        assert code == 1 and not out and message in err and err.count("\n") == 1


def test_train_evaluate_export(binary, tmp_path):
    run = tmp_path / "run"
    flags_ = [
        "--model=in_resnet8",
        "--epochs=3",
        "--batch_size=64",
        f"--output_dir={run}",
    ]
    code, out, _ = binary("train", *flags_)
    assert code == 0 and f"-> {run / 'model.keras'}" in out and "epoch 3/3" in out

    result = tmp_path / "deep" / "result.json"
    code, out, _ = binary(
        "evaluate",
        f"--checkpoint={run}",
        "--eps=8,64",
        "--attacks=fgsm,pgd",
        "--steps=3",
        "--step_size=20",
        "--corruptions=shot_noise",
        "--num_examples=30",
        f"--output={result}",
    )
    assert code == 0 and "in_resnet8 on digits: 30 images, standard protocol" in out
    found = json.loads(result.read_text())
    assert found.keys() >= {
        "model",
        "dataset",
        "num_examples",
        "protocol",
        "clean",
        "corruptions",
        "attacks",
    }
    assert (found["model"], found["dataset"]) == ("in_resnet8", "digits")
    assert list(found["corruptions"]) == ["shot_noise"]
    assert [
        (a["name"], a["eps"], a["steps"], a["step_size"]) for a in found["attacks"]
    ] == [
        ("fgsm", 8.0, 1, 8.0),
        ("fgsm", 64.0, 1, 64.0),
        ("pgd", 8.0, 3, 20.0),
        ("pgd", 64.0, 3, 20.0),
    ]

    code, again, _ = binary("evaluate", f"--checkpoint={run}", "--attacks=none")
    assert code == 0 and "attack" not in again

    served = tmp_path / "served"
    code, out, _ = binary("export", f"--checkpoint={run}", f"--output={served}")
    assert code == 0 and out.strip() == str(served)
    assert (served / "saved_model.pb").is_file()


def test_reproduce_evaluates_with_the_recipes_batch(binary, monkeypatch, tmp_path):
    def stop(config, training, evaluating, *_):
        assert evaluating.batch_size == training.batch_size == 128
        raise UserError("as far as this")

    monkeypatch.setattr("inres_tf.reproduce.reproduce", stop)
    code, _, err = binary("reproduce", "--models=plain8", f"--output_dir={tmp_path}/x")
    assert (code, err) == (1, "train.reproduce: as far as this\n")


def test_evaluate_takes_a_model_and_its_weights(binary, trained, tmp_path):
    path = tmp_path / "some.weights.h5"
    trained.save_weights(path)
    none = ["--attacks=none", "--corruptions=none", "--num_examples=50"]
    code, out, _ = binary("evaluate", "--model=in_resnet8", f"--weights={path}", *none)
    assert code == 0 and float(out.split("clean")[1].split()[0]) > 80


def test_convert(binary, tmp_path):
    torch = pytest.importorskip("torch")
    golden = dict(np.load(ROOT / "tests" / "data" / "official_in_resnet20.npz"))
    state = {
        k.removeprefix("state/"): torch.from_numpy(np.array(v))
        for k, v in golden.items()
        if k.startswith("state/")
    }
    torch.save(state, tmp_path / "state.pt")
    output = tmp_path / "converted.keras"
    arguments = [f"--official_checkpoint={tmp_path / 'state.pt'}", f"--output={output}"]
    code, out, _ = binary("convert", *arguments, "--model=in_resnet20")
    assert code == 0 and str(output) in out
    model = zoo.InResNet20(weights=output, include_preprocessing=True)
    kernel = model.get_layer("stem_conv").kernel.numpy()
    np.testing.assert_array_equal(
        kernel.transpose(3, 2, 0, 1), golden["state/conv1.weight"]
    )
    code, _, err = binary("convert", *arguments, "--model=resnet20")
    assert code == 1 and "unknown: ks.0" in err


def mistakes(tmp_path, saved, result_of, run_of):
    """Arguments of a mistake, and what the one line about it must say."""
    one = tmp_path / "one"
    (one / "cat").mkdir(parents=True)
    broken = tmp_path / "broken"
    for name in ("cat", "dog"):
        (broken / name).mkdir(parents=True)
        for i in range(3):
            PIL.Image.new("RGB", (8, 8)).save(broken / name / f"{i}.png")
    (broken / "dog" / "1.png").write_bytes(b"junk")
    corrupt = tmp_path / "corrupt.keras"
    corrupt.write_bytes(saved.read_bytes()[:5000])
    flipped = bytearray(saved.read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    (tmp_path / "flipped.keras").write_bytes(bytes(flipped))
    other = tmp_path / "other"
    other.mkdir()
    run = run_of(tmp_path / "run")
    digits = result_of(tmp_path / "digits")
    mnist = result_of(tmp_path / "mnist", dataset="mnist")
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text('{"step": 1}\n')
    (other / "config.json").write_text(json.dumps({"flags": {"model": "plain8"}}))
    out = f"--output_dir={tmp_path / 'new'}"
    return {
        "unknown model": (("train", "--model=in_resnet21", out), 1, "in_resnet20"),
        "dataset not there": (
            ("train", "--dataset=cifar100", f"--data_dir={one}", out),
            1,
            "'cifar100' is not in --data_dir",
        ),
        "missing folder": (
            ("train", f"--dataset=folder:{tmp_path}/none", out),
            1,
            "none is not a folder",
        ),
        "one class": (("train", f"--dataset=folder:{one}", out), 1, "at least 2"),
        "unreadable image": (
            ("train", f"--dataset=folder:{broken}", out),
            1,
            "dog/1.png cannot be read",
        ),
        "another run's folder": (
            ("train", "--model=in_resnet8", f"--output_dir={other}"),
            1,
            "--model=plain8 there, in_resnet8 now",
        ),
        "truncated checkpoint": (("evaluate", f"--checkpoint={corrupt}"), 1, "damaged"),
        "flipped bit": (
            ("evaluate", f"--checkpoint={tmp_path}/flipped.keras"),
            1,
            "damaged",
        ),
        "no checkpoint": (
            ("export", "--checkpoint=none", "--output=x"),
            1,
            "not exist",
        ),
        "negative eps": (
            ("evaluate", f"--checkpoint={saved}", "--eps=-1"),
            1,
            "got -1",
        ),
        "eps no number": (("evaluate", f"--checkpoint={saved}", "--eps=a"), 1, "'a'"),
        "output no folder": (
            ("evaluate", f"--checkpoint={saved}", f"--output={corrupt}/x.json"),
            1,
            "corrupt.keras",
        ),
        "too many steps": (
            ("evaluate", f"--checkpoint={saved}", "--steps=4294967296"),
            1,
            "--steps must be from 1 to 1000000",
        ),
        "too many epochs": (
            ("train", "--epochs=99999999999999999999", out),
            1,
            "--epochs",
        ),
        "analyze into what": (("analyze", f"--checkpoint={saved}"), 1, "--output_dir"),
        "analyze nothing": (
            ("analyze", out, *(f"--no{name}" for name in ANALYSES)),
            1,
            "leave on one of --landscape",
        ),
        "an even grid": (("analyze", out, "--grid=10"), 1, "--grid must be odd"),
        "too few images": (
            ("analyze", f"--checkpoint={saved}", out, "--num_examples=9999"),
            1,
            "more than the 359 test images",
        ),
        "neither checkpoint nor model": (("evaluate",), 1, "--checkpoint"),
        "model without weights": (("evaluate", "--model=plain8"), 1, "--weights"),
        "wrong images": (
            ("evaluate", f"--checkpoint={saved}", "--image_size=9", "--attacks=none"),
            1,
            "takes images of 8x8x1",
        ),
        "unknown flag": (("train", "--modle=plain8"), 2, "modle"),
        "wrong type": (("train", "--epochs=many"), 2, "many"),
        "argument": (("train", "plain8"), 2, "'plain8'"),
        "wrong enum": (("train", "--strategy=horovod"), 2, "mirrored"),
        "no output": (("export", f"--checkpoint={saved}"), 1, "--output"),
        "convert nothing": (
            ("convert", "--output=x.keras"),
            1,
            "--official_checkpoint",
        ),
        "convert to what": (
            ("convert", "--official_checkpoint=x", "--output=x.pt"),
            1,
            ".weights.h5",
        ),
        "plot what is not there": (("plot", f"{tmp_path}/none"), 1, "does not exist"),
        "plot no run": (("plot", run, one), 1, "one has a finished epoch yet"),
        "plot a foreign file": (("plot", foreign), 1, "foreign.jsonl, line 1 is not"),
        "plot into what": (("plot", run, "--output=x.jpg"), 1, ".png or .svg"),
        "plot no folder": (("plot", run, f"--output={foreign}/x.png"), 1, "foreign"),
        "plot an unknown flag": (("plot", run, "--ouput=x.png"), 2, "ouput"),
        "compare nothing": (("compare", out), 1, "name what to compare"),
        "compare what is not there": (("compare", f"{tmp_path}/none", out), 1, "none"),
        "compare no result": (("compare", one, out), 1, "holds no evaluation.json"),
        "compare other data": (("compare", digits, mnist, out), 1, "digits and mnist"),
        "compare with whom": (
            ("compare", digits, "--baseline=b", out),
            1,
            "--baseline=b is none of a",
        ),
        "models twice": (("reproduce", "--models=plain8,plain8", out), 1, "each once"),
    }


def test_mistakes_end_in_one_line_and_write_nothing(
    binary, tmp_path, saved, result_of, run_of
):
    every = mistakes(tmp_path, saved, result_of, run_of)
    for name, (command, expected, message) in every.items():
        before = contents(tmp_path)
        code, _, err = binary(*command)
        assert code == expected, (name, err)
        lines = err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith(f"train.{command[0]}: "), (
            name,
            err,
        )
        assert message in lines[0], (name, err)
        assert contents(tmp_path) == before, name


def test_no_permission_and_no_space_are_one_line(binary, tmp_path, monkeypatch):
    def refuse(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("inres_tf.training.run_folder.write_text", refuse)
    out = tmp_path / "run"
    code, _, err = binary("train", "--model=plain8", f"--output_dir={out}")
    assert code == 1
    assert err == f"train.train: No space left on device: {out / 'config.json'}\n"


def test_tensorflows_own_refusal_is_one_line(binary, saved, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "disk full; 1 byte\nmore")

    monkeypatch.setattr("inres_tf.serving.saved_model.export", refuse)
    code, _, err = binary("export", f"--checkpoint={saved}", f"--output={tmp_path}/o")
    assert code == 1 and err == "train.export: disk full; 1 byte\n"


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_process_says_its_mistake_in_one_line():
    """TensorFlow's notices at its import must not stand before it."""
    run = process("train.evaluate", "--checkpoint=/nonexistent")
    out, err = run.communicate(timeout=120)
    assert run.returncode == 1 and out == ""
    assert err.count("\n") == 1 and err.startswith("train.evaluate: /nonexistent does")


def test_result_is_kept_where_the_terminal_knows_no_greek(saved, tmp_path):
    result = tmp_path / "result.json"
    arguments = ["--corruptions=none", "--attacks=fgsm", "--num_examples=9"]
    run = process(
        "train.evaluate",
        f"--checkpoint={saved}",
        f"--output={result}",
        *arguments,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0 and err == "" and "? = 8/255" in out
    assert json.loads(result.read_text())["num_examples"] == 9


def test_ctrl_c_saves_and_exits_cleanly(tmp_path):
    folder = tmp_path / "run"
    arguments = ["--model=in_resnet8", "--epochs=500", "--batch_size=64", "--verbose=0"]
    run = process("train.train", *arguments, f"--output_dir={folder}")
    deadline = time.time() + 120
    while not checkpoints.list_checkpoints(folder / "checkpoints"):
        assert run.poll() is None and time.time() < deadline, run.communicate()
        time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "interrupted: " in err and "the same command again" in err
    assert out == "" and len(err.splitlines()) == 1
    newest = checkpoints.list_checkpoints(folder / "checkpoints")[-1]
    assert str(newest) in err
    _, state = checkpoints.restore(newest)
    assert state["epoch"] == len(state["history"]) >= 1
