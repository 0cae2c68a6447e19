"""Predictions for photos, by the program."""

import json

import keras
import numpy as np
import PIL.Image
import pytest

import zoo
from inres_tf import class_names, serving
from inres_tf.serving import predictions
from inres_tf.training import checkpoints

NAMES = tuple("zero one two three four five six seven eight nine".split())


@pytest.fixture
def pictures(digits, tmp_path):
    """Test images of digits as files; returns their folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(digits.test.images[:6]):
        PIL.Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def named(trained, tmp_path):
    """The file of the trained network, with names of its classes."""
    trained.save(tmp_path / "plain.keras")
    model = checkpoints.load_model(tmp_path / "plain.keras")
    class_names.assign(model, NAMES)
    class_names.save(model, tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_table_and_json(binary, named, pictures, digits, tmp_path):
    model = checkpoints.load_model(named)
    expected = model.predict(digits.test.images[:6], verbose=0)
    labels = [NAMES[i] for i in expected.argmax(-1)]
    serving.export(model, tmp_path / "served")
    results = []
    for checkpoint in (named, tmp_path / "served"):
        output = tmp_path / f"{len(results)}.json"
        code, out, err = binary(
            "predict",
            f"--checkpoint={checkpoint}",
            "--top=3",
            f"--output={output}",
            pictures,
        )
        assert (code, err) == (0, "")
        header, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in out.splitlines()
        ]
        assert header == ["image", "class", "probability", "next"]
        assert [row[0] for row in rows] == [f"{pictures}/{i}.png" for i in range(6)]
        assert [row[1] for row in rows] == labels
        result = json.loads(output.read_text())
        assert result["class_names"] == list(NAMES) and result["failed"] == []
        for row, entry in zip(rows, result["predictions"], strict=True):
            assert row[2] == f"{100 * entry['probability']:.1f}"
            following = [
                f"{top['class']} {100 * top['probability']:.1f}"
                for top in entry["top"][1:]
            ]
            assert row[3] == ", ".join(following) and len(following) == 2
        results.append(result["predictions"])
    values = [[p["probability"] for p in predictions] for predictions in results]
    np.testing.assert_allclose(*values, atol=1e-6)


def test_images_that_cannot_be_read(binary, named, pictures):
    (pictures / "2.png").write_bytes(b"junk")
    code, out, err = binary("predict", f"--checkpoint={named}", pictures, "none.png")
    assert code == 1 and out.count("\n") == 2 + 5
    lines = err.splitlines()
    assert lines[0].startswith(f"train.predict: {pictures}/2.png cannot be read")
    assert lines[1].startswith("train.predict: none.png cannot be read")
    code, out, err = binary("predict", f"--checkpoint={named}", "none.png")
    assert (code, out) == (1, "") and err.count("\n") == 1


def test_ctrl_c_keeps_what_is_done(binary, named, pictures, tmp_path, monkeypatch):
    read, output = predictions._read, tmp_path / "result.json"

    def interrupted(path, shape):
        if path.name == "4.png":
            raise KeyboardInterrupt
        return read(path, shape)

    monkeypatch.setattr(predictions, "_read", interrupted)
    arguments = [f"--checkpoint={named}", "--batch_size=2", f"--output={output}"]
    code, out, err = binary("predict", *arguments, pictures)
    assert code == 130
    assert err.splitlines()[-1] == "train.predict: interrupted after 2 predictions"
    assert out.count("\n") == 2 + 2
    images = [entry["image"] for entry in json.loads(output.read_text())["predictions"]]
    assert images == [f"{pictures}/{i}.png" for i in range(2)]


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_weights_files_are_of_the_images_they_were_trained_on(binary, tmp_path, suffix):
    model = zoo.InResNet8(input_shape=(16, 16, 3), classes=3)
    path = tmp_path / f"model{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    photo = tmp_path / "photo.png"
    PIL.Image.new("RGB", (16, 16), (10, 200, 90)).save(photo)
    arguments = ["--model=in_resnet8", f"--weights={path}", f"--output={path}.json"]
    code, _, err = binary("predict", *arguments, photo)
    if suffix == ".weights.h5":
        assert code == 0 and "does not record its image size: assuming" in err
        return
    assert (code, err) == (0, "")
    (found,) = json.loads((tmp_path / "model.keras.json").read_text())["predictions"]
    pixels = np.full((1, 16, 16, 3), (10, 200, 90), np.uint8)
    expected = model.predict(pixels, verbose=0).max()
    assert found["probability"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("program", ["export", "predict"])
def test_a_file_of_other_inputs_is_refused(binary, pictures, tmp_path, program):
    pixels = keras.Input((4,))
    keras.Model(pixels, keras.layers.Dense(3)(pixels)).save(tmp_path / "flat.keras")
    last = pictures / "0.png" if program == "predict" else "--overwrite"
    arguments = ["--model=in_resnet8", f"--weights={tmp_path}/flat.keras"]
    code, _, err = binary(program, *arguments, f"--output={tmp_path}/out", last)
    assert code == 1 and err.count("\n") == 1, err


def test_shipped_weights(binary, pictures):
    code, out, _ = binary(
        "predict", "--model=cpl_tiny", "--weights=mnist", "--top=1", pictures / "0.png"
    )
    assert code == 0 and len(out.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--checkpoint={named}",), "name at least one image or folder"),
        (("a.png",), "pass either --checkpoint"),
        (("--checkpoint={named}", "--top=0", "a.png"), "--top must be at least 1"),
        (("--checkpoint={named}", "--output={folder}", "a.png"), "is a folder"),
        (("--checkpoint={folder}/none", "a.png"), "does not exist"),
        (("--checkpoint={folder}/sm", "a.png"), "not a SavedModel of train.export"),
        (("--checkpoint={folder}/sm", "--solver=rk4", "a.png"), "--solver does not"),
        (("--checkpoint={folder}/sm", "--model=plain8", "a.png"), "--model does not"),
        (("--checkpoint={folder}/sm", "--weights=mnist", "a.png"), "--weights does"),
        (("--checkpoint={named}", "--weights=mnist", "a.png"), "belongs to --model"),
    ],
)
def test_mistakes(binary, named, pictures, tmp_path, arguments, message):
    (tmp_path / "sm").mkdir()
    (tmp_path / "sm" / "saved_model.pb").write_bytes(b"junk")
    filled = [argument.format(named=named, folder=tmp_path) for argument in arguments]
    code, out, err = binary("predict", *filled)
    assert (code, out) == (1, "") and message in err and err.count("\n") == 1
