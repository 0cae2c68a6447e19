import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf.errors import UserError
from inres_tf.models.logits import logits_fn
from inres_tf.serving import saved_model

# A serving process, which has TensorFlow but neither Keras nor this project.
SERVE = """
import sys
for name in ("keras", "inres_tf", "zoo", "train", "sklearn", "cleverhans"):
    sys.modules[name] = None
import json
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
images = np.load(sys.argv[2])
for count in (1, len(images)):
    out = serve(images=tf.constant(images[:count]))
np.savez(sys.argv[3], **{k: v.numpy() for k, v in out.items()})
"""


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    return saved_model.export(trained, tmp_path_factory.mktemp("export") / "model")


def test_serving_needs_only_tensorflow(trained, saved, digits, tmp_path):
    images = digits.test.images[:13]
    np.save(tmp_path / "images.npy", images)
    arguments = [saved, tmp_path / "images.npy", tmp_path / "out.npz"]
    subprocess.run(
        [sys.executable, "-c", SERVE, *map(str, arguments)],
        cwd=tmp_path,
        check=True,
        timeout=600,
    )
    out = np.load(tmp_path / "out.npz")
    assert set(out) == {"logits", "probabilities", "class_ids"}
    logits = np.asarray(logits_fn(trained)(tf.constant(images, tf.float32)))
    np.testing.assert_allclose(out["logits"], logits, rtol=0, atol=1e-5)
    probabilities = trained.predict(images, verbose=0)
    np.testing.assert_allclose(out["probabilities"], probabilities, atol=1e-6)
    np.testing.assert_array_equal(out["class_ids"], probabilities.argmax(-1))


def test_signature_takes_uint8_images_of_any_batch_size(saved):
    signature = tf.saved_model.load(saved).signatures["serving_default"]
    _, arguments = signature.structured_input_signature
    assert arguments == {
        "images": tf.TensorSpec((None, 8, 8, 1), tf.uint8, name="images")
    }


def test_exports_in_float32(digits, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = zoo.InResNet8(input_shape=(8, 8, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    full = zoo.InResNet8(input_shape=(8, 8, 1), classifier_activation=None)
    full.set_weights(half.get_weights())
    path = saved_model.export(half, tmp_path / "model")
    images = digits.test.images[:5]
    out = tf.saved_model.load(path).signatures["serving_default"](images=images)
    np.testing.assert_allclose(out["logits"], full(images), atol=1e-5)


def test_overwrite(trained, tmp_path):
    path = saved_model.export(trained, tmp_path / "model")
    before = (path / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(UserError, match="choose another --output or pass --overwrite"):
        saved_model.export(trained, path)
    assert (path / "saved_model.pb").stat().st_mtime_ns == before
    saved_model.export(trained, path, overwrite=True)
    assert (path / "saved_model.pb").stat().st_mtime_ns > before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    with pytest.raises(UserError, match="is not a SavedModel"):
        saved_model.export(trained, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "notes").read_text() == "keep"
    assert {p.name for p in tmp_path.iterdir()} == {"model", "mine"}


def test_a_failed_export_leaves_nothing(trained, tmp_path, monkeypatch):
    def replace(source, target):
        assert (source / "saved_model.pb").is_file()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        saved_model.export(trained, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(9, 9, 1), (8, 8, 3)])
def test_images_of_another_size_are_refused(shape, saved):
    """The signature alone does not, and the network pools whatever it gets."""
    serve = tf.saved_model.load(saved).signatures["serving_default"]
    height, width, channels = shape
    message = (
        rf"\[2,{height},{width},{channels}\] is not .* expected shape \[\?,8,8,1\]"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        serve(images=tf.zeros((2, *shape), tf.uint8))
