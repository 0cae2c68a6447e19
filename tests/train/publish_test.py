"""Trained weights become a shipped file with its card."""

import json
import pathlib

import h5py
import jsonschema
import numpy as np
import pytest

import zoo
from inres_tf.training.run_folder import describe
from zoo import cards

EVALUATE = ("--dataset=digits", "--attacks=pgd", "--eps=8", "--steps=2")
FEW = ("--num_examples=40", "--check_examples=2", "--corruptions=none")


@pytest.fixture
def run(trained, tmp_path):
    """Folder of a run with the shared trained network."""
    folder = tmp_path / "run"
    folder.mkdir()
    flags = {"model": "in_resnet8", "dataset": "digits", "epochs": 4, "nesterov": True}
    flags |= {"output_dir": str(folder), "label_smoothing": 0.0}
    (folder / "config.json").write_text(json.dumps(describe(flags, 0)))
    trained.save(folder / "model.keras")
    return folder


@pytest.mark.parametrize("half", [False, True])
def test_publish(binary, run, tmp_path, monkeypatch, digits, trained, half):
    result = tmp_path / "result.json"
    assert binary("evaluate", f"--checkpoint={run}", f"--output={result}", *EVALUATE,
                  *FEW)[0] == 0  # fmt: skip
    copy = tmp_path / "copy.json"
    copy.write_text(result.read_text())
    folder = tmp_path / "shelf"
    code, out, err = binary(
        "publish",
        f"--checkpoint={run}",
        "--weights=digits",
        f"--results={result},{copy}",
        f"--output_dir={folder}",
        f"--half={half}",
    )
    assert code == 0, err
    monkeypatch.setattr(cards, "FOLDER", folder)
    card = zoo.card("in_resnet8", "digits")
    jsonschema.validate(card, json.loads(cards.SCHEMA.read_text(encoding="utf-8")))
    command = "python -m train.train --model=in_resnet8 --epochs=4 --nesterov"
    assert card["training"]["command"] == f"{command} --label_smoothing=0.0"
    evaluated = json.loads(result.read_text())
    rows = {row["column"]: row for row in card["summary"]}
    assert len(rows) == len(card["summary"])
    assert rows["clean"]["accuracy"] == evaluated["clean"]["accuracy"]
    assert rows["pgd 8"]["accuracy"] == evaluated["attacks"][0]["accuracy"]
    settings = "--attacks=pgd --eps=8.0 --steps=2 --corruptions=none"
    assert card["evaluations"][0]["command"] == (
        f"python -m train.evaluate --model=in_resnet8 --weights=digits {settings} "
        "--num_examples=40 --check_examples=2"
    )
    assert "samples" in evaluated and "samples" not in card["evaluations"][0]

    assert card["fixed_size"] is False
    code, out, _ = binary("verify", package="zoo")
    assert code == 0 and out.count("| agrees") == 1  # the results are of one accuracy
    wrong = card["evaluations"].pop()
    card["evaluations"] = [wrong]
    wrong["clean"]["accuracy"] -= 0.5
    code, out, _ = binary("verify", "--weights=digits", package="zoo")
    assert code == 1 and "| differs" in out
    wrong["fingerprint"] = "0"
    assert "| other images" in binary("verify", package="zoo")[1]
    code, _, err = binary("verify", "--models=resnet20", package="zoo")
    assert (code, err) == (
        1,
        "zoo.verify: no shipped weights match --models and --weights\n",
    )

    model = zoo.InResNet8(weights="digits", input_shape=digits.shape)
    images = digits.test.images[:100].astype("float32")
    tolerance = 5e-3 if half else 0
    np.testing.assert_allclose(model(images), trained(images), atol=tolerance)
    with h5py.File(folder / card["file"]) as file:
        kernel = file["layers/conv2d/vars/0"]
        assert kernel.dtype == card["dtype"] == ("float16" if half else "float32")


def test_mistakes(binary, run, tmp_path):
    folder = tmp_path / "shelf"
    given = {"checkpoint": run, "weights": "digits", "results": "missing.json"}
    for missing in given:
        flags = [f"--{k}={v}" for k, v in given.items() if k != missing]
        code, _, err = binary("publish", *flags, f"--output_dir={folder}")
        assert (code, err) == (
            1,
            f"train.publish: --{missing} is missing; see --help\n",
        )
    other = {"model": "resnet8", "dataset": "digits", "num_examples": 4, "checks": []}
    other |= {"protocol": "standard", "clean": {"accuracy": 1.0}, "class_names": []}
    (tmp_path / "other.json").write_text(json.dumps(other))
    flags = [f"--{k}={v}" for k, v in given.items() if k != "results"]
    flags += [f"--results={tmp_path / 'other.json'}", f"--output_dir={folder}"]
    code, _, err = binary("publish", *flags)
    assert code == 1 and "other.json is a result of resnet8, but --checkpoint=" in err
    (run / "config.json").unlink()
    flags = [f"--{k}={v}" for k, v in given.items()]
    code, _, err = binary("publish", *flags, f"--output_dir={folder}")
    assert code == 1 and "--checkpoint must be a run's folder" in err
    assert not pathlib.Path(folder).exists()
