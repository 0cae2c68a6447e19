"""Trained weights become a shipped file with its card."""

import json
import pathlib
import re

import h5py
import jsonschema
import numpy as np
import pytest

import zoo
from inres_tf.digests import of_arrays
from inres_tf.training.run_folder import describe
from zoo import cards

EVALUATE = ("--dataset=digits", "--attacks=pgd", "--eps=8", "--steps=2")
IMAGES = {"number": 1438, "fingerprint": "0123456789abcdef"}
FEW = ("--num_examples=40", "--check_examples=2", "--corruptions=none")


@pytest.fixture
def run(trained, tmp_path):
    """Folder of a run with the shared trained network."""
    folder = tmp_path / "run"
    folder.mkdir()
    flags = {"model": "in_resnet8", "dataset": "digits", "epochs": 4, "nesterov": True}
    flags |= {"output_dir": str(folder), "label_smoothing": 0.0}
    config = describe(flags, 0) | {"images": {"training": IMAGES, "validation": {}}}
    (folder / "config.json").write_text(json.dumps(config))
    trained.save(folder / "model.keras")
    return folder


@pytest.mark.parametrize("half", [True, pytest.param(False, marks=pytest.mark.long)])
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
    assert card["training"]["images"] == IMAGES
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
    shelf = cards.shipped_cards()["in_resnet8", "digits"]
    (wrong,) = shelf["evaluations"] = shelf["evaluations"][:1]
    wrong["clean"]["accuracy"] -= 0.5
    code, out, _ = binary("verify", "--weights=digits", package="zoo")
    assert code == 1 and "| differs" in out
    wrong["fingerprint"] = "0"
    assert "| other images" in binary("verify", package="zoo")[1]
    code, _, err = binary("verify", "--models=in_resnet8,in_resnet9", package="zoo")
    assert code == 1 and err.startswith(
        "zoo.verify: --models: there are no shipped weights of 'in_resnet9': did you "
        "mean 'in_resnet8'? known: in_resnet8"
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


def publish(binary, run, file, folder, *flags):
    """Publishes the run with a result; returns the error."""
    given = f"--checkpoint={run}", "--weights=digits", f"--results={file}"
    return binary("publish", *given, f"--output_dir={folder}", *flags)[2]


def test_results_of_other_weights_or_images_are_refused(
    binary, run, tmp_path, digits, trained
):
    result = {"model": "in_resnet8", "dataset": "digits", "num_examples": 4}
    result |= {"protocol": "standard", "clean": {"accuracy": 1.0}, "checks": []}
    result |= {"class_names": list(digits.class_names), "fingerprint": "one"}
    own = of_arrays(trained.get_weights())
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    both, folder = ",".join(map(str, files)), tmp_path / "shelf"
    for changes, message in (
        ({"weights_fingerprint": "0" * 16}, f"of other weights: .*{own}"),
        ({"dataset": "mnist"}, "is a result on mnist with the classes"),
        ({"class_names": ["cat"]}, r"with the classes \['cat'\], but the card is of"),
        ({"fingerprint": "two"}, "4 images would be of different images"),
    ):
        for file, content in zip(files, (result, result | changes)):
            file.write_text(json.dumps(content))
        assert re.search(message, publish(binary, run, both, folder)), message
    assert not folder.exists()
    files[0].write_text(json.dumps(result | {"weights_fingerprint": own}))
    assert publish(binary, run, files[0], folder) == ""


def test_networks_with_certificates_are_not_rounded(binary, tmp_path, digits):
    folder = tmp_path / "run"
    folder.mkdir()
    model = zoo.CPLTiny(input_shape=digits.shape)
    model.save(folder / "model.keras")
    flags = {"model": "cpl_tiny", "dataset": "folder:/home/me/photos", "epochs": 1}
    config = describe(flags, 0) | {"images": {"training": IMAGES, "validation": {}}}
    (folder / "config.json").write_text(json.dumps(config))
    result = {"model": "cpl_tiny", "dataset": flags["dataset"], "num_examples": 4}
    result |= {"protocol": "standard", "clean": {"accuracy": 1.0}, "checks": []}
    result |= {"class_names": list(digits.class_names)}
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result))
    error = publish(binary, folder, file, tmp_path / "shelf", "--half")
    assert "--half would change the certificates of cpl_tiny" in error
    assert publish(binary, folder, file, tmp_path / "shelf") == ""
    card = json.loads((tmp_path / "shelf" / "cpl_tiny-digits.json").read_text())
    assert "--dataset=folder:PATH" in card["training"]["command"]


