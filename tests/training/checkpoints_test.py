import os
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from inres_tf.errors import UserError
from inres_tf.models import custom_objects
from inres_tf.training import checkpoints


def small_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1, 0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_save_keeps_the_newest_and_deletes_partial_checkpoints(tmp_path):
    model = small_model()
    (tmp_path / ".writing-1-checkpoint-00000001").mkdir()
    for step in (5, 10, 100):
        checkpoints.save(tmp_path, model, {"step": step}, step)
    checkpoints.save(tmp_path, model, {"step": 100, "again": True}, 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-00000010",
        "checkpoint-00000100",
    ]
    newest = checkpoints.list_checkpoints(tmp_path)[-1]
    _, state = checkpoints.restore(newest)
    assert state == {"step": 100, "again": True}


def test_restore_loads_the_model_and_its_optimiser(tmp_path):
    model = small_model()
    x = np.random.default_rng(0).normal(size=(4, 2))
    model.fit(x, np.zeros((4, 3)), verbose=0)
    path = checkpoints.save(tmp_path, model, {"loss": 0.1 + 0.2}, 1)
    restored, state = checkpoints.restore(path)
    assert state == {"loss": 0.1 + 0.2}
    for a, b in zip(model.weights, restored.weights):
        np.testing.assert_array_equal(a, b)
    assert len(model.optimizer.variables) == len(restored.optimizer.variables) > 2
    for a, b in zip(model.optimizer.variables, restored.optimizer.variables):
        np.testing.assert_array_equal(a, b)


def test_the_newest_undamaged_checkpoint_is_found(tmp_path, capfd):
    assert checkpoints.newest(tmp_path) is None
    older, newer = (checkpoints.save(tmp_path, small_model(), {}, n) for n in (1, 2))
    assert checkpoints.newest(tmp_path) == newer
    (newer / "state.json").write_text("{}")
    assert checkpoints.newest(tmp_path) == older
    assert f"{newer / 'state.json'} is damaged: renamed" in capfd.readouterr().err
    (older / "model.keras").write_bytes(b"")
    with pytest.raises(UserError, match=r"model.keras is damaged, and no older one"):
        checkpoints.newest(tmp_path)


def test_find_model_takes_runs_checkpoints_and_files(tmp_path):
    model = small_model()
    older = checkpoints.save(tmp_path / "run" / "checkpoints", model, {}, 1)
    newer = checkpoints.save(tmp_path / "run" / "checkpoints", model, {}, 2)
    for path, expected in (
        (tmp_path / "run", newer),
        (tmp_path / "run" / "checkpoints", newer),
        (older, older),
        (older / "model.keras", older),
    ):
        assert checkpoints.find_model(path) == expected / "model.keras"
    finished = tmp_path / "run" / "model.keras"
    model.save(finished)
    assert checkpoints.find_model(tmp_path / "run") == finished
    for path, message in ((tmp_path, "no checkpoint"), (tmp_path / "x", "not exist")):
        with pytest.raises(UserError, match=message):
            checkpoints.find_model(path)


def test_damaged_files_are_rejected(tmp_path):
    path = tmp_path / "model.keras"
    small_model().save(path)
    content = path.read_bytes()
    assert checkpoints.load_model(path).count_params() == 9
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (b"", b"junk", content[:-100], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"checkpoint {path} is damaged"):
            checkpoints.load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", "zip")
    with pytest.raises(UserError, match="damaged or not a Keras model"):
        checkpoints.load_model(path)


@pytest.mark.filterwarnings("ignore")  # Keras advises against the format
def test_the_older_format_of_keras_is_read(tmp_path):
    model = small_model()
    model.save(tmp_path / "old.h5")
    loaded = checkpoints.load_model(checkpoints.find_model(tmp_path / "old.h5"))
    for value, expected in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(value, expected)
    (tmp_path / "old.keras").write_bytes((tmp_path / "old.h5").read_bytes())
    with pytest.raises(UserError, match="older HDF5 format; rename it to old.h5"):
        checkpoints.load_model(tmp_path / "old.keras")
    model.save_weights(tmp_path / "old.weights.h5")
    with pytest.raises(UserError, match="weights without a model; pass --model and"):
        checkpoints.load_model(tmp_path / "old.weights.h5")


def test_damaged_states_are_rejected(tmp_path):
    path = checkpoints.save(tmp_path, small_model(), {}, 1)
    (path / "state.json").write_text("[]")
    with pytest.raises(UserError, match="damaged: it lacks epoch"):
        checkpoints.restore(path, ("epoch",))
    os.truncate(path / "state.json", 1)
    with pytest.raises(UserError, match="state.json is damaged"):
        checkpoints.restore(path)


