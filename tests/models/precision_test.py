import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf.models import in_float32, in_float64


def model_in(policy):
    keras.config.set_dtype_policy(policy)
    try:
        return zoo.InResNet8(input_shape=(8, 8, 1), classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")


def test_float32_models_are_returned_unchanged():
    model = model_in("float32")
    assert in_float32(model) is model


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_lower_precision_is_copied_to_float32(policy, rng):
    half, full = model_in(policy), model_in("float32")
    full.set_weights(half.get_weights())
    copy = in_float32(half)
    assert copy is not half and copy.name == half.name
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    pixels = rng.integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    np.testing.assert_array_equal(copy(pixels), full(pixels))


def test_the_copy_is_made_once_and_has_the_current_weights():
    half = model_in("mixed_bfloat16")
    copy = in_float32(half)
    half.get_layer("predictions").bias.assign(range(10))
    assert in_float32(half) is copy
    bias = copy.get_layer("predictions").bias.numpy()
    np.testing.assert_array_equal(bias, range(10))


class Doubled(keras.Model):
    """A functional model that computes something else than its graph."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def test_lambdas_and_models_with_a_call_of_their_own_are_copied(rng):
    inputs = keras.Input((3,))
    third = keras.layers.Lambda(lambda x: x / 3)(inputs)
    half = keras.layers.Dense(2, dtype="mixed_bfloat16")
    doubled = Doubled(inputs, half(inputs))
    pixels = rng.uniform(0, 1, (4, 3)).astype(np.float32)
    for model, factor in (
        (keras.Model(inputs, half(third)), 1 / 3),
        (keras.Sequential([keras.Input((3,)), doubled]), 2),
    ):
        kernel = model.weights[0].numpy()
        found = in_float32(model)(pixels)
        np.testing.assert_allclose(found, factor * (pixels @ kernel), rtol=1e-5)


def test_copies_have_the_statistics_of_adapted_layers(rng):
    pixels = rng.uniform(0, 255, (40, 3)).astype(np.float32)
    scale = keras.layers.Normalization()
    scale.adapt(pixels)
    rate = keras.layers.Dense(2, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((3,)), scale, rate])
    expected = (pixels - pixels.mean(0)) / pixels.std(0) @ rate.kernel.numpy()
    for copy in (in_float32(model), in_float64(model)):
        np.testing.assert_allclose(copy(pixels), expected, rtol=1e-4, atol=1e-5)
    scale.adapt(2 * pixels)
    found = in_float32(model)(2 * pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_each_strategy_has_its_own_copy():
    half = model_in("mixed_bfloat16")
    copy = in_float32(half)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        mirrored = in_float32(half)
    assert mirrored is not copy and in_float32(half) is copy


def test_the_copy_does_not_keep_the_model():
    half = model_in("mixed_bfloat16")
    in_float32(half)
    reference = weakref.ref(half)
    del half
    gc.collect()
    assert reference() is None