@pytest.fixture
def shelf(tmp_path, digits):
    """Folder with a card of two results, and a function that makes such results."""

    def result(name, number, attacks=(), accuracy=0.5, weights="digits"):
        check = {"name": "step_size", "raised": "pgd" in attacks, "message": ""}
        own = f"--model=in_resnet8 --weights={weights}"
        content = {
            "model": "in_resnet8",
            "dataset": "digits",
            "num_examples": number,
            "fingerprint": f"images {number}",
            "protocol": "standard",
            "clean": {"accuracy": accuracy},
            "attacks": [
                {"name": attack, "eps": 8.0, "norm": "linf", "accuracy": 0.1}
                | {"steps": 2, "step_size": 1.0}
                for attack in attacks
            ],
            "checks": [check],
            "class_names": list(digits.class_names),
            "command": f"python -m train.evaluate {own}",
        }
        file = tmp_path / name
        file.write_text(json.dumps(content))
        return file

    folder = tmp_path / "shelf"
    folder.mkdir()
    old = [json.loads(result("a", 9).read_text())]
    old.append(json.loads(result("b", 4, ["pgd"]).read_text()))
    del old[1]["command"]  # as in cards of older versions
    content = {"model": "in_resnet8", "weights": "digits", "file": "weights.h5"}
    content |= {"sha256": "kept", "classes": list(digits.class_names)}
    content |= {"summary": [], "raised_checks": ["step_size"], "evaluations": old}
    content["dataset"] = {"name": "digits", "note": ""}
    (folder / "in_resnet8-digits.json").write_text(json.dumps(content))
    return folder, result


def add(binary, folder, *results, model="in_resnet8"):
    """Adds results to a card; returns the card, the output and the error."""
    cards.read_cards.cache_clear()
    flags = f"--model={model}", "--weights=digits", f"--output_dir={folder}"
    _, out, err = binary("publish", *flags, f"--results={','.join(map(str, results))}")
    card = json.loads((folder / "in_resnet8-digits.json").read_text())
    return card, out, err


def columns(card):
    return [(row["column"], row["images"], row["accuracy"]) for row in card["summary"]]


def test_results_of_other_attacks_and_images_are_added_to_a_card(binary, shelf):
    folder, result = shelf
    card, out, _ = add(binary, folder, result("c", 4, ["fgsm"]), result("d", 6))
    assert out.startswith("replaced 0 of 2 results, by 2")
    assert [len(run["attacks"]) for run in card["evaluations"]] == [0, 1, 1, 0]
    found = [("clean", 9, 0.5), ("clean", 4, 0.5), ("pgd 8", 4, 0.1)]
    assert columns(card) == [*found, ("fgsm 8", 4, 0.1), ("clean", 6, 0.5)]
    assert card["sha256"] == "kept" and card["raised_checks"] == ["step_size"]


def test_a_result_replaces_those_that_it_repeats(binary, shelf):
    folder, result = shelf
    card, out, _ = add(binary, folder, result("c", 4, ["pgd", "fgsm"], 0.75))
    assert out.startswith("replaced 1 of 2 results, by 1")
    expected = [("clean", 9, 0.5), ("clean", 4, 0.75), ("pgd 8", 4, 0.1)]
    assert columns(card) == [*expected, ("fgsm 8", 4, 0.1)]
    # An evaluation without the attack repeats only a part of the other.
    card, out, _ = add(binary, folder, result("d", 4, ["fgsm"], 0.25))
    assert out.startswith("replaced 0 of 2 results, by 1")
    # A result of more images repeats that of fewer, but not the other way round.
    card, out, _ = add(binary, folder, result("f", 6, ["fgsm"], 0.25))
    assert out.startswith("replaced 1 of 3 results, by 1")
    assert add(binary, folder, result("g", 5, ["fgsm"]))[1].startswith(
        "replaced 0 of 3"
    )
    # The check that PGD raised goes with its result.
    folder, result = shelf
    (folder / "in_resnet8-digits.json").write_text(
        json.dumps(card | {"evaluations": card["evaluations"][:1]})
    )
    card, *_ = add(binary, folder, result("e", 9, [], 0.25))
    assert columns(card) == [("clean", 9, 0.25)] and card["raised_checks"] == []


