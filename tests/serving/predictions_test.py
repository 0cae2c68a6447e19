"""Predictions for image files, by Keras models and by SavedModels."""

import json

import keras
import numpy as np
import PIL.Image
import pytest

import zoo
from inres_tf import class_names, data, serving
from inres_tf.errors import UserError
from inres_tf.models.precision import in_float32
from inres_tf.serving import predictions


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two folders of pictures of different sizes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 256, (20 + i, 30, 3)).astype(np.uint8)
        path = root / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(pixels).save(path)
    return root


def network(shape, names=None):
    """A random linear network."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(x))
    model = keras.Model(pixels, keras.layers.Dense(3, "softmax")(x), name="linear")
    class_names.assign(model, names)
    return model


def test_images_are_those_of_a_dataset(photos):
    """Files are read and resized as `data.load` does, in batches of any size."""
    model = network((8, 8, 3), ("ant", "bee", "cow"))
    dataset = data.load(f"folder:{photos}", image_size=8)
    images = np.concatenate([dataset.train.images, dataset.test.images])
    expected = np.sort(model.predict(images, verbose=0).max(-1))
    classifier = serving.ImageClassifier.of_model(model)
    for batch_size in (1, 3, 100):
        sizes = []

        def probabilities(images, sizes=sizes):
            sizes.append(len(images))
            return classifier.probabilities(images)

        spy = serving.ImageClassifier(
            "spy", classifier.shape, classifier.class_names, probabilities
        )
        config = serving.PredictConfig(top=2, batch_size=batch_size)
        result = serving.predict(spy, [photos], config, progress=False)
        found = result["predictions"]
        assert max(sizes) == min(8, batch_size) and sum(sizes) == len(found) == 8
        values = np.sort([p["probability"] for p in found])
        np.testing.assert_allclose(values, expected, atol=1e-6)
    for p in found:
        assert len(p["top"]) == 2 and p["top"][0]["class"] == p["class"]
        assert p["class"] == classifier.class_names[p["class_id"]]
        assert p["top"][0]["probability"] >= p["top"][1]["probability"]
    assert (result["model"], result["failed"]) == ("spy", [])


def test_a_saved_model_predicts_as_its_model(photos, tmp_path):
    model = network((8, 8, 3), ("ant", "bee", "cow"))
    path = serving.export(model, tmp_path / "served")
    results = [
        serving.predict(classifier, [photos], progress=False)
        for classifier in (
            serving.ImageClassifier.of_model(model),
            serving.ImageClassifier.of_saved_model(path),
        )
    ]
    (first, second) = (result.pop("predictions") for result in results)
    assert results[1]["model"] == "served" and results[0]["model"] == "linear"
    assert results[0]["class_names"] == results[1]["class_names"]
    for a, b in zip(first, second, strict=True):
        assert (a["image"], a["class"], len(a["top"])) == (b["image"], b["class"], 3)
        assert a["probability"] == pytest.approx(b["probability"], abs=1e-6)


def test_grey_and_sizes(photos, tmp_path):
    """Grey networks get grey pixels, and those without a size the picture's own."""
    grey = network((8, 8, 1))
    file = photos / "cat" / "1.png"
    with PIL.Image.open(file) as picture:
        small = picture.resize((8, 8), PIL.Image.Resampling.BILINEAR).convert("L")
    expected = grey.predict(np.asarray(small)[None, ..., None], verbose=0)
    (found,) = serving.predict(
        serving.ImageClassifier.of_model(grey), [file], progress=False
    )["predictions"]
    assert found["probability"] == pytest.approx(float(expected.max()), abs=1e-6)
    assert found["class"] == str(found["class_id"])

    any_size = serving.ImageClassifier.of_model(network((None, None, 3)))
    result = serving.predict(any_size, [photos], progress=False)
    assert len(result["predictions"]) == 8 and not result["failed"]

    wide = serving.ImageClassifier.of_model(network((20, 30, 3)))
    result = serving.predict(wide, [photos], progress=False)
    assert [p["image"] for p in result["predictions"]] == [str(photos / "dog/0.png")]
    assert len(result["failed"]) == 7
    message = "is 30x21 pixels, but the model takes images of width 30 and height 20"
    assert message in result["failed"][0]["error"]

    four = serving.ImageClassifier.of_model(network((8, 8, 4)))
    result = serving.predict(four, [file], progress=False)
    assert "takes 4 channels" in result["failed"][0]["error"]


