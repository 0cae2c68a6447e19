"""The wheel: its metadata, types, commands and data."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from train import programs

ROOT = pathlib.Path(__file__).parents[1]
pytest.importorskip("setuptools", minversion="77")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel that is built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("inres_tf", "zoo", "train"):
        ignore = shutil.ignore_patterns("__pycache__", "*.weights.h5")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / "zoo" / "weights" / "a.weights.h5").write_bytes(b"")
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run(
        [sys.executable, "-c", build],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=600,
    )
    (path,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def text(wheel, ending):
    (name,) = (name for name in wheel.namelist() if name.endswith(ending))
    return wheel.read(name).decode()


def test_packages_are_typed_and_have_their_data(wheel):
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in ("inres_tf", "zoo", "train")} <= names
    assert {"zoo/__init__.pyi", "inres_tf/data/__init__.pyi"} <= names
    assert {"zoo/weights/a.weights.h5", "zoo/weights/schema.json"} <= names
    templates = {str(p.relative_to(ROOT)) for p in ROOT.glob("inres_tf/**/templates/*")}
    assert templates and templates <= names
    assert "inres_tf/evaluation/result.schema.json" in names


def test_metadata(wheel):
    header = text(wheel, ".dist-info/METADATA").split("\n\n")[0].splitlines()
    for start in (
        "Author: ",
        "Summary: ",
        "Keywords: ",
        "Classifier: Typing :: Typed",
        "Classifier: Topic :: Scientific/Engineering",
        "License-Expression: Apache-2.0",
        "Project-URL: Paper, https://arxiv.org/",
        "Requires-Python: ",
    ):
        assert any(line.startswith(start) for line in header), start


def test_every_program_is_a_command(wheel):
    lines = text(wheel, ".dist-info/entry_points.txt").split("\n")
    expected = {
        f"{programs.command_of(p)} = train.programs:main" for p in programs.PROGRAMS
    }
    assert expected == {line for line in lines if "=" in line}
