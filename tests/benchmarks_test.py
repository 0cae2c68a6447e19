"""The benchmarks run, and measure what they claim."""

import os
import pathlib
import re
import runpy
import subprocess
import sys
from fnmatch import fnmatch

import numpy as np
import pytest

import zoo
from inres_tf import convert, corruptions

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
# Tiny settings, and the number of ratios with a goal in the document.
SCRIPTS = {
    "attack_speed": (
        [
            "--network=in_resnet8",
            "--images=20",
            "--few=2",
            "--rounds=1",
            "--steps=3",
            "--queries=10",
        ],
        {1},
    ),
    "corruption_speed": (["--images=20", "--rounds=1"], {1}),
    "zoo_costs": (
        [
            "--network=in_resnet8",
            "--networks=in_resnet8",
            "--reference=ResNet50V2",
            "--side=32",
            "--batch_size=2",
            "--rounds=1",
        ],
        {1 + 3 + 4},
    ),
    # Two are relative to diffrax, if it is installed.
    "solver_speed": (
        ["--batch_size=2", "--side=4", "--channels=2", "--rounds=1", "--steps=2"],
        {4, 4 + 2},
    ),
    # Four are relative to PyTorch, if it is installed.
    "training_speed": (
        ["--depth=8", "--batch_size=4", "--rounds=1", "--epochs=2"],
        {3, 4 + 3},
    ),
}


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS)
def test_benchmarks_run(script, tmp_path):
    options, counts = SCRIPTS[script]
    output = tmp_path / "benchmarks.md"
    path = BENCHMARKS / f"{script}.py"
    subprocess.run(
        [sys.executable, str(path), *options, f"--output={output}"],
        cwd=tmp_path,
        check=True,
        timeout=600,
    )
    verdicts = re.findall(
        r"([\d.]+) \((met|missed): at (most|least) ([\d.]+)\)", output.read_text()
    )
    assert len(verdicts) in counts
    for value, word, bound, goal in verdicts:
        over, under = float(value) >= float(goal), float(value) <= float(goal)
        assert (word == "met") == (over if bound == "least" else under)


def test_verdicts(benchmarks):
    import measure

    assert measure.ratios([1.0, 2.0, 6.0], [2.0, 2.0, 2.0]) == [0.5, 1.0, 3.0]
    assert measure.ratios([1.0], [2.0], scale=3.0) == [1.5]
    values = [1.0, 2.0, 3.0, 9.0, 10.0]
    assert measure.verdict(values) == "3.000 2.00-9.00"
    assert measure.verdict(values, 3.0) == "3.000 (met: at most 3) 2.00-9.00"
    assert "missed: at most 2.9" in measure.verdict(values, 2.9)
    assert "missed: at least 3.1" in measure.verdict(values, 3.1, at_least=True)
    assert "met: at least 3)" in measure.verdict(values, 3, at_least=True)


def test_measurements_alternate(benchmarks):
    import measure

    calls = []
    functions = {name: lambda n=name: calls.append(n) for name in "ab"}
    seconds = measure.compare(functions, 3, "test")
    assert calls[:2] == ["a", "b"]  # the warm-up
    rounds = [set(calls[i : i + 2]) for i in range(2, 8, 2)]
    assert len(calls) == 8 and rounds == [{"a", "b"}] * 3
    assert all(len(values) == 3 for values in seconds.values())


def test_contenders_take_turns_in_their_own_processes(benchmarks, tmp_path):
    import contenders

    log = tmp_path / "log"
    code = f"""
import os, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import contenders
def run():
    with open({str(log)!r}, "a") as file:
        words = sys.argv[1], os.getpid(), os.environ.get("MALLOC_TOP_PAD_"), len(
            {{"keras", "tensorflow", "torch"}} & set(sys.modules)
        )
        print(*words, file=file)
contenders.answer(run)
"""
    commands = {name: ["-c", code, name] for name in "ab"}
    broken = {"broken": ["-c", "raise ValueError('no compiler')"]}
    seconds = contenders.compare(commands | broken, 3, "test", optional=["broken"])
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [line[0] for line in lines[:2]] == ["a", "b"]  # the warm-up
    assert [{line[0] for line in lines[i : i + 2]} for i in (2, 4, 6)] == [
        {"a", "b"}
    ] * 3
    assert (
        len(lines) == 8 and len({(name, process) for name, process, *_ in lines}) == 2
    )
    assert {tuple(line[2:]) for line in lines} == {(str(2**26), "0")}
    with pytest.raises(RuntimeError, match=r"broken ended: (.|\n)*no compiler"):
        contenders.compare(broken, 3, "test")
    once = ["-c", "input(); print(1.0)"]
    with pytest.raises(RuntimeError, match="once ended"):
        contenders.compare({"once": once}, 3, "test", optional=["once"])


