import os
import subprocess
import warnings

import pytest

from inres_tf import environment, training
from inres_tf.environment import EmulationWarning, warn_if_emulated
from inres_tf.training import run
from train import cli

_X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 {}\nbugs\t: \n"
_ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.fixture
def cpu_info(tmp_path, monkeypatch):
    """Function that replaces what the system says of the processor."""

    def replace(text):
        file = tmp_path / "cpuinfo"
        file.write_text(text)
        monkeypatch.setattr(environment, "_CPUINFO", file)

    return replace


def warns(precision, *devices):
    """Whether a precision is warned of; pytest's settings ignore this warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_emulated(precision, devices or ["/device:CPU:0"])
    return [warning.category for warning in caught] == [EmulationWarning]


@pytest.mark.parametrize(
    "precision, text",
    [("bfloat16", _X86), ("float16", _X86), ("bfloat16", _ARM), ("float16", _ARM)],
)
def test_a_precision_without_instructions(precision, text, cpu_info):
    cpu_info(text.format("avx512f bmi2"))
    with pytest.warns(EmulationWarning, match=f"no {precision} instructions"):
        warn_if_emulated(precision, ["/device:CPU:0", "/device:CPU:1"])
    assert warns(precision)
    assert not warns(precision, "/device:GPU:0")
    assert not warns(precision, "/device:CPU:0", "/job:w/device:TPU:0")
    assert not warns("float32")


@pytest.mark.parametrize(
    "precision, text, flag",
    [
        ("bfloat16", _X86, "avx512_bf16"),
        ("bfloat16", _X86, "amx_bf16"),
        ("float16", _X86, "avx512_fp16"),
        ("bfloat16", _ARM, "bf16"),
        ("float16", _ARM, "asimdhp"),
    ],
)
def test_a_precision_with_instructions(precision, text, flag, cpu_info):
    cpu_info(text.format(flag))
    assert not warns(precision)
    other = "float16" if precision == "bfloat16" else "bfloat16"
    assert warns(other)


def test_an_unknown_processor(cpu_info, tmp_path, monkeypatch):
    cpu_info("processor\t: 0\n")
    assert not warns("bfloat16")
    monkeypatch.setattr(environment, "_CPUINFO", tmp_path / "missing")
    assert not warns("bfloat16")
    assert environment.processor()


def test_the_name_of_the_processor(cpu_info):
    cpu_info(_X86)
    assert environment.processor() == "Some CPU"


def test_training_warns(cpu_info, tmp_path, monkeypatch):
    class Loading(Exception):
        pass

    def load(*_):
        raise Loading

    cpu_info(_X86)
    monkeypatch.setattr(run, "_load_data", load)
    config = training.TrainConfig(
        precision="bfloat16", output_dir=str(tmp_path / "run")
    )
    with pytest.warns(EmulationWarning), pytest.raises(Loading):
        training.train(config, None)


def test_programs_show_the_warning_once(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    cli._show_own_warnings("train.train")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for _ in range(2):
            warnings.warn("slow", EmulationWarning, stacklevel=1)
    assert capsys.readouterr().err == "train.train: warning: slow\n"


@pytest.mark.parametrize("chosen, expected", [(None, "1"), ("0", "0")])
def test_programs_use_onednn_unless_told_otherwise(chosen, expected, monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    if chosen:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", chosen)
    cli.import_tensorflow()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == expected


def test_the_revision_is_that_of_the_repository_that_holds_the_code(
    tmp_path, monkeypatch
):
    """Not that of one in which the code is only installed, in a folder it ignores."""

    def git(*arguments):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
        process = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=True
        )
        return process.stdout.strip()

    (tmp_path / "own.py").write_text("one")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "installed.py").write_text("one")
    git("init", "-q")
    git("add", "own.py")
    git("commit", "-q", "-m", "first")
    for file, revision in (
        ("own.py", git("rev-parse", "HEAD")),
        ("venv/installed.py", None),
    ):
        monkeypatch.setattr(environment, "__file__", str(tmp_path / file))
        assert environment.git_revision() == revision
    (tmp_path / "own.py").write_text("two")
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "own.py"))
    assert environment.git_revision().endswith("+changes")
