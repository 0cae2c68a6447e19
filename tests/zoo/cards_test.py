"""Shipped weights: cards, loading by name, files and arguments that do not fit."""

import hashlib
import json
import re

import jsonschema
import numpy as np
import pytest

import zoo
from inres_tf import class_names
from zoo import cards

SHIPPED = sorted(cards.shipped_cards())


@pytest.fixture
def shelf(tmp_path, monkeypatch, rng):
    """Ships random weights of a network in a folder of their own."""
    model = zoo.InResNet8(input_shape=(8, 8, 1), classes=3)
    model.set_weights([rng.normal(size=w.shape) ** 2 for w in model.get_weights()])
    path = tmp_path / "in_resnet8-shapes.weights.h5"
    model.save_weights(path)
    content = path.read_bytes()
    card = {
        "model": "in_resnet8",
        "weights": "shapes",
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "input_shape": [8, 8, 1],
        "fixed_size": False,
        "classes": ["circle", "square", "star"],
    }
    (tmp_path / "in_resnet8-shapes.json").write_text(json.dumps(card))
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    return path, model


def load(**options):
    options = {"input_shape": (8, 8, 1), "classes": 3} | options
    return zoo.InResNet8(weights="shapes", **options)


def test_weights_by_name(shelf, rng):
    _, model = shelf
    pixels = rng.integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    np.testing.assert_array_equal(load()(pixels), model(pixels))
    load(include_top=False, classes=10, input_shape=(16, 16, 1))
    assert zoo.list_models(weights="shapes") == ["in_resnet8"]
    assert zoo.describe("in_resnet8")["weights"] == ["shapes"]
    names = zoo.decode_predictions([[0.1, 0.3, 0.6]], "shapes", top=2)
    assert names == [[("star", 0.6), ("square", 0.3)]]


def test_classes_have_the_names_of_the_weights(shelf, tmp_path):
    assert load().class_names == ("circle", "square", "star")
    assert not hasattr(load(include_top=False, classes=10), "class_names")
    file, own = tmp_path / "own.keras", load()
    class_names.assign(own, ("a", "b", "c"))
    class_names.save(own, file)
    again = zoo.InResNet8(weights=file, input_shape=(8, 8, 1), classes=3)
    assert again.class_names == ("a", "b", "c")
    assert not hasattr(zoo.InResNet8(input_shape=(8, 8, 1)), "class_names")


def test_names_of_imagenet_are_those_of_keras(monkeypatch):
    def decode(preds, top):
        assert preds.shape == (1, 1000)
        return [[("n01", "tench", np.float32(0.5)), ("n02", "goldfish", 0.25)][:top]]

    monkeypatch.setattr("keras.applications.imagenet_utils.decode_predictions", decode)
    preds = np.zeros((1, 1000))
    assert zoo.decode_predictions(preds, "imagenet", 1) == [[("tench", 0.5)]]
    assert len(zoo.decode_predictions(preds, "imagenet")[0]) == 2
    with pytest.raises(ValueError, match="`top` must be at least 1"):
        zoo.decode_predictions(preds, "imagenet", 0)


def test_arguments_that_do_not_fit_are_refused_before_the_file_is_read(
    shelf, monkeypatch
):
    def never(*_):
        raise AssertionError("The file was read.")

    monkeypatch.setattr("zoo.weight_files.load", never)
    with pytest.raises(ValueError, match="are for classes=3.*Received: classes=10"):
        load(classes=10)
    with pytest.raises(ValueError, match=r"channels of input_shape=\(8, 8, 1\)"):
        load(input_shape=(8, 8, 3))


def test_networks_of_fixed_size_need_images_of_that_size():
    card = {"model": "a", "weights": "b", "input_shape": [8, 8, 1], "classes": ["x"]}
    cards.check_fit(card | {"fixed_size": False}, (32, 32, 1), None)
    with pytest.raises(ValueError, match=r"images of input_shape=\(8, 8, 1\)"):
        cards.check_fit(card | {"fixed_size": True}, (32, 32, 1), None)


def test_damaged_files(shelf):
    path, _ = shelf
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=f"has {len(content) - 1:,} bytes, its card"):
        load()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="are damaged: .* has the SHA-256"):
        load()
    path.unlink()
    with pytest.raises(ValueError, match="are missing: there is no file"):
        load()


def test_unknown_weights(shelf):
    with pytest.raises(ValueError, match="no weights 'cifar10' of in_resnet8: shapes"):
        zoo.card("in_resnet8", "cifar10")
    with pytest.raises(ValueError, match="Did you mean in_resnet8"):
        zoo.card("in_resnet9", "shapes")
    with pytest.raises(ValueError, match="has weights 'cifar10'; there are shapes"):
        zoo.list_models(weights="cifar10")
    with pytest.raises(ValueError, match="for in_resnet8: 'shapes'"):
        zoo.InResNet8(weights="nothing")
    with pytest.raises(ValueError, match=r"shape \(number, 3\)"):
        zoo.decode_predictions([[0.5, 0.5]], "shapes")
    with pytest.raises(ValueError, match="`top` must be at least 1. Received: top=0"):
        zoo.decode_predictions([[0.5, 0.5]], ["a", "b"], top=0)
    with pytest.raises(ValueError, match=r"Received: preds of shape \(2,\)"):
        zoo.decode_predictions([0.5, 0.5], ["a", "b"])


PACKED = ("correct", "image_radii")


@pytest.mark.parametrize("key", SHIPPED, ids="-".join)
def test_shipped_card(key):
    """The card follows the schema, and the file is the one it describes."""
    card = zoo.card(*key)
    jsonschema.validate(card, json.loads(cards.SCHEMA.read_text(encoding="utf-8")))
    assert card["file"] == f"{card['model']}-{card['weights']}.weights.h5"
    model = zoo.get_model(
        card["model"],
        weights=card["weights"],
        input_shape=tuple(card["input_shape"]),
        classes=len(card["classes"]),
    )
    assert model.count_params() == card["parameters"]
    assert all(np.isfinite(w).all() for w in model.get_weights())
    intervals = [(row["low"], row["accuracy"], row["high"]) for row in card["summary"]]
    assert all(low <= value <= high for low, value, high in intervals)
    # Packed answers contain slashes as well.
    readable = json.loads(
        json.dumps(card),
        object_hook=lambda d: {k: v for k, v in d.items() if k not in PACKED},
    )
    assert not re.search(r"[= \"]/\w+/", json.dumps(readable))


def test_all_shipped_weights_are_small():
    size = sum(path.stat().st_size for path in cards.FOLDER.iterdir())
    assert 0 < size < 40e6


def test_files_beside_the_cards(shelf):
    """Results may lie there, and files that another process is writing."""
    folder = shelf[0].parent
    (folder / "result.json").write_text('{"model": "in_resnet8"}')
    (folder / ".writing-1-in_resnet8-other.json").write_text('{"model": "in_res')
    cards.read_cards.cache_clear()
    assert list(cards.shipped_cards()) == [("in_resnet8", "shapes")]
    (folder / "in_resnet8-shapes.json").write_text('{"model": "in_res')
    cards.read_cards.cache_clear()
    with pytest.raises(ValueError, match=r"The card .*/in_resnet8-shapes.json is dama"):
        cards.shipped_cards()
