import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from inres_tf.models import check_classifier, logits_fn, with_float_inputs

L = keras.layers


def network(dtype="uint8", preprocessing=None):
    inputs = keras.Input((4, 4, 1), dtype=dtype)
    x = (preprocessing or L.Rescaling(1 / 255))(inputs)
    return keras.Model(inputs, L.Dense(3, "softmax")(L.Flatten()(x)))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (5, 4, 4, 1))


def input_gradient(model, images):
    logits = logits_fn(model)
    pixels = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        loss = tf.reduce_sum(logits(pixels) ** 2)
    return np.asarray(tape.gradient(loss, pixels))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bfloat16", "float16"])
def test_gradients_pass_input_layers_of_every_type(dtype, images):
    model, expected = network(dtype), network("float32")
    expected.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        input_gradient(model, images), input_gradient(expected, images)
    )
    halves = tf.constant(images / 2, tf.float32)
    np.testing.assert_array_equal(logits_fn(model)(halves), logits_fn(expected)(halves))


@pytest.mark.parametrize("sequential", [True, False])
def test_gradients_pass_nested_models(sequential, images):
    inner = network()
    if sequential:
        inner = keras.Sequential([keras.Input((4, 4, 1), dtype="uint8"), L.Flatten()])
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, L.Dense(3)(inner(inputs)))
    assert np.abs(input_gradient(model, images)).max() > 0
    np.testing.assert_allclose(
        logits_fn(model)(tf.constant(images, tf.float32)), model(images), rtol=1e-5
    )


def test_the_twin_shares_the_variables_and_is_made_once(images):
    model = network()
    twin = with_float_inputs(model)
    assert with_float_inputs(model) is twin
    model.layers[-1].bias.assign([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(twin(images), model(images))
    assert model.inputs[0].dtype == "uint8" and model.name == twin.name
    floats = network("float32")
    assert with_float_inputs(floats) is floats


def test_the_twin_does_not_keep_the_model():
    model = network()
    with_float_inputs(model)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    ("preprocessing", "problem"),
    [
        (lambda x: keras.ops.cast(x * x, "float32"), "computes other outputs"),
        (lambda x: keras.ops.cast(keras.ops.bitwise_and(x, x), "float32"), "raises"),
    ],
)
def test_arithmetic_of_integers_is_refused(preprocessing, problem):
    model = network(preprocessing=preprocessing)
    with pytest.raises(ValueError, match=f"inputs of type uint8, .* {problem}"):
        check_classifier(model)


def test_a_saturated_softmax_does_not_hide_other_numbers():
    model = network(preprocessing=lambda x: keras.ops.cast(x * x, "float32"))
    dense = model.layers[-1]
    dense.set_weights([np.zeros((16, 3)), np.array([1e6, 0, 0])])
    with pytest.raises(ValueError, match="computes other outputs"):
        check_classifier(model)


def test_random_networks_are_not_refused():
    noise = L.GaussianNoise(1.0)
    check_classifier(network(preprocessing=lambda x: noise(x / 255, training=True)))
