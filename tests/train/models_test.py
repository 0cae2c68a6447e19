"""The models of the binaries: solvers by flag, networks of continuous depth."""

import importlib
import json
import sys
import warnings

import keras
import numpy as np
import pytest

import zoo
from inres_tf.models import preprocessing
from train import models


@pytest.fixture(scope="module")
def neural_ode(tmp_path_factory):
    """A damped neural ODE in a file."""
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("node") / "node.keras"
    zoo.DampedNODETiny(input_shape=(8, 8, 1)).save(path)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("heun", {"method": "heun"}),
        ("rk4:16", {"method": "rk4", "steps": 16}),
        ("dopri5:1e-5", {"method": "dopri5", "rtol": 1e-5, "atol": 1e-5}),
        ("heun21:1", {"method": "heun21", "rtol": 1.0, "atol": 1.0}),
    ],
)
def test_solver_settings(text, expected):
    assert models.solver_settings(text) == expected


@pytest.mark.long
def test_another_solver_by_flag(binary, neural_ode, tmp_path):
    """A tight tolerance gives the solution that many steps converge to."""
    pixels = np.arange(128, dtype=np.uint8).reshape(2, 8, 8, 1)
    logits = {}
    for solver in ("euler:1", "rk4:16", "dopri5:1e-5"):
        exported = tmp_path / solver
        flags = [f"--checkpoint={neural_ode}", f"--solver={solver}"]
        assert binary("export", *flags, f"--output={exported}")[0] == 0
        served = keras.layers.TFSMLayer(exported, "serving_default")
        logits[solver] = np.asarray(served(pixels)["logits"])
    fine = logits["rk4:16"]
    np.testing.assert_allclose(logits["dopri5:1e-5"], fine, atol=1e-3)
    assert np.abs(logits["euler:1"] - fine).max() > 1e-2


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("rk5", "--solver=rk5: `method` must be one of 'euler'"),
        (
            "dopri5:fine",
            "dopri5 must be followed by its tolerance, such as dopri5:1e-5",
        ),
        ("rk4:1e-3", "rk4 must be followed by its number of steps, such as rk4:16"),
        ("rk4:", "rk4 must be followed by its number of steps"),
        ("rk4:0", "`steps` must be a positive integer"),
    ],
)
def test_wrong_solvers(binary, neural_ode, solver, message):
    code, out, err = binary(
        "evaluate", f"--checkpoint={neural_ode}", f"--solver={solver}"
    )
    assert code == 1 and out == "" and message in err and err.count("\n") == 1


def test_a_solver_for_a_network_without_neural_odes(binary, saved):
    code, _, err = binary("evaluate", f"--checkpoint={saved}", "--solver=rk4")
    assert code == 1 and "must have a layer `inres_tf.layers.NeuralODE`" in err


def test_results_name_the_solver(binary, neural_ode, tmp_path):
    """Or train.compare would take several solvers for seeds of one model."""
    output = tmp_path / "result.json"
    code, _, _ = binary(
        "evaluate",
        f"--checkpoint={neural_ode}",
        "--dataset=digits",
        "--num_examples=20",
        "--attacks=none",
        "--corruptions=none",
        "--check_examples=2",
        "--solver=rk4:3",
        f"--output={output}",
    )
    assert code == 0
    assert json.loads(output.read_text())["model"] == "damped_node_tiny-rk4-3"


@pytest.fixture(scope="module")
def undamped(tmp_path_factory):
    """A ResNet-8 and its file."""
    keras.utils.set_random_seed(0)
    model = zoo.ResNet8(input_shape=(8, 8, 1), classes=4)
    path = tmp_path_factory.mktemp("resnet") / "model.keras"
    model.save(path)
    return model, path


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("name", ["resnet8", "in_resnet8"])
@pytest.mark.parametrize("classes", [4, 3])
def test_initial_weights(name, classes, folder, undamped):
    """Also for a damped network, and with another classifier."""
    source, path = undamped
    build = models.initial(name, str(path.parent if folder else path))
    keras.utils.set_random_seed(1)
    model = build((8, 8, 1), classes)
    assert model.name == name and model.output_shape == (None, classes)
    for layer in [layer for layer in source.layers if layer.weights]:
        found = model.get_layer(layer.name).get_weights()
        for array, expected in zip(found, layer.get_weights()):
            if layer.name != "predictions" or classes == 4:
                np.testing.assert_array_equal(array, expected)
    fresh = models.initial(name, None)((8, 8, 1), classes)
    kernels = [m.get_layer("stem_conv").kernel.numpy() for m in (model, fresh)]
    assert not np.array_equal(*kernels)


