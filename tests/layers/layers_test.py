import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf.layers import (
    BatchNormalization,
    GroupedConv2D,
    UniformNoise,
    tensorflow_ops,
)
from inres_tf.serving import saved_model

OPTIONS = [
    {"groups": 4, "padding": "same"},
    {"groups": 2, "strides": 2, "padding": "valid"},
    {"groups": 8, "padding": "same", "dilation_rate": 2, "activation": "relu"},
    {"groups": 1, "padding": "same", "use_bias": False},
]


def grouped(inputs, kernel, groups):
    """One plain convolution a group, in NumPy; padding 'valid', stride 1."""
    height, width = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (height, width), (1, 2))
    outputs = [
        np.einsum("nxyihw,hwio->nxyo", part, weights)
        for part, weights in zip(
            np.split(windows, groups, axis=3), np.split(kernel, groups, axis=3)
        )
    ]
    return np.concatenate(outputs, axis=-1)


@pytest.fixture(params=[True, False], ids=["native", "split"])
def both_ways(request, monkeypatch):
    """With TensorFlow's own operation, and as where it does not run."""
    if request.param:
        if not tensorflow_ops.runs("float32"):
            pytest.skip("no grouped convolution of TensorFlow's own on this machine")
    else:
        monkeypatch.setattr(tensorflow_ops, "runs", lambda dtype: False)


def test_grouped_convolution_is_one_convolution_a_group(both_ways, rng):
    images = rng.normal(size=(2, 7, 6, 8)).astype(np.float32)
    layer = GroupedConv2D(12, (3, 2), groups=4, use_bias=False)
    layer.build(images.shape)
    assert layer.kernel.shape == (3, 2, 2, 12)
    expected = grouped(images, layer.kernel.numpy(), 4)
    np.testing.assert_allclose(layer(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"groups{o['groups']}")
def test_grouped_convolution_is_that_of_keras(both_ways, options, rng):
    images = tf.constant(rng.normal(size=(2, 9, 9, 8)), tf.float32)
    layer = GroupedConv2D(16, 3, **options)
    layer.build(images.shape)
    other = keras.layers.Conv2D(16, 3, **options)
    other.build(images.shape)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    other.set_weights(layer.get_weights())
    results = []
    for one in (layer, other):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = one(images)
            loss = tf.reduce_sum(tf.sin(outputs))
        kernel = one.kernel.value
        results.append([outputs, *tape.gradient(loss, [images, kernel])])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    again = GroupedConv2D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert set(other.get_config()) == set(layer.get_config())


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_grouped_convolution_trains_in_low_precision(dtype, rng):
    images = rng.normal(size=(2, 5, 5, 8)).astype(np.float32)
    low, full = (GroupedConv2D(8, 3, groups=4, dtype=d) for d in (dtype, "float32"))
    for layer in (low, full):
        layer.build(images.shape)
    full.set_weights(low.get_weights())
    gradients = []
    for layer in (low, full):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(layer(images), tf.float32) ** 2)
        gradients.append(tape.gradient(loss, layer.kernel.value).numpy())
    assert np.abs(gradients[0] - gradients[1]).max() < 0.05 * np.abs(gradients[1]).max()


def normalized(x, mean, variance, gamma, beta, epsilon):
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def both_batch_normalizations(rng, shape=(4, 5, 6, 3), **options):
    """Ours and Keras', with the same random weights."""
    layers = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    for layer in layers:
        layer.build(shape)
    layers[0].set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layers[0].weights])
    layers[1].set_weights(layers[0].get_weights())
    return layers


