"""The recipes of CONTRIBUTING.md, followed on a copy of the package."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = ("Add a model", "Add an attack", "Add a damping")

# Run in the copy, together with the tests that the recipes add.
CHECKS = """
import pathlib
import runpy

import keras
import numpy as np

import inres_tf
import zoo
from inres_tf import evaluation
from inres_tf.layers import DampedAdd

HERE = pathlib.Path(__file__).parents[1]


def test_the_copy_is_what_is_tested():
    for package in (inres_tf, zoo):
        assert pathlib.Path(package.__file__).is_relative_to(HERE)


def test_the_new_model_builds():
    model = zoo.get_model("in_wide_resnet16_4", input_shape=(8, 8, 1), classes=3)
    assert model.output_shape == (None, 3)
    assert zoo.InWideResNet16_4.__name__ in zoo.__all__


def test_the_new_attack_runs_in_an_evaluation(trained, digits):
    config = evaluation.EvaluationConfig(
        attacks=("random_corners",),
        eps=(48.0,),
        queries=40,
        corruptions=(),
        num_examples=40,
        check_examples=4,
    )
    result = evaluation.evaluate_model(trained, digits, config, progress=False)
    (row,) = result["attacks"]
    assert row["name"] == "random_corners" and row["steps"] == 40
    assert row["accuracy"] < result["clean"]["accuracy"]


def test_the_limits_of_the_new_damping(rng):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)

    def damped(rate):
        k = keras.initializers.Constant(rate)
        return np.asarray(DampedAdd("implicit", k)([shortcut, branch]))

    np.testing.assert_array_equal(damped(0.0), shortcut + branch)
    np.testing.assert_allclose(damped(1.0), (shortcut + branch) / 2, rtol=1e-6)
    assert np.abs(damped(1e6)).max() < 1e-4
    model = zoo.InResNet20(input_shape=(8, 8, 1), damping="implicit")
    resnet = zoo.ResNet20(input_shape=(8, 8, 1))
    inres_tf.layers.set_damping_rates(model, 0.0)
    weights = [v.numpy() for v in model.weights if v.name != "k"]
    resnet.set_weights(weights)
    pixels = rng.integers(0, 256, (4, 8, 8, 1))
    np.testing.assert_allclose(model(pixels), resnet(pixels), rtol=1e-5, atol=1e-6)


def test_the_stubs_are_written():
    runpy.run_module("zoo._stubs", run_name="__main__")
    stubs = (HERE / "zoo" / "__init__.pyi").read_text()
    assert "def InWideResNet16_4(" in stubs and '"implicit"]' in stubs
"""


def code_blocks(recipe):
    """The code blocks of a recipe: (file, where, line, code)."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {recipe}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", section, re.M | re.S)
    for block in blocks:
        head, code = textwrap.dedent(block).split("\n", 1)
        place = r"# (\S+), (new file|(before|after|instead of): (.+))"
        file, new, where, line = re.fullmatch(place, head).groups()
        yield file, where or new, line, code


def insert(path, where, line, code):
    """Puts a code block where its first line says."""
    if where == "new file":
        assert not path.exists()
        path.write_text(code, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (number,) = (i for i, found in enumerate(lines) if line in found)
    start = number + (where == "after")
    lines[start : number + (where != "before")] = [code]
    path.write_text("".join(lines), encoding="utf-8")


def test_insert(tmp_path):
    path = tmp_path / "a.py"
    insert(path, "new file", None, "a\nb\n")
    insert(path, "before", "b", "1\n")
    insert(path, "after", "b", "2\n")
    insert(path, "instead of", "a", "3\n")
    assert path.read_text() == "3\n1\nb\n2\n"
    with pytest.raises(ValueError, match="unpack"):
        insert(path, "after", "c", "4\n")


@pytest.mark.long
def test_the_recipes_work(tmp_path):
    for package in ("inres_tf", "zoo", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.npz")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    tests = ["tests/recipes_test.py"]
    (tmp_path / tests[0]).write_text(CHECKS, encoding="utf-8")
    for recipe in RECIPES:
        files = set()
        for file, where, line, code in code_blocks(recipe):
            insert(tmp_path / file, where, line, code)
            files.add(file)
        tested = [file for file in files if file.startswith("tests/")]
        assert tested and len(files) > len(tested)
        tests += tested
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stdout + process.stderr
