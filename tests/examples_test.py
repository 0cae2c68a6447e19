"""The examples in the documentation run, on generated images."""

import pathlib
import re
import shlex

import numpy as np
import PIL.Image
import pytest

import zoo

TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "examples.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.S)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Moves to a folder with the images that the examples need."""
    rng = np.random.default_rng(0)

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = np.resize(rng.integers(0, 256, 3), (40, 48, 3)).astype(np.uint8)
        PIL.Image.fromarray(colour).save(path)

    write(tmp_path / "photo.jpg")
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


def test_the_examples_run(pictures, binary, capsys):
    names, printed = {}, ""
    for kind, block in BLOCKS:
        if kind == "python":
            exec(block, names)
            printed += capsys.readouterr().out
            continue
        for program, arguments in commands(block):
            code, _, err = binary(program, *arguments)
            assert code == 0, (program, arguments, err)
    assert len(re.findall(rf"^({'|'.join(CLASSES)}): \d", printed, re.M)) == 3
    assert len(re.findall(r"^\w+: λ = [\d.]+$", printed, re.M)) == 9
    assert names["tuned"].output_shape == (None, 3)
    for file in (
        "predictions.json",
        "photos.json",
        "comparison/report.html",
        "runs/further/model.keras",
    ):
        assert pathlib.Path(file).is_file()
