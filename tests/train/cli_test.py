"""All binaries: their help, and one line for every mistake."""

import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import threading

import PIL.Image
import pytest
import tensorflow as tf

from inres_tf.analysis import ANALYSES
from train import _help, programs

ROOT = pathlib.Path(__file__).parents[2]
# Some flags of each binary.
FLAGS = {
    "analyze": ("checkpoint", "landscape", "rates", "output_dir"),
    "train": ("model", "resume", "learning_rate"),
    "evaluate": ("checkpoint", "protocol", "output"),
    "export": ("checkpoint", "overwrite"),
    "convert": ("official_checkpoint", "output"),
    "list": ("models", "json", "shipped"),
    "plot": ("output",),
    "predict": ("checkpoint", "top", "output"),
    "publish": ("checkpoint", "model", "weights", "results", "half"),
    "compare": ("baseline", "output_dir", "title", "allow_different"),
    "reproduce": ("models", "seeds", "eps", "weight_decay"),
    "verify": ("checkpoint", "model", "weights", "results", "radii", "verbose"),
}


def test_every_binary_is_tested():
    binaries = {
        path.stem
        for path in (ROOT / "train").glob("*.py")
        if "cli.run(" in path.read_text()
    }
    assert set(FLAGS) == binaries


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        *((f"train.{name}", flags) for name, flags in FLAGS.items()),
        ("zoo.verify", ("data_dir", "models", "tolerance")),
    ],
)
def test_help(program, flags, process):
    """Help explains the flags and imports nothing that takes long."""
    env = os.environ | {"COLUMNS": "80"}
    run = process(program, "--help", options=("-X", "importtime"), env=env)
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0
    for flag in flags:
        assert re.search(rf"--(\[no\])?{flag}:\s+\S", out), flag
    # A paragraph, two examples, and flags under headings.
    top, examples = out.split("examples:\n")
    examples, rest = examples.split("\n\n", 1)
    assert len(top.strip().split("\n\n")) == 2
    assert len(re.findall(rf"^  python -m {program} ", examples, re.M)) == 2
    headings = re.findall(r"^([a-z ]+):$", rest, re.M)
    assert headings and "other" not in headings
    command = programs.command_of(program)
    assert f"The command {command} does the same" in " ".join(rest.split())
    assert max(map(len, f"{top}{rest}".splitlines())) <= 80
    lines = err.splitlines()
    assert all(line.startswith("import time:") for line in lines), err
    modules = {line.rpartition("|")[2].strip() for line in lines}
    assert "absl.flags" in modules
    packages = {module.split(".")[0] for module in modules}
    assert not packages & {"tensorflow", "keras"}
    assert not modules & {"scipy.ndimage", "scipy.stats"}


@pytest.mark.parametrize("flag", ["-h", "--h", "-?", "--helpshort", "--helpfull"])
def test_other_flags_for_help(flag, binary):
    code, out, err = binary("export", flag)
    assert (code, err) == (0, "") and "--[no]overwrite: " in out
    assert ("\nabsl:\n" in out and "--verbosity:" in out) == (flag == "--helpfull")
    assert binary("export", "--nohelp")[0] == 1  # --output is missing


