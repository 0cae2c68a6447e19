"""The list of the programs, and their console commands."""

import os
import pathlib
import subprocess
import sys

import pytest

from train import programs

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def own(tmp_path):
    """Function that runs Python in a folder with a train.py of the user's."""

    def run(*arguments, train=""):
        (tmp_path / "train.py").write_text(train)
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


def test_every_program_is_listed_and_a_command():
    found = {
        f"{package}.{path.stem}"
        for package in ("train", "zoo")
        for path in (ROOT / package).glob("*.py")
        if "cli.run(" in path.read_text()
    }
    assert set(programs.PROGRAMS) == found
    assert len(programs.PROGRAMS) == len(found)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = dict.fromkeys(map(programs.command_of, found), "train.programs:main")
    assert project["scripts"] == commands
    assert {"inres-train", "inres-evaluate", "inres-zoo-verify"} <= set(commands)
    text = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
    for program in programs.PROGRAMS:
        command, summary = programs.command_of(program), programs.summary_of(program)
        assert f"| `{program}` | `{command}` | {summary} |" in text


@pytest.mark.parametrize("package", ["train", "zoo"])
def test_packages_list_their_programs(package, process):
    out, err = process(package).communicate(timeout=600)
    assert err == ""
    listed = [line.split(maxsplit=3)[2:] for line in out.splitlines() if "-m" in line]
    assert [name for name, _ in listed] == [
        name for name in programs.PROGRAMS if name.startswith(package)
    ]
    assert all(summary.endswith(".") for _, summary in listed)


@pytest.fixture
def command(tmp_path):
    """Function that writes a console command as pip does."""

    def write(name):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("from train.programs import main\nmain()\n")
        return path

    return write


def test_commands_work_beside_a_train_py(own, command):
    listing = command("inres-list")
    run = own(listing, "--models=cpl_tiny", train="raise ValueError")
    assert (run.returncode, run.stderr) == (0, "") and "| cpl_tiny" in run.stdout
    run = own(listing, "--models=cpl_tinny", train="raise ValueError")
    assert run.returncode == 1 and run.stderr.startswith("train.list: --models must")


def test_commands_find_attacks_in_the_working_folder(own, command, tmp_path):
    (tmp_path / "mine.py").write_text("print('imported')\n")
    flags = ("--attacks=mine:attack", "--checkpoint=none")
    run = own(command("inres-evaluate"), *flags)
    assert run.returncode == 1 and run.stdout == "imported\n"


def test_a_train_py_that_hides_the_programs_is_named(own, tmp_path):
    """Where our code runs at all: if that file imports it, or in `zoo.verify`."""
    run = own("-m", "train.evaluate", train="import zoo")
    assert run.returncode == 1 and run.stderr.count("\n") == 1
    assert run.stderr.startswith(f"{tmp_path}/train.py hides the package train")
    run = own("-m", "zoo.verify")
    assert run.returncode == 1 and run.stderr.count("\n") == 1
    assert f"{tmp_path}/train.py" in run.stderr and "inres-zoo-verify" in run.stderr
    run = own("train.py", train="import zoo; print(len(zoo.list_models()))")
    assert run.returncode == 0 and run.stdout.strip().isdigit()