@pytest.mark.parametrize("damped", [True, False], ids=["in_resnet", "resnet"])
def test_pytorch_network_matches_the_zoo(damped, benchmarks, rng):
    torch = pytest.importorskip("torch")
    import torch_network

    torch_model = torch_network.InResNet(20, damped)
    with torch.no_grad():
        for name, tensor in torch_model.state_dict().items():
            if name.endswith(("weight", "bias", "mean", "var")) and tensor.ndim == 1:
                tensor.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, tensor.shape)))
    model = zoo.get_model(
        "in_resnet20" if damped else "resnet20", classifier_activation=None
    )
    convert.load_official_state(model, torch_model.state_dict())
    images = rng.integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    for training in (False, True):
        with torch.no_grad():
            expected = torch_model.train(training)(batch).numpy()
        scale = np.abs(expected).max()
        logits = model(images, training=training)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("channels", [1, 3])
def test_figure_shows_each_corruption(channels):
    script = runpy.run_path(str(BENCHMARKS / "corruption_figure.py"))
    image = script["scene"]()[..., :channels]
    figure = script["figure"](image, severity=2)
    shown = {ax.get_title(): ax.images[0] for ax in figure.axes if ax.images}
    np.testing.assert_array_equal(shown.pop("original").get_array(), image.squeeze())
    assert list(shown) == list(corruptions.CORRUPTIONS)
    for name, panel in shown.items():
        expected = corruptions.corrupt(image[None], name, 2)[0].squeeze()
        np.testing.assert_array_equal(panel.get_array(), expected)


MUTANTS = tomllib.loads((BENCHMARKS / "mutants.toml").read_text())


@pytest.mark.parametrize("module", MUTANTS["modules"])
def test_mutated_modules_have_tests(module):
    assert (ROOT / module).is_file()
    for tests in MUTANTS["modules"][module]:
        path, *name = tests.split("::")
        text = (ROOT / path).read_text()
        assert path.endswith("_test.py") and all(f"def {n}(" in text for n in name)


@pytest.mark.parametrize("entry", MUTANTS["equivalent"], ids=lambda e: e["diff"][0])
def test_equivalent_mutants_are_of_existing_lines(entry):
    modules = [name for name in MUTANTS["modules"] if fnmatch(name, entry["module"])]
    texts = [" ".join((ROOT / name).read_text().split()) for name in modules]
    removed = [line[2:] for line in entry["diff"] if line.startswith("-")]
    assert removed and all(any(line in text for text in texts) for line in removed)


def test_mutants_are_of_lines_that_run(benchmarks, tmp_path):
    pytest.importorskip("cosmic_ray")
    import mutants

    path = tmp_path / "module.py"
    path.write_text("""
if TYPE_CHECKING:
    import keras
x: int | None = 1
def f(a: int | None = 2) -> int | None:
    return a | 3
""")
    lines = path.read_text().splitlines()
    ignored = [
        lines[first[0] - 1][first[1] : last[1] if first[0] == last[0] else None]
        for first, last in mutants.ignored_lines(path)
    ]
    assert ignored.count("int | None") == 3 and "if TYPE_CHECKING:" in ignored
    assert len(ignored) == 4


def test_libraries_start_in_silence(benchmarks, capfd):
    pytest.importorskip("cosmic_ray")
    import mutants

    with mutants.without_stderr():
        os.write(2, b"oneDNN custom operations are on")
    os.write(2, b"an error")
    assert capfd.readouterr().err == "an error"


def test_changes_of_a_mutant_are_recognised(benchmarks, monkeypatch):
    pytest.importorskip("cosmic_ray")
    import mutants

    diff = "--- a\n+++ b\n@@ -1,2 +1,2 @@\n def f():\n-    return  1\n+    return  2\n"
    entry = {"module": "x/*.py", "diff": ["- return 1", "+ return 2"], "reason": "why"}
    monkeypatch.setitem(mutants.CONFIG, "equivalent", [entry])
    assert mutants.reason("x/y.py", diff) == "why"
    assert mutants.reason("y/y.py", diff) is None
    assert mutants.reason("x/y.py", diff.replace("2\n", "3\n")) is None