@pytest.mark.parametrize("side", [1, 5])
def test_batch_normalization_is_the_formula(side, rng):
    x = rng.normal(2.0, 3.0, (4, side, side, 3)).astype(np.float32)
    options = {"momentum": 0.8, "epsilon": 1e-2}
    layer, _ = both_batch_normalizations(rng, x.shape, **options)
    gamma, beta, mean, variance = layer.get_weights()
    expected = normalized(x, mean, variance, gamma, beta, 1e-2)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)

    own_mean, own_variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = normalized(x, own_mean, own_variance, gamma, beta, 1e-2)
    found = layer(x, training=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    _, _, found_mean, found_variance = layer.get_weights()
    np.testing.assert_allclose(found_mean, 0.8 * mean + 0.2 * own_mean, rtol=1e-5)
    np.testing.assert_allclose(
        found_variance, 0.8 * variance + 0.2 * own_variance, rtol=1e-5
    )


def test_batch_normalization_of_one_value_has_no_variance(rng):
    layer, _ = both_batch_normalizations(rng)
    _, beta, _, variance = layer.get_weights()
    found = layer(rng.normal(size=(1, 1, 1, 3)), training=True)
    np.testing.assert_allclose(np.asarray(found)[0, 0, 0], beta, rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.99 * variance, rtol=1e-5)


# The layer's arguments, the shape of its inputs, and whether the operation is
# TensorFlow's own in (inference, training).
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
def test_batch_normalization_is_that_of_keras(case, training, rng):
    options, shape, fused = CASES[case]
    known = inspect.signature(keras.layers.BatchNormalization).parameters
    if case == "renorm" and case not in known:
        pytest.skip("no renormalisation in this version of Keras")
    layers = both_batch_normalizations(rng, shape, **options)
    x = tf.constant(rng.normal(1.0, 2.0, shape), layers[0].compute_dtype)
    results = []
    for layer in layers:

        @tf.function
        def second_order(x, layer=layer):
            """Outputs, gradients, and the gradient of a gradient."""
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

        kinds = {
            operation.type
            for operation in second_order.get_concrete_function(
                x
            ).graph.get_operations()
        }
        ours = layer is layers[0] and fused[training]
        assert ("FusedBatchNormV3" in kinds) == ours
        results.append([*second_order(x), *layer.get_weights()])
    for a, b in zip(*results, strict=True):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale)
    again = BatchNormalization.from_config(layers[0].get_config())
    assert again.get_config() == layers[0].get_config()
    assert set(layers[1].get_config()) == set(layers[0].get_config())


def test_batch_normalization_leaves_out_what_is_masked(rng):
    x = rng.normal(size=(4, 5, 6, 3)).astype(np.float32)
    mask = tf.constant(rng.random((4, 5, 6)) < 0.5)
    layers = both_batch_normalizations(rng)
    ours, theirs = (layer(x, training=True, mask=mask) for layer in layers)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for a, b in zip(*(layer.get_weights() for layer in layers)):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    "dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"]
)
def test_batch_normalization_in_low_precision(dtype, training, rng):
    """All but the activations is float32: outputs are off by their own rounding."""
    low, _ = both_batch_normalizations(rng, dtype=dtype, momentum=0.5)
    full, _ = both_batch_normalizations(rng, momentum=0.5)
    full.set_weights([np.float32(w) for w in low.get_weights()])
    # A mean far from zero, which sums in low precision would lose.
    x = tf.cast(rng.normal(50.0, 2.0, (4, 5, 6, 3)), low.compute_dtype)
    found, expected = low(x, training=training), full(x, training=training)
    assert found.dtype == low.compute_dtype
    rounding = 2.0**-8 if "bfloat16" in dtype else 2.0**-11
    np.testing.assert_allclose(
        tf.cast(found, "float32"), expected, rtol=1.01 * rounding, atol=1e-4
    )
    tolerance = 1e-5 if dtype.startswith("mixed") else 1.01 * rounding
    for a, b in zip(low.get_weights(), full.get_weights()):
        np.testing.assert_allclose(np.float32(a), b, rtol=tolerance)