def test_help_shows_the_limits_of_each_flag_once(binary, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = binary("train", "--help")
    assert max(map(len, out.split("model:")[1].splitlines())) <= 100
    entries = {}
    for line in out.splitlines():
        if match := re.match(r"  --(?:\[no\])?(\w+): +(.*)", line):
            name = match[1]
            entries[name] = match[2]
        elif line.startswith(" " * 8) and entries:
            entries[name] += " " + line.strip()
    assert entries["adversary_steps"].endswith("From 1 to 1000000. Default: 10.")
    assert entries["momentum"] == "Momentum of SGD. In [0, 1). Default: 0.9."
    assert entries["objective"].startswith("Loss to minimise. clean: cross-entropy;")
    assert entries["precision"].endswith(
        "One of float32, bfloat16, float16. Default: float32."
    )
    assert entries["resume"].endswith(" Default: on.")
    assert entries["data_dir"] == "Folder of the prepared TensorFlow Datasets."
    for text in entries.values():
        assert text.count("Default: ") <= 1 and "<" not in text
    _, out, _ = binary("analyze", "--help")
    assert "extra, all; `none` for none. Default: all." in " ".join(out.split())
    assert "Default: 0,0.5,1." in out


def test_help_into_a_closed_pipe_is_silent(process):
    run = process("train.train", "--help")
    run.stdout.close()
    run.stdout = None
    assert run.communicate(timeout=600) == (None, "") and run.returncode == 0


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("modle", ["model"]),
        ("learning-rate", ["learning_rate"]),
        ("learningrate", ["learning_rate"]),
        ("lr", ["learning_rate"]),
        ("Dataset", ["dataset"]),
        ("batch", ["batch_size"]),
        ("model_name", ["model"]),
        ("zzz", []),
    ],
)
def test_unknown_flags_suggest_near_ones(wrong, right):
    known = ["model", "dataset", "data_dir", "batch_size", "learning_rate", "epochs"]
    assert _help.near(wrong, known)[: len(right) or 1] == right


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def mistakes(tmp_path, saved, result_of, run_of):
    """Dict of (command, exit code, part of the message)."""
    one_class = tmp_path / "one"
    (one_class / "cat").mkdir(parents=True)
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
        "missing dataset": (
            ("train", "--dataset=cifar100", f"--data_dir={one_class}", out),
            1,
            "'cifar100' is not in --data_dir",
        ),
        "missing folder": (
            ("train", f"--dataset=folder:{tmp_path}/none", out),
            1,
            "none is not a folder",
        ),
        "one class": (("train", f"--dataset=folder:{one_class}", out), 1, "at least 2"),
        "unreadable image": (
            ("train", f"--dataset=folder:{broken}", out),
            1,
            "dog/1.png cannot be read",
        ),
        "another run's folder": (
            ("train", "--model=in_resnet8", f"--output_dir={other}"),
            1,
            "--model",
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
        "eps not a number": (
            ("evaluate", f"--checkpoint={saved}", "--eps=a"),
            1,
            "--eps must be numbers separated by commas, such as 2,8: could not conv",
        ),
        "output below a file": (
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
        "analyze without output": (
            ("analyze", f"--checkpoint={saved}"),
            1,
            "--output_dir",
        ),
        "analyze nothing": (
            ("analyze", out, *(f"--no{name}" for name in ANALYSES)),
            1,
            "--landscape, --lyapunov",
        ),
        "even grid": (("analyze", out, "--grid=10"), 1, "--grid must be odd"),
        "too few images": (
            ("analyze", f"--checkpoint={saved}", out, "--num_examples=9999"),
            1,
            "more than the 359 test images",
        ),
        "output in /proc": (
            ("evaluate", f"--checkpoint={saved}", "--output=/proc/x.json"),
            1,
            "/proc/x.json cannot be written",
        ),
        "train in /proc": (
            ("train", "--output_dir=/proc/x"),
            1,
            "no file can be created in /proc",
        ),
        "export to /proc": (
            ("export", f"--checkpoint={saved}", "--output=/proc/x"),
            1,
            "no file can be created in /proc",
        ),
        "convert a missing file": (
            ("convert", "--official_checkpoint=none.pt", "--output=x.keras"),
            1,
            "--official_checkpoint=none.pt is not a file",
        ),
        "a missing module": (
            ("evaluate", f"--checkpoint={saved}", "--import=no_such_code"),
            1,
            "--import=no_such_code fails",
        ),
        "neither checkpoint nor model": (("evaluate",), 1, "--checkpoint"),
        "model without weights": (("evaluate", "--model=plain8"), 1, "--weights"),
        "wrong image size": (
            ("evaluate", f"--checkpoint={saved}", "--image_size=9", "--attacks=none"),
            1,
            "takes images of 8x8x1",
        ),
        "unknown flag": (
            ("train", "--modle=plain8"),
            2,
            "unknown flag --modle (did you mean --model?); see --help",
        ),
        "wrong type": (("train", "--epochs=many"), 2, "many"),
        "unexpected argument": (("train", "plain8"), 2, "'plain8'"),
        "wrong choice": (("train", "--strategy=horovod"), 2, "mirrored"),
        "export without output": (("export", f"--checkpoint={saved}"), 1, "--output"),
        "convert without checkpoint": (
            ("convert", "--output=x.keras"),
            1,
            "--official_checkpoint",
        ),
        "convert to another format": (
            ("convert", "--official_checkpoint=x", "--output=x.pt"),
            1,
            ".weights.h5",
        ),
        "plot a missing folder": (("plot", f"{tmp_path}/none"), 1, "does not exist"),
        "plot a folder without runs": (
            ("plot", run, one_class),
            1,
            "one",
        ),
        "plot another file": (("plot", foreign), 1, "foreign.jsonl, line 1 is not"),
        "plot to another format": (("plot", run, "--output=x.jpg"), 1, ".png or .svg"),
        "plot below a file": (("plot", run, f"--output={foreign}/x.png"), 1, "foreign"),
        "plot an unknown flag": (("plot", run, "--ouput=x.png"), 2, "ouput"),
        "compare nothing": (("compare", out), 1, "name at least one RUN"),
        "compare a missing folder": (("compare", f"{tmp_path}/none", out), 1, "none"),
        "compare a folder without results": (
            ("compare", one_class, out),
            1,
            "holds no evaluation.json",
        ),
        "compare different datasets": (
            ("compare", digits, mnist, out),
            1,
            "digits and mnist",
        ),
        "compare with an unknown baseline": (
            ("compare", digits, "--baseline=b", out),
            1,
            "--baseline",
        ),
        "models twice": (("reproduce", "--models=plain8,plain8", out), 1, "each once"),
    }


def test_mistakes_are_reported_in_one_line_and_write_nothing(
    binary, tmp_path, saved, result_of, run_of
):
    failures = []
    for name, case in mistakes(tmp_path, saved, result_of, run_of).items():
        command, expected, message = case
        before = contents(tmp_path)
        code, _, err = binary(*command)
        is_one_line = err.count("\n") == 1 and err.startswith(f"train.{command[0]}: ")
        if code != expected or not is_one_line or message not in err:
            failures.append((name, code, err))
        assert contents(tmp_path) == before, name
    assert not failures


def test_errors_of_the_file_system_are_one_line(binary, tmp_path, monkeypatch):
    def write_json(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("inres_tf.training.run_folder.write_json", write_json)
    out = tmp_path / "run"
    code, _, err = binary("train", "--model=plain8", f"--output_dir={out}")
    assert code == 1
    assert err == f"train.train: No space left on device: {out / 'config.json'}\n"


def test_errors_of_tensorflow_are_one_line(binary, saved, tmp_path, monkeypatch):
    def export(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "disk full; 1 byte\nmore")

    monkeypatch.setattr("inres_tf.serving.export", export)
    code, _, err = binary("export", f"--checkpoint={saved}", f"--output={tmp_path}/o")
    assert code == 1 and err == "train.export: disk full; 1 byte\n"


def test_start_up_messages_of_tensorflow_are_hidden(process):
    run = process("train.evaluate", "--checkpoint=/nonexistent")
    out, err = run.communicate(timeout=600)
    assert run.returncode == 1 and out == ""
    assert err.count("\n") == 1 and err.startswith("train.evaluate: /nonexistent does")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--dataset=folder:~/none", "--output_dir=~/new"),
        ("train", "--dataset=cifar100", "--data_dir=~/none", "--output_dir=~/new"),
        ("evaluate", "--checkpoint=~/none"),
        ("evaluate", "--model=resnet8", "--weights=~/none"),
        ("export", "--checkpoint=~/none", "--output=~/new"),
        ("analyze", "--checkpoint=~/none", "--output_dir=~/new"),
        ("verify", "--checkpoint=~/none"),
        ("verify", "--checkpoint=x", "--results=~/none"),
        ("plot", "~/none"),
        ("publish", "--checkpoint=~/none", "--weights=a", "--results=~/none"),
        ("compare", "~/none", "--output_dir=~/new"),
        ("compare", "name=~/none", "--output_dir=~/new"),
        ("reproduce", "--dataset=folder:~/none", "--output_dir=~/new"),
    ],
)
def test_a_tilde_is_the_home(arguments, binary, tmp_path, monkeypatch):
    home = tmp_path / "ada"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    code, _, err = binary(*arguments)
    assert code == 1 and f"{home}/none" in err and "~" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["ada"]


def test_a_result_can_go_into_a_pipe(binary, saved, tmp_path):
    pipe, read = tmp_path / "result.json", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(json.loads(pipe.read_text())))
    reader.start()
    quick = ["--attacks=none", "--corruptions=none", "--num_examples=9"]
    code, _, err = binary(
        "evaluate", f"--checkpoint={saved}", f"--output={pipe}", *quick
    )
    if code:
        pipe.open("w").close()
    reader.join()
    assert (code, err) == (0, "") and read[0]["num_examples"] == 9
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"saved", "result.json"}


def test_outputs_do_not_replace_inputs(binary, saved, tmp_path):
    before = saved.read_bytes()
    flags = (f"--checkpoint={saved}", f"--output={saved}")
    for program, rest in (("evaluate", ()), ("predict", (str(saved),))):
        code, _, err = binary(program, *flags, *rest)
        assert code == 1 and "exists and is not a result of this program" in err
    assert saved.read_bytes() == before


def test_a_closed_pipe_ends_a_program_quietly():
    # `true` has ended long before anything is written.
    command = f"{sys.executable} -m train.list | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_help_without_docstrings():
    command = [sys.executable, "-OO", "-m", "train.list", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "--[no]shipped" in done.stdout
