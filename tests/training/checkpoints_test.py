import os
import zipfile

import keras
import numpy as np
import pytest

from inres_tf.errors import UserError
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
    with pytest.raises(UserError, match="weights without a model; give --model and"):
        checkpoints.load_model(tmp_path / "old.weights.h5")


def test_damaged_states_are_rejected(tmp_path):
    path = checkpoints.save(tmp_path, small_model(), {}, 1)
    (path / "state.json").write_text("[]")
    with pytest.raises(UserError, match="damaged: it lacks epoch"):
        checkpoints.restore(path, ("epoch",))
    os.truncate(path / "state.json", 1)
    with pytest.raises(UserError, match="state.json is damaged"):
        checkpoints.restore(path)