def test_models_near_a_path_are_named(tmp_path):
    for run in ("resnet", "in_resnet"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        small_model().save(tmp_path / "runs" / run / "model.keras")
    small_model().save(tmp_path / "best.keras")
    for path, message in (
        ("runs", r"but 2 models, of .* must name one: .*/runs/in_resnet, .*/resnet$"),
        ("run", r"run does not exist \(did you mean '.*/runs'\?\)"),
        ("runs/in-resnet", r"\(did you mean '.*/runs/in_resnet'\?\)"),
        ("best", r"\(did you mean '.*/best.keras'\?\)"),
        ("other", "other does not exist; --checkpoint must be a .keras file, a run's"),
    ):
        with pytest.raises(UserError, match=message):
            checkpoints.find_model(tmp_path / path)
    for number in range(11):
        (tmp_path / "runs" / f"{number}.keras").touch()
    with pytest.raises(UserError, match="13 models.*, .*/7.keras, .* and 3 more$"):
        checkpoints.find_model(tmp_path / "runs")


def test_folders_of_others_do_not_hide_that_a_path_is_missing(tmp_path, monkeypatch):
    (tmp_path / "private").mkdir()
    (tmp_path / "run.keras").touch()
    is_file = pathlib.Path.is_file

    def denied(path):
        if "private" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(pathlib.Path, "is_file", denied)
    with pytest.raises(UserError, match=r"rum does not exist .*mean '.*/run.keras'"):
        checkpoints.find_model(tmp_path / "rum")


def test_a_saved_model_is_not_a_checkpoint(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(UserError, match="is a SavedModel, .* it was exported from"):
        checkpoints.find_model(tmp_path)


OWN_CODE = """
import keras

class Double(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs

@keras.saving.register_keras_serializable("own")
class Triple(keras.layers.Layer):
    def call(self, inputs):
        return 3 * inputs

def squared(inputs):
    return inputs ** 2
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """The name of a module with layers and a function, which is not imported."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_code.py").write_text(OWN_CODE)
    monkeypatch.delitem(sys.modules, "own_code", raising=False)
    before = dict(keras.saving.get_custom_objects())
    yield "own_code"
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(before)


def save_with_own_code(path, module=None, script=False):
    """Saves a model with the layers and the function, and forgets them."""
    before = dict(keras.saving.get_custom_objects())
    space = {"__name__": "__main__" if script else module}
    exec(OWN_CODE, space)
    inputs = keras.Input((2,))
    x = space["Triple"]()(space["Double"]()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, space["squared"])(x))
    model.compile(loss=space["squared"])
    model.save(path)
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(before)
    return model


@pytest.mark.filterwarnings("ignore")  # Keras advises against HDF5
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_that_a_model_needs_is_named_and_can_be_imported(
    suffix, own_module, tmp_path
):
    path = tmp_path / f"own{suffix}"
    model = save_with_own_code(path, own_module)
    with pytest.raises(UserError) as caught:
        checkpoints.load_model(path, compiled=False)
    assert str(caught.value).startswith(f"{path} needs Double, Triple, squared, ")
    known = own_module if suffix == ".keras" else "MODULE"
    assert str(caught.value).endswith(f"with --import={known}")
    custom_objects.import_modules([own_module])
    loaded = checkpoints.load_model(path, compiled=False)
    pixels = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(loaded.predict(pixels), model.predict(pixels))


def test_code_of_a_script(tmp_path):
    path = tmp_path / "own.keras"
    save_with_own_code(path, script=True)
    with pytest.raises(UserError, match="Double.*Keras does not have.*import=MODULE$"):
        checkpoints.load_model(path, compiled=False)


def test_the_code_of_lambda_layers_is_not_run(tmp_path):
    inputs = keras.Input((2,))
    outputs = keras.layers.Lambda(lambda x: x + 1)(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(loss=keras.losses.mean_squared_error)  # which is not the problem
    model.save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="holds a Lambda layer, whose code is not run"):
        checkpoints.load_model(tmp_path / "model.keras")


def test_modules_that_cannot_be_imported(own_module, tmp_path):
    (tmp_path / "own_code.py").write_text("1 / 0")
    with pytest.raises(UserError, match="--import=own_code fails: ZeroDivisionError"):
        custom_objects.import_modules([own_module])
    with pytest.raises(UserError, match="--import=other_code fails: ModuleNotFound"):
        custom_objects.import_modules(["other_code"])


def test_files_that_other_programs_are_writing_are_kept(tmp_path):
    """Into a run's folder, such as an export; those of dead processes are deleted."""
    folder = tmp_path / "checkpoints"
    checkpoints.save(folder, small_model(), {}, 1)
    alive = tmp_path / f".writing-{os.getpid()}-result.json"
    alive.touch()
    with subprocess.Popen(["true"]) as process:
        process.wait()
    (tmp_path / f".writing-{process.pid}-export").mkdir()
    checkpoints.newest(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", alive.name}
    os.utime(alive, (0, 0))  # perhaps by a process on another machine
    checkpoints.newest(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
