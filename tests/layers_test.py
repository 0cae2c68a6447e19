import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf import export, native
from inres_tf.layers import GroupedConv2D, UniformNoise

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
        if not native.runs("float32"):
            pytest.skip("no grouped convolution of TensorFlow's own on this machine")
    else:
        monkeypatch.setattr(native, "runs", lambda dtype: False)


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


def graph_of(model, folder):
    export.export(model, folder)
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

    monkeypatch.setattr(native, "runs", lambda dtype: True)
    assert convolutions() == 1
    monkeypatch.setattr(native, "runs", lambda dtype: False)
    assert convolutions() == 4