def test_batch_normalization_is_the_same_compiled_by_xla(rng):
    """As `Model.fit` compiles it."""
    x = tf.constant(rng.normal(1.0, 2.0, (2, 2, 1, 3)), tf.float32)
    layer, other = both_batch_normalizations(rng)
    compiled = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    np.testing.assert_allclose(compiled(x), other(x, training=True), rtol=1e-4)
    for a, b in zip(layer.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def with_keras_batch_normalization(model):
    """The same network with Keras' own layers, as it was once saved."""
    return keras.models.clone_model(
        model,
        clone_function=lambda layer: (
            keras.layers.BatchNormalization.from_config(layer.get_config())
            if isinstance(layer, BatchNormalization)
            else type(layer).from_config(layer.get_config())
        ),
    )


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_files_fit_both_batch_normalizations(suffix, tmp_path, rng):
    model = zoo.InResNet8(input_shape=(8, 8, 3))
    model.set_weights([rng.uniform(0.1, 0.2, w.shape) for w in model.weights])
    theirs = with_keras_batch_normalization(model)
    assert not any(isinstance(x, BatchNormalization) for x in theirs.layers)
    theirs.set_weights(model.get_weights())
    pixels = rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    path = tmp_path / f"model{suffix}"
    theirs.save(path) if suffix == ".keras" else theirs.save_weights(path)
    again = zoo.InResNet8(input_shape=(8, 8, 3), weights=path)
    np.testing.assert_array_equal(again(pixels), model(pixels))
    if suffix == ".keras":
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(loaded(pixels), theirs(pixels))

    path = tmp_path / f"ours{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    theirs = with_keras_batch_normalization(zoo.InResNet8(input_shape=(8, 8, 3)))
    theirs.load_weights(path)
    for a, b in zip(theirs.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def graph_of(model, folder):
    saved_model.export(model, folder)
    return (folder / "saved_model.pb").read_bytes()


def test_exports_need_no_xla(tmp_path, rng):
    model = zoo.InResNeXt11_4x16d(input_shape=(8, 8, 3))
    model.set_weights(
        [
            w if v.name == "moving_variance" else rng.normal(0, 0.1, w.shape)
            for v, w in zip(model.weights, model.get_weights())
        ]
    )
    assert b"_XlaMustCompile" not in graph_of(model, tmp_path / "ours")
    pixels = rng.integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    serve = tf.saved_model.load(tmp_path / "ours").signatures["serving_default"]
    served = serve(images=tf.constant(pixels))["probabilities"]
    np.testing.assert_allclose(served, model(pixels), rtol=1e-4, atol=1e-6)

    inputs = keras.Input((4, 4, 4))
    x = keras.layers.Conv2D(4, 3, groups=2)(inputs)
    outputs = keras.layers.GlobalAveragePooling2D()(x)
    keras_own = keras.Model(inputs, outputs)
    assert b"_XlaMustCompile" in graph_of(keras_own, tmp_path / "keras")


def test_uniform_noise():
    x = np.full((64, 100), 5.0, np.float32)
    layer = UniformNoise(0.5, seed=3)
    np.testing.assert_array_equal(layer(x), x)
    noise = np.asarray(layer(x, training=True)) - x
    assert 0 <= noise.min() < 0.01 and 0.49 < noise.max() <= 0.5
    # The largest distance from the distribution function of U(0, 0.5): Kolmogorov's
    # statistic stays below 1.95 / sqrt(n) but once in a thousand seeds.
    ranks = np.arange(1, noise.size + 1) / noise.size
    distance = np.abs(np.sort(noise.ravel()) / 0.5 - ranks).max()
    assert distance < 1.95 / np.sqrt(noise.size)
    assert not np.array_equal(layer(x, training=True) - x, noise)
    again = UniformNoise.from_config(layer.get_config())
    np.testing.assert_array_equal(again(x, training=True) - x, noise)
    for wrong in (0, -1.0, float("inf"), "a"):
        with pytest.raises(ValueError, match="positive finite number. Received: high="):
            UniformNoise(wrong)


def test_tensorflows_own_operation_is_taken_where_it_runs(monkeypatch):
    layer = GroupedConv2D(8, 3, groups=4)
    layer.build((None, 8, 8, 8))

    def convolutions():
        graph = tf.function(lambda x: layer(x)).get_concrete_function(
            tf.TensorSpec((1, 8, 8, 8))
        )
        return sum(x.type == "Conv2D" for x in graph.graph.get_operations())

    monkeypatch.setattr(tensorflow_ops, "runs", lambda dtype: True)
    assert convolutions() == 1
    monkeypatch.setattr(tensorflow_ops, "runs", lambda dtype: False)
    assert convolutions() == 4