def test_what_cannot_be_read_is_named_and_the_others_go_on(photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "mixed" / "deep"
    folder.mkdir(parents=True)
    (folder / "bad.jpg").write_bytes(b"junk")
    (folder / "notes.txt").write_text("junk")
    PIL.Image.new("RGB", (9, 9)).save(folder / "good.png")
    classifier = serving.ImageClassifier.of_model(network((8, 8, 3)))
    paths = [tmp_path / "empty", folder.parent, tmp_path / "none.png"]
    result = serving.predict(classifier, paths, progress=False)
    assert [p["image"] for p in result["predictions"]] == [str(folder / "good.png")]
    failed = {entry["image"]: entry["error"] for entry in result["failed"]}
    assert set(failed) == {
        str(path) for path in (paths[0], folder / "bad.jpg", paths[2])
    }
    assert all(image in error for image, error in failed.items())
    assert "left out, not images: 1 (deep/notes.txt)" in capsys.readouterr().err
    json.dumps(result)


def test_the_working_folder(photos, monkeypatch):
    monkeypatch.chdir(photos / "cat")
    classifier = serving.ImageClassifier.of_model(network((8, 8, 3)))
    result = serving.predict(classifier, ["."], progress=False)
    assert [p["image"] for p in result["predictions"]] == [
        f"{i}.png" for i in (1, 3, 5, 7)
    ]


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="damaged or not a SavedModel of train.export"):
        serving.ImageClassifier.of_saved_model(tmp_path)
    network((8, 8, 3)).export(tmp_path / "other", verbose=False)
    with pytest.raises(UserError, match="takes `images` and returns `probabilities`"):
        serving.ImageClassifier.of_saved_model(tmp_path / "other")


def test_half_precision_computes_in_float32(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = zoo.InResNet8(input_shape=(8, 8, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    images = rng.integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    found = serving.ImageClassifier.of_model(half).probabilities(images)
    expected = in_float32(half).predict(images, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(half.predict(images, verbose=0) - expected).max() > 1e-5


def test_outputs_that_are_not_finite_and_folders_that_cannot_be_read(
    photos, monkeypatch
):
    bad = serving.ImageClassifier(
        "bad", (8, 8, 3), ("a", "b"), lambda images: np.full((len(images), 2), np.nan)
    )
    result = serving.predict(bad, [photos / "cat"], progress=False)
    assert result["predictions"] == [] and len(result["failed"]) == 4
    assert result["failed"][0]["error"].endswith("1.png are not finite")

    def denied(self, folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(predictions.Walk, "images", denied)
    one = photos / "dog" / "0.png"
    classifier = serving.ImageClassifier.of_model(network((8, 8, 3)))
    result = serving.predict(classifier, [photos / "cat", one], progress=False)
    assert [entry["image"] for entry in result["predictions"]] == [str(one)]
    assert "Permission denied" in result["failed"][0]["error"]


@pytest.mark.parametrize("content", ["no JSON", '["one"]', "7"])
def test_names_that_do_not_fit_a_saved_model(content, tmp_path):
    serving.export(network((8, 8, 3), ("ant", "bee", "cow")), tmp_path / "served")
    (file,) = (tmp_path / "served").rglob("class_names.json")
    file.write_text(content)
    with pytest.raises(UserError, match="is damaged or not a SavedModel"):
        serving.ImageClassifier.of_saved_model(tmp_path / "served")


def test_an_empty_path_is_not_the_working_folder(photos, monkeypatch):
    monkeypatch.chdir(photos)
    classifier = serving.ImageClassifier.of_model(network((8, 8, 3)))
    with pytest.raises(UserError, match="is an empty text"):
        serving.predict(classifier, [""], progress=False)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = network((8, 8, 3))
    model.layers[-1].bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(UserError, match="1 of the 4 weights of .*linear.* not finite"):
        serving.ImageClassifier.of_model(model)
    with pytest.raises(UserError, match="the network has diverged"):
        serving.export(model, tmp_path / "model")