def test_missing_initial_weights(binary, tmp_path):
    for weights, message in (
        ("nothing", "nothing"),
        (str(tmp_path), "no checkpoint; --weights must be a .keras file, a run's"),
    ):
        code, _, err = binary(
            "train", "--model=in_resnet8", f"--weights={weights}", "--epochs=1"
        )
        assert code == 1 and message in err, err


def test_a_folder_does_not_hide_shipped_weights(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    monkeypatch.chdir(tmp_path)
    model = models.initial("cpl_tiny", "mnist")((28, 28, 1), 10)
    expected = zoo.CPLTiny(weights="mnist", input_shape=(28, 28, 1))
    for array, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(array, other)


def test_training_starts_from_initial_weights(binary, trained, tmp_path, digits):
    path, run = tmp_path / "initial.keras", tmp_path / "run"
    trained.save(path)
    code, _, err = binary(
        "train",
        "--model=in_resnet8",
        f"--weights={path}",
        "--epochs=1",
        "--learning_rate=1e-9",
        "--batch_size=512",
        f"--output_dir={run}",
    )
    assert code == 0, err
    end = keras.models.load_model(run / "model.keras")
    for array, expected in zip(
        (w.numpy() for w in end.trainable_weights), trained.trainable_weights
    ):
        np.testing.assert_allclose(array, expected.numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def symmetric(trained, tmp_path_factory):
    """The file of a model of pixels in [-1, 1]."""
    inputs = keras.Input((8, 8, 1))
    pixels = keras.layers.Rescaling(127.5, 127.5)(inputs)
    path = tmp_path_factory.mktemp("symmetric") / "model.keras"
    keras.Model(inputs, trained(pixels), name="symmetric").save(path)
    return path


QUICK = ("--attacks=none", "--corruptions=none", "--check_examples=2")


@pytest.mark.parametrize(
    "program", [("evaluate", *QUICK), ("analyze", "--output_dir=x")]
)
def test_models_of_scaled_pixels_need_a_flag(program, binary, symmetric, tmp_path):
    code, out, err = binary(*program, f"--checkpoint={symmetric}")
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert "--preprocessing=symmetric: pass that, or --preprocessing=none if" in err


def test_preprocessing_by_flag(binary, symmetric, trained, tmp_path, digits):
    accuracies = {}
    for name in ("symmetric", "none"):
        output = tmp_path / f"{name}.json"
        arguments = [f"--checkpoint={symmetric}", f"--preprocessing={name}", *QUICK]
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            code, _, err = binary("evaluate", *arguments, f"--output={output}")
        assert code == 0
        # What was asked for is done, but not in silence.
        assert ("warning: model symmetric classifies" in err) == (name == "none")
        assert "give" not in err
        result = json.loads(output.read_text())
        assert f"--preprocessing={name}" in result["command"]
        accuracies[name] = result["clean"]["accuracy"]
    predicted = trained.predict(digits.test.images, verbose=0).argmax(-1)
    assert accuracies["symmetric"] == (predicted == digits.test.labels).mean()
    assert accuracies["none"] < 0.5 < accuracies["symmetric"]

    exported = tmp_path / "exported"
    arguments = [f"--checkpoint={symmetric}", "--preprocessing=symmetric"]
    assert binary("export", *arguments, f"--output={exported}")[0] == 0
    served = keras.layers.TFSMLayer(exported, "serving_default")
    found = np.asarray(served(digits.test.images)["class_ids"])
    np.testing.assert_array_equal(found, predicted)


def test_preprocessing_of_colours_for_grey_images(binary, symmetric):
    code, _, err = binary(
        "evaluate", f"--checkpoint={symmetric}", "--preprocessing=caffe"
    )
    assert code == 1 and "--preprocessing=caffe: The preprocessing 'caffe' is of" in err


def test_code_of_the_user_by_flag(binary, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(keras.saving.get_custom_objects())
    (tmp_path / "my_own_layers.py").write_text(
        "import keras\n\nclass Plus(keras.layers.Layer):\n"
        "    def call(self, inputs):\n        return inputs + 1\n"
    )
    layer = importlib.import_module("my_own_layers").Plus()
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Dense(10)(keras.layers.Flatten()(layer(inputs)))
    keras.Model(inputs, x).save(tmp_path / "model.keras")
    monkeypatch.delitem(sys.modules, "my_own_layers")
    arguments = ("evaluate", f"--checkpoint={tmp_path}/model.keras", *QUICK)
    code, _, err = binary(*arguments)
    assert code == 1 and "needs Plus, of module my_own_layers; if you trust it" in err
    assert err.strip().endswith("--import=my_own_layers")
    code, out, _ = binary(*arguments, "--import=my_own_layers")
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(before)
    assert code == 0 and "clean" in out


def test_the_flag_takes_every_preprocessing(binary):
    _, _, err = binary("evaluate", "--preprocessing=other")
    assert f"<{'|'.join(preprocessing.SCALINGS)}>" in err
