"""Models of scaled pixels as models of pixels in [0, 255]."""

import keras
import numpy as np
import pytest

from inres_tf import class_names
from inres_tf.models import with_preprocessing
from inres_tf.models.preprocessing import SCALINGS

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3)).astype(np.float32)


def identity(channels=3):
    inputs = keras.Input((5, 5, channels))
    return keras.Model(inputs, keras.layers.Identity()(inputs), name="own")


@pytest.mark.parametrize(
    ("name", "application"),
    [
        ("symmetric", keras.applications.mobilenet_v2),
        ("imagenet", keras.applications.densenet),
        ("caffe", keras.applications.resnet50),
    ],
)
def test_scalings_are_those_of_keras_applications(name, application):
    expected = application.preprocess_input(PIXELS.copy())
    found = with_preprocessing(identity(), name)(PIXELS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(SCALINGS[name](PIXELS), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["unit", "symmetric"])
def test_grey_images(name):
    grey = PIXELS[..., :1]
    found = with_preprocessing(identity(1), name)(grey)
    expected = grey / 255 if name == "unit" else grey / 127.5 - 1
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(SCALINGS[name](grey), expected, atol=1e-6)


def test_none_is_the_model_itself():
    model = identity()
    assert with_preprocessing(model, "none") is model
    np.testing.assert_array_equal(SCALINGS["none"](PIXELS), PIXELS)


@pytest.mark.parametrize("kind", ["functional", "sequential", "nested"])
def test_layers_and_names_are_shared(kind, tmp_path):
    model = keras.Sequential(
        [keras.Input((5, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    if kind != "sequential":
        graph = keras.Model(model.inputs[0], model.outputs[0])
        inputs = keras.Input((5, 5, 3))
        model = graph if kind == "functional" else keras.Model(inputs, graph(inputs))
    class_names.assign(model, ("cat", "dog"))
    scaled = with_preprocessing(model, "symmetric")
    assert scaled.name == model.name and class_names.of(scaled) == ("cat", "dog")
    assert scaled.input_shape == (None, 5, 5, 3)
    np.testing.assert_allclose(scaled(PIXELS), model(PIXELS / 127.5 - 1), atol=1e-5)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    expected = model(PIXELS / 127.5 - 1)
    np.testing.assert_allclose(scaled(PIXELS), expected, atol=1e-4)
    scaled.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(PIXELS), expected, atol=1e-4)


class Subclassed(keras.Model):
    def call(self, images):
        return images


def test_what_cannot_be_scaled():
    with pytest.raises(ValueError, match="must be one of none, .* Received: name='tf'"):
        with_preprocessing(identity(), "tf")
    for name in ("caffe", "imagenet"):
        with pytest.raises(ValueError, match=f"'{name}' is of images of 3 channels"):
            with_preprocessing(identity(1), name)
    with pytest.raises(ValueError, match="is a subclassed model"):
        with_preprocessing(Subclassed(), "unit")


def test_inputs_of_integers_do_not_round():
    inputs = keras.Input((5, 5, 3), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(inputs)
    found = with_preprocessing(keras.Model(inputs, x), "unit")(PIXELS)
    np.testing.assert_allclose(found, PIXELS / 255, atol=1e-6)
