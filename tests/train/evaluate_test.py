import json
import os
import pathlib

import jsonschema
import keras
import pytest

import zoo
from inres_tf import corruptions
from inres_tf.errors import UserError
from inres_tf.evaluation import evaluator, results

SCHEMA = json.loads(results.SCHEMA.read_text(encoding="utf-8"))


def test_model_with_weights(binary, trained, tmp_path):
    path = tmp_path / "model.weights.h5"
    trained.save_weights(path)
    none = ["--attacks=none", "--corruptions=none", "--num_examples=50"]
    code, out, _ = binary("evaluate", "--model=in_resnet8", f"--weights={path}", *none)
    assert code == 0 and float(out.split("clean")[1].split()[0]) > 80


@pytest.mark.long
def test_transfer_from_shipped_weights_and_from_their_file(
    binary, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    zoo.InResNet20(weights="mnist", input_shape=(28, 28, 1)).save("other.keras")
    arguments = ["--model=resnet20", "--weights=mnist", "--image_size=28"]
    arguments += ["--num_examples=9", "--check_examples=1", "--corruptions=none"]
    arguments += ["--attacks=pgd", "--eps=25", "--steps=3", "--output=result.json"]
    found, named = [], []
    for value in ("in_resnet20:mnist", "other.keras"):
        code, _, err = binary("evaluate", *arguments, f"--transfer_from={value}")
        assert code == 0, err
        result = json.loads(pathlib.Path("result.json").read_text())
        found.append([result["correct"], result["attacks"]])
        named.append(result["command"].split("--transfer_from=")[1].split()[0])
    assert found[0] == found[1]
    assert named == ["in_resnet20:mnist", "TRANSFER_FROM"]
    for value, message in (
        ("in_resnet20:mnits", "in_resnet20 has no shipped weights 'mnits'; it has "),
        ("resnet8:cifar10", "resnet8 has no shipped weights 'cifar10'; it has none"),
        ("in_resnt20:mnist", "--transfer_from must name a model of the zoo, such as"),
        ("none", "none does not exist; --transfer_from must be a .keras file"),
    ):
        code, _, err = binary("evaluate", *arguments, f"--transfer_from={value}")
        assert code == 1 and message in err, err


def test_resumes_after_ctrl_c(binary, saved, tmp_path, monkeypatch):
    output = tmp_path / "result.json"
    arguments = [
        f"--checkpoint={saved}",
        "--num_examples=20",
        "--corruptions=contrast,fog",
        "--attacks=fgsm",
        "--eps=16",
        "--check_examples=5",
        "--samples=1",
        f"--output={output}",
    ]
    corrupt, corrupted = corruptions.corrupt, []

    def interrupted(images, name, severity, seed):
        corrupted.append(name)
        if corrupted == ["contrast"] * 5 + ["fog"]:
            raise KeyboardInterrupt
        return corrupt(images, name, severity, seed)

    monkeypatch.setattr(corruptions, "corrupt", interrupted)
    code, out, err = binary("evaluate", *arguments)
    partial = f"{output}.partial"
    assert (code, out) == (130, "")
    # On a busy machine, lines about the progress precede it.
    assert err.splitlines()[-1] == (
        f"train.evaluate: interrupted; the same command resumes from {partial}"
    )
    assert not output.exists()
    assert binary("evaluate", *arguments)[0] == 0
    # The finished corruption is not repeated.
    assert corrupted == ["contrast"] * 5 + ["fog"] * 6
    result = json.loads(output.read_text())
    assert list(result["corruptions"]) == ["contrast", "fog"]
    jsonschema.validate(result, SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="undocumented"):
        jsonschema.validate(result | {"undocumented": 1}, SCHEMA)
    # Without paths, and in the order of the flags of each group.
    assert result["command"].split() == [
        *("python", "-m", "train.evaluate", "--checkpoint=CHECKPOINT"),
        *("--attacks=fgsm", "--eps=16.0", "--corruptions=contrast,fog"),
        *("--num_examples=20", "--check_examples=5", "--samples=1"),
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"saved", "result.json"}


def test_corrupted_sets_are_read_from_the_data_folder(
    binary, saved, tmp_path, monkeypatch
):
    folders = []

    def load(source, name, severity, data_dir):
        folders.append((source, data_dir))
        raise UserError("stop")

    monkeypatch.setattr(evaluator.cifar10_c, "load", load)
    code, _, err = binary(
        "evaluate",
        f"--checkpoint={saved}",
        f"--data_dir={tmp_path}",
        "--corruption_source=cifar10_corrupted",
        "--corruptions=fog",
        "--attacks=none",
    )
    assert (code, err) == (1, "train.evaluate: stop\n")
    assert folders == [("cifar10_corrupted", str(tmp_path))]


@pytest.mark.long
def test_terminal_without_greek_letters(process, saved, tmp_path):
    result = tmp_path / "result.json"
    arguments = ["--corruptions=none", "--attacks=fgsm", "--num_examples=9"]
    run = process(
        "train.evaluate",
        f"--checkpoint={saved}",
        f"--output={result}",
        *arguments,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0 and "? = 8/255" in out
    # On a busy machine, lines about the progress.
    assert [line for line in err.splitlines() if "%|" not in line] == []
    assert json.loads(result.read_text())["num_examples"] == 9


def test_certificates_and_their_refusal(binary, tmp_path):
    output, saved = tmp_path / "result.json", tmp_path / "model.keras"
    arguments = ["--attacks=none", "--corruptions=none", "--num_examples=10"]
    arguments += ["--certify=lipschitz", "--certify_radii=0.5,1", "--check_examples=5"]
    arguments += ["--dataset=digits", f"--checkpoint={saved}", f"--output={output}"]
    zoo.get_model("cpl_tiny", input_shape=(8, 8, 1)).save(saved)
    code, out, err = binary("evaluate", *arguments)
    assert (code, err) == (0, "")
    assert "| L2 radius | certified | under pgd |" in out and "\n| 0.5/255 " in out
    result = json.loads(output.read_text())
    jsonschema.validate(result, SCHEMA)
    found = result["certificates"]
    assert list(found["radii"]) == list(found["attacked"]) == ["0.5", "1"]
    output.unlink()
    layers = [keras.layers.LayerNormalization(name="norm"), keras.layers.Flatten()]
    layers = [keras.Input((8, 8, 1)), *layers, keras.layers.Dense(10)]
    keras.Sequential(layers, name="other").save(saved)
    code, out, err = binary("evaluate", *arguments)
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert "The layer 'norm' (LayerNormalization) of other has no known" in err
    assert not output.exists()
