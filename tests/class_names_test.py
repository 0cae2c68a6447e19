import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest

import inres_tf
import zoo
from inres_tf import class_names, evaluation, models, serving, training
from inres_tf.errors import UserError

DIGITS = tuple(map(str, range(10)))
TURNED = DIGITS[::-1]


@pytest.fixture
def named(trained, tmp_path):
    """Function that saves the trained network with names of its classes."""

    def save(names):
        model = keras.models.clone_model(trained)
        model.set_weights(trained.get_weights())
        class_names.assign(model, names)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.keras"
        class_names.save(model, path)
        return path

    return save


def test_files_carry_the_names(named, trained, digits):
    path = named(DIGITS)
    assert class_names.read(path) == DIGITS
    model = training.checkpoints.load_model(path)
    assert class_names.of(model) == model.class_names == DIGITS
    images = digits.test.images[:5]
    expected = trained.predict(images, verbose=0)
    for loaded in (model, keras.models.load_model(path)):
        np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)
    trained.save(path)
    assert class_names.read(path) is None
    assert class_names.of(training.checkpoints.load_model(path)) is None
    assert class_names.read(path.with_name("missing")) is None


def test_messages_have_both_lists():
    class_names.check(None, ("a", "b"), "the model", "the folder")
    class_names.check(("a", "b"), ["a", "b"], "the model", "the folder")
    with pytest.raises(UserError, match="of the folder differ: a, b and a, c; use"):
        class_names.check(("a", "b"), ("a", "c"), "the model", "the folder")
    with pytest.raises(UserError, match="differ in their order: a, b and b, a; use"):
        class_names.check(("a", "b"), ("b", "a"), "the model", "the folder")
    many = [f"n{i}" for i in range(1000)]
    with pytest.raises(UserError, match="differ: n7 and x; use"):
        class_names.check(many, [*many[:7], "x", *many[8:]], "it", "this")


def test_evaluations_refuse_other_classes(named, digits):
    config = evaluation.EvaluationConfig(
        attacks=(), corruptions=(), num_examples=20, check_examples=2
    )
    right, wrong = (
        training.checkpoints.load_model(named(names)) for names in (DIGITS, TURNED)
    )
    result = evaluation.evaluate_model(right, digits, config, progress=False)
    assert tuple(result["class_names"]) == DIGITS
    message = "in their order: 9, 8, 7, .* and 0, 1, 2, "
    with pytest.raises(UserError, match=message):
        evaluation.evaluate_model(wrong, digits, config, progress=False)
    with pytest.raises(UserError, match=message):
        evaluation.evaluate_model(
            right, digits, config, progress=False, surrogate=wrong
        )


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "--checkpoint={}"),
        ("evaluate", "--model=in_resnet8", "--weights={}"),
        ("analyze", "--checkpoint={}", "--output_dir=out"),
        ("verify", "--checkpoint={}"),
    ],
)
def test_programs_refuse_other_classes(command, named, binary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = named(TURNED)
    if command[0] == "verify":  # which reads networks with certificates only
        model = zoo.get_model("cpl_tiny", input_shape=(8, 8, 1))
        class_names.assign(model, TURNED)
        class_names.save(model, path)
    code, out, err = binary(*(argument.format(path) for argument in command))
    assert (code, out) == (1, "") and "the class names of" in err
    assert err.count("\n") == 1 and "9, 8, 7" in err and "0, 1, 2" in err
    assert not (tmp_path / "out").exists()


# What another process finds in a run's folder and in a SavedModel.
LOAD = """
import json, pathlib, sys
import inres_tf
from inres_tf import class_names, serving, training
run, exported = map(pathlib.Path, sys.argv[1:])
(checkpoint,) = (run / "checkpoints").iterdir()
models = [training.checkpoints.load_model(training.checkpoints.find_model(path))
          for path in (run, checkpoint)]
print(json.dumps([
    json.loads((run / "config.json").read_text())["class_names"],
    *map(class_names.of, models),
    class_names.read(run / "model.keras"),
    serving.ImageClassifier.of_saved_model(exported).class_names,
]))
"""


def build(shape, classes):
    """A network whose initial weights are of other classes."""
    model = zoo.InResNet8(input_shape=shape, classes=classes)
    class_names.assign(model, ("x", "y", "z"))
    return model


@pytest.mark.long
def test_runs_and_exports_carry_the_names_to_other_processes(tmp_path):
    for name in ("cat", "dog", "eel"):
        for i in range(4):
            path = tmp_path / "photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(path)
    config = training.TrainConfig(
        model="in_resnet8",
        dataset=f"folder:{tmp_path / 'photos'}",
        epochs=1,
        batch_size=4,
        output_dir=str(tmp_path / "run"),
        verbose=0,
    )
    result = training.train(config, build)
    exported = serving.export(result.model, tmp_path / "exported")
    found = subprocess.run(
        [sys.executable, "-c", LOAD, config.output_dir, str(exported)],
        cwd=pathlib.Path(__file__).parents[1],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        stdout=subprocess.PIPE,
        timeout=600,
    )
    names = json.loads(found.stdout.splitlines()[-1])
    assert names == [["cat", "dog", "eel"]] * 5


def test_changed_models_keep_the_names():
    model = zoo.ResNet8(input_shape=(8, 8, 1), classes=2)
    class_names.assign(model, ["cat", "dog"])
    assert inres_tf.damp(model).class_names == ("cat", "dog")
    node = zoo.NODETiny(input_shape=(8, 8, 1), classes=2)
    class_names.assign(node, ["cat", "dog"])
    assert models.with_solver(node, "euler").class_names == ("cat", "dog")


def test_exports_carry_the_names(named, tmp_path):
    model = training.checkpoints.load_model(named(TURNED))
    path = serving.export(model, tmp_path / "exported")
    text = (path / "assets.extra" / "class_names.json").read_text()
    assert text.split('"')[1::2] == list(TURNED)
