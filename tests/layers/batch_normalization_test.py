import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf.layers import BatchNormalization


def normalized(x, mean, variance, gamma, beta, epsilon):
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def both_batch_normalizations(rng, shape=(4, 5, 6, 3), **options):
    """Our layer and that of Keras, with the same random weights."""
    layers = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    for layer in layers:
        layer.build(shape)
    layers[0].set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layers[0].weights])
    layers[1].set_weights(layers[0].get_weights())
    return layers


@pytest.mark.parametrize("side", [1, 5])
def test_matches_the_formula(side, rng):
    x = rng.normal(2.0, 3.0, (4, side, side, 3)).astype(np.float32)
    options = {"momentum": 0.8, "epsilon": 1e-2}
    layer, _ = both_batch_normalizations(rng, x.shape, **options)
    gamma, beta, mean, variance = layer.get_weights()
    expected = normalized(x, mean, variance, gamma, beta, 1e-2)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)

    batch_mean, batch_variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = normalized(x, batch_mean, batch_variance, gamma, beta, 1e-2)
    np.testing.assert_allclose(layer(x, training=True), expected, rtol=1e-4, atol=1e-5)
    _, _, new_mean, new_variance = layer.get_weights()
    np.testing.assert_allclose(new_mean, 0.8 * mean + 0.2 * batch_mean, rtol=1e-5)
    np.testing.assert_allclose(
        new_variance, 0.8 * variance + 0.2 * batch_variance, rtol=1e-5
    )


def test_a_single_value_has_variance_0(rng):
    layer, _ = both_batch_normalizations(rng)
    _, beta, _, variance = layer.get_weights()
    outputs = layer(rng.normal(size=(1, 1, 1, 3)), training=True)
    np.testing.assert_allclose(np.asarray(outputs)[0, 0, 0], beta, rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.99 * variance, rtol=1e-5)


# Arguments of the layer, shape of the inputs, and whether the fused operation is used
# in (inference, training).
CASES = {
    "fused": ({"momentum": 0.9}, (4, 5, 6, 3), (True, True)),
    "last_axis": ({"axis": 3}, (4, 5, 6, 3), (True, True)),
    "frozen": ({"trainable": False}, (4, 5, 6, 3), (True, True)),
    "synchronized": ({"synchronized": True}, (4, 5, 6, 3), (True, False)),
    "channels_first": ({"axis": 1}, (4, 5, 6, 3), (False, False)),
    "unscaled": ({"scale": False}, (4, 5, 6, 3), (False, False)),
    "uncentred": ({"center": False}, (4, 5, 6, 3), (False, False)),
    "renorm": ({"renorm": True}, (4, 5, 6, 3), (False, False)),
    "float64": ({"dtype": "float64"}, (4, 5, 6, 3), (False, False)),
    "vectors": ({}, (40, 3), (False, False)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_matches_keras(case, training, rng):
    options, shape, fused = CASES[case]
    parameters = inspect.signature(keras.layers.BatchNormalization).parameters
    if case == "renorm" and case not in parameters:
        pytest.skip("no renormalisation in this version of Keras")
    layers = both_batch_normalizations(rng, shape, **options)
    x = tf.constant(rng.normal(1.0, 2.0, shape), layers[0].compute_dtype)
    results = []
    for layer in layers:

        @tf.function
        def second_order(x, layer=layer):
            """Outputs, gradients and the gradient of a gradient."""
            targets = [x, *(w.value for w in layer.trainable_variables)]
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(targets)
                    outputs = layer(x, training=training)
                    loss = tf.reduce_sum(tf.sin(outputs))
                gradients = inner.gradient(loss, targets)
                loss = tf.reduce_sum(gradients[0] ** 2)
            return [outputs, *gradients, outer.gradient(loss, x)]

        graph = second_order.get_concrete_function(x).graph
        types = {operation.type for operation in graph.get_operations()}
        is_fused = layer is layers[0] and fused[training]
        assert ("FusedBatchNormV3" in types) == is_fused
        results.append([*second_order(x), *layer.get_weights()])
    for a, b in zip(*results, strict=True):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale)
    restored = BatchNormalization.from_config(layers[0].get_config())
    assert restored.get_config() == layers[0].get_config()
    assert set(layers[1].get_config()) == set(layers[0].get_config())


def test_masked_values_are_ignored(rng):
    x = rng.normal(size=(4, 5, 6, 3)).astype(np.float32)
    mask = tf.constant(rng.random((4, 5, 6)) < 0.5)
    layers = both_batch_normalizations(rng)
    outputs, expected = (layer(x, training=True, mask=mask) for layer in layers)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    for a, b in zip(*(layer.get_weights() for layer in layers)):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    "dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"]
)
def test_low_precision(dtype, training, rng):
    """Only the activations are rounded, since everything else is float32."""
    low, _ = both_batch_normalizations(rng, dtype=dtype, momentum=0.5)
    full, _ = both_batch_normalizations(rng, momentum=0.5)
    full.set_weights([np.float32(w) for w in low.get_weights()])
    # Sums in low precision would be inaccurate for a mean far from zero.
    x = tf.cast(rng.normal(50.0, 2.0, (4, 5, 6, 3)), low.compute_dtype)
    outputs, expected = low(x, training=training), full(x, training=training)
    assert outputs.dtype == low.compute_dtype
    rounding = 2.0**-8 if "bfloat16" in dtype else 2.0**-11
    np.testing.assert_allclose(
        tf.cast(outputs, "float32"), expected, rtol=1.01 * rounding, atol=1e-4
    )
    tolerance = 1e-5 if dtype.startswith("mixed") else 1.01 * rounding
    for a, b in zip(low.get_weights(), full.get_weights()):
        np.testing.assert_allclose(np.float32(a), b, rtol=tolerance)


def test_compiled_by_xla(rng):
    """`Model.fit` compiles layers this way."""
    x = tf.constant(rng.normal(1.0, 2.0, (2, 2, 1, 3)), tf.float32)
    layer, other = both_batch_normalizations(rng)
    compiled = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    np.testing.assert_allclose(compiled(x), other(x, training=True), rtol=1e-4)
    for a, b in zip(layer.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def with_keras_batch_normalization(model):
    """The same network with the batch normalisation of Keras."""
    return keras.models.clone_model(
        model,
        clone_function=lambda layer: (
            keras.layers.BatchNormalization.from_config(layer.get_config())
            if isinstance(layer, BatchNormalization)
            else type(layer).from_config(layer.get_config())
        ),
    )


def save(model, path):
    model.save(path) if path.suffix == ".keras" else model.save_weights(path)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_files_are_interchangeable_with_keras(suffix, tmp_path, rng):
    model = zoo.InResNet8(input_shape=(8, 8, 3))
    model.set_weights([rng.uniform(0.1, 0.2, w.shape) for w in model.weights])
    keras_model = with_keras_batch_normalization(model)
    assert not any(isinstance(x, BatchNormalization) for x in keras_model.layers)
    keras_model.set_weights(model.get_weights())
    pixels = rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    path = tmp_path / f"model{suffix}"
    save(keras_model, path)
    restored = zoo.InResNet8(input_shape=(8, 8, 3), weights=path)
    np.testing.assert_array_equal(restored(pixels), model(pixels))
    if suffix == ".keras":
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(loaded(pixels), keras_model(pixels))

    path = tmp_path / f"fused{suffix}"
    save(model, path)
    keras_model = with_keras_batch_normalization(zoo.InResNet8(input_shape=(8, 8, 3)))
    keras_model.load_weights(path)
    for a, b in zip(keras_model.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)
