import os
import zipfile

import keras
import numpy as np
import pytest

from inres_tf import files
from inres_tf.errors import UserError
from inres_tf.training import checkpoints


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def small():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1, 0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_appears_whole_or_not_at_all(kind, tmp_path):
    path = tmp_path / "deep" / "it"

    def write(target, text):
        if kind == "folder":
            target.mkdir()
            target = target / "part"
        target.write_text(text)

    def read():
        return (path / "part" if kind == "folder" else path).read_text()

    with files.atomic(path) as temporary:
        write(temporary, "one")
        assert not path.exists()
    assert read() == "one"
    with pytest.raises(RuntimeError), files.atomic(path) as temporary:
        write(temporary, "two")
        raise RuntimeError
    assert read() == "one" and names(path.parent) == ["it"]
    with files.atomic(path) as temporary:
        write(temporary, "three")
        assert read() == "one"
    assert read() == "three" and names(path.parent) == ["it"]


def test_a_failed_swap_keeps_the_old_folder(tmp_path, monkeypatch):
    path = tmp_path / "it"
    path.mkdir()
    (path / "part").write_text("one")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with (
        pytest.raises(OSError, match="No space"),
        files.atomic(path) as temporary,
    ):
        temporary.mkdir()
    assert (path / "part").read_text() == "one" and names(tmp_path) == ["it"]


def test_what_lies_beside_a_file_is_not_touched(tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    files.write_text(tmp_path / "result.json", "λ")
    assert (tmp_path / "result.json").read_text(encoding="utf-8") == "λ"


def test_keeps_the_newest_and_clears_what_a_killed_process_left(tmp_path):
    model = small()
    (tmp_path / ".writing-1-checkpoint-00000001").mkdir()
    for step in (5, 10, 100):
        checkpoints.save(tmp_path, model, {"step": step}, step)
    checkpoints.save(tmp_path, model, {"step": 100, "again": True}, 100)
    assert names(tmp_path) == ["checkpoint-00000010", "checkpoint-00000100"]
    newest = checkpoints.list_checkpoints(tmp_path)[-1]
    _, state = checkpoints.restore(newest)
    assert state == {"step": 100, "again": True}


def test_restores_the_model_and_its_optimiser(tmp_path):
    model = small()
    x = np.random.default_rng(0).normal(size=(4, 2))
    model.fit(x, np.zeros((4, 3)), verbose=0)
    path = checkpoints.save(tmp_path, model, {"loss": 0.1 + 0.2}, 1)
    again, state = checkpoints.restore(path)
    assert state == {"loss": 0.1 + 0.2}
    for a, b in zip(model.weights, again.weights):
        np.testing.assert_array_equal(a, b)
    assert len(model.optimizer.variables) == len(again.optimizer.variables) > 2
    for a, b in zip(model.optimizer.variables, again.optimizer.variables):
        np.testing.assert_array_equal(a, b)


def test_finds_the_model_that_is_meant(tmp_path):
    model = small()
    older = checkpoints.save(tmp_path / "run" / "checkpoints", model, {}, 1)
    newer = checkpoints.save(tmp_path / "run" / "checkpoints", model, {}, 2)
    for given, found in (
        (tmp_path / "run", newer),
        (tmp_path / "run" / "checkpoints", newer),
        (older, older),
        (older / "model.keras", older),
    ):
        assert checkpoints.find_model(given) == found / "model.keras"
    finished = tmp_path / "run" / "model.keras"
    model.save(finished)
    assert checkpoints.find_model(tmp_path / "run") == finished
    for wrong, message in ((tmp_path, "no checkpoint"), (tmp_path / "x", "not exist")):
        with pytest.raises(UserError, match=message):
            checkpoints.find_model(wrong)


def test_damaged_files_are_said(tmp_path):
    path = tmp_path / "model.keras"
    small().save(path)
    whole = path.read_bytes()
    assert checkpoints.load_model(path).count_params() == 9
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", b"junk", whole[:-100], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"checkpoint {path} is damaged"):
            checkpoints.load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", "zip")
    with pytest.raises(UserError, match="damaged or no Keras model"):
        checkpoints.load_model(path)
    saved = checkpoints.save(tmp_path / "all", small(), {}, 1)
    (saved / "state.json").write_text("[]")
    with pytest.raises(UserError, match="damaged: it lacks epoch"):
        checkpoints.restore(saved, ("epoch",))
    os.truncate(saved / "state.json", 1)
    with pytest.raises(UserError, match="state.json is damaged"):
        checkpoints.restore(saved)
