"""The examples in the documentation run, on generated images."""

import json
import pathlib
import re
import shlex

import numpy as np
import PIL.Image
import pytest

import zoo

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def blocks(name):
    """Language and text of the code blocks of a document."""
    return re.findall(r"```(\w+)\n(.*?)```", (DOCS / name).read_text("utf-8"), re.S)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Moves to a folder with the images that the examples need."""
    rng = np.random.default_rng(0)

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = np.resize(rng.integers(0, 256, 3), (40, 48, 3)).astype(np.uint8)
        PIL.Image.fromarray(colour).save(path)

    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    noise = rng.integers(0, 256, (60, 48, 3)).astype(np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "photo.jpg", exif=turned)
    folders = {"photos": ("cats", "dogs", "owls"), "things": CLASSES}
    for folder, classes in folders.items():
        for name in classes:
            for number in range(10 if folder == "photos" else 4):
                write(tmp_path / folder / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)


CLASSES = zoo.card("in_resnet20", "cifar10")["classes"]


def commands(block):
    """The programs and arguments of a block of commands."""
    for line in block.replace("\\\n", " ").splitlines():
        python, module, program, *arguments = shlex.split(line)
        assert (python, module) == ("python", "-m")
        yield program.removeprefix("train."), arguments


@pytest.fixture
def run(pictures, binary, capsys):
    """Runs the blocks of a document; returns the variables and what Python printed."""

    def of(name):
        names, printed = {}, ""
        for kind, block in blocks(name):
            if kind == "python":
                exec(block, names)
                printed += capsys.readouterr().out
                continue
            for program, arguments in commands(block):
                code, _, err = binary(program, *arguments)
                assert code == 0, (program, arguments, err)
        return names, printed

    return of


@pytest.mark.long
def test_the_examples_run(run):
    names, printed = run("examples.md")
    assert len(re.findall(rf"^({'|'.join(CLASSES)}): \d", printed, re.M)) == 3
    assert len(re.findall(r"^\w+: λ = [\d.]+$", printed, re.M)) == 9
    # The pixels of the first example are those of train.predict.
    result = json.loads(pathlib.Path("predictions.json").read_text())
    top = result["predictions"][0]
    assert top["image"] == "photo.jpg"
    probability = names["probabilities"][0, top["class_id"]]
    assert probability == pytest.approx(top["probability"], abs=1e-4)
    assert names["tuned"].output_shape == (None, 3)
    for file in (
        "predictions.json",
        "photos.json",
        "comparison/report.html",
        "runs/further/model.keras",
    ):
        assert pathlib.Path(file).is_file()


@pytest.mark.long
def test_the_tutorial_runs(run):
    names, printed = run("tutorial.md")
    first, counts, answer = printed.splitlines()
    assert first == "('cats', 'dogs', 'owls') (32, 32, 3)"
    assert sum(map(int, re.findall(r"\d+", counts))) == 30
    name, probability = answer.split()
    assert name in names["photos"].class_names and 1 / 3 <= float(probability) <= 1
    predictions = json.loads(pathlib.Path("predictions.json").read_text())[
        "predictions"
    ]
    assert [len(p["top"]) for p in predictions] == [2] * 11  # the photo and ten owls
    assert predictions[0]["image"] == "photo.jpg" and predictions[0]["class"] == name
    assert float(probability) == pytest.approx(predictions[0]["probability"], abs=1e-4)
    for file in ("curves.png", "comparison/report.html", "served/1/saved_model.pb"):
        assert pathlib.Path(file).is_file()