def test_mistakes_with_a_card(binary, shelf, tmp_path):
    folder, result = shelf
    before = (folder / "in_resnet8-digits.json").read_text()
    good = result("good", 4)
    assert "must name a model of the zoo" in add(binary, folder, good, model="no")[2]
    error = f"{folder} has no card resnet8-digits.json"
    assert error in add(binary, folder, good, model="resnet8")[2]
    wrong = result("wrong", 4, weights="mnist")
    error = (
        f"{wrong} must be a result of train.evaluate --model=in_resnet8 "
        "--weights=digits, without --solver and --preprocessing; its command is python "
        "-m train.evaluate --model=in_resnet8 --weights=mnist"
    )
    assert error in add(binary, folder, good, wrong)[2]
    content = json.loads(good.read_text())
    good.write_text(json.dumps(content | {"class_names": ["cat", "dog"]}))
    error = (
        f"{good} is a result on digits with the classes ['cat', 'dog'], but the card"
    )
    assert error in add(binary, folder, good)[2]
    for changes in (
        {"model": "in_resnet8-rk4-16"},
        {"command": f"{content['command']} --preprocessing=torch"},
    ):
        good.write_text(json.dumps(content | changes))
        error = f"{good} must be a result of train.evaluate --model=in_resnet8"
        assert error in add(binary, folder, good)[2]
    good.write_text(json.dumps(content | {"dataset": "mnist"}))
    error = f"{good} is a result on mnist with the classes"
    assert error in add(binary, folder, good)[2]
    good.write_text(json.dumps(content | {"fingerprint": "others"}))
    error = "4 images would be of different images (fingerprints images 4 and others)"
    assert error in add(binary, folder, good)[2]
    del content["command"]
    good.write_text(json.dumps(content))
    assert "its command is unknown" in add(binary, folder, good)[2]
    assert (folder / "in_resnet8-digits.json").read_text() == before
    for flag in (f"--checkpoint={tmp_path}", "--half", "--licence=MIT"):
        _, _, err = binary("publish", "--model=resnet8", flag)
        name = flag.partition("=")[0]
        assert f"--model adds results to a card: leave out {name}" in err
    _, _, err = binary("publish", "--model=resnet8", "--results=a")
    assert "--weights is missing" in err


def test_a_failure_leaves_the_files_as_they_were(binary, run, tmp_path, digits):
    result = {"model": "in_resnet8", "dataset": "digits", "num_examples": 4}
    result |= {"protocol": "standard", "clean": {"accuracy": 1.0}, "checks": []}
    result |= {"class_names": list(digits.class_names)}
    file, folder = tmp_path / "result.json", tmp_path / "shelf"
    file.write_text(json.dumps(result))
    assert publish(binary, run, file, folder) == ""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for missing in ("checks", "class_names"):
        del result[missing]
        file.write_text(json.dumps(result))
        error = publish(binary, run, file, folder, "--half")
        assert f"result.json lacks {missing}" in error
    for name in ("sub/mine", "a-b", "imagenet"):
        error = publish(binary, run, file, folder, f"--weights={name}")
        assert re.search(
            f"--weights must be a name of letters, .*; got '{name}'", error
        )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_numbers_beyond_float16_are_not_rounded_to_infinity(
    binary, run, tmp_path, digits
):
    model = zoo.InResNet8(input_shape=digits.shape)
    variance = next(w for w in model.weights if w.name == "moving_variance")
    variance.assign(np.full(variance.shape, 1e5))
    model.save(run / "model.keras")
    result = {"model": "in_resnet8", "dataset": "digits", "num_examples": 4}
    result |= {"protocol": "standard", "clean": {"accuracy": 1.0}, "checks": []}
    result |= {"class_names": list(digits.class_names)}
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result))
    error = publish(binary, run, file, tmp_path / "shelf", "--half")
    assert re.search("--half: .* holds 100000, too large for float16: leave it", error)
    assert not list((tmp_path / "shelf").iterdir())
