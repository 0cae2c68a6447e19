import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf import serving
from inres_tf.layers import GroupedConv2D, tensorflow_ops

OPTIONS = [
    {"groups": 4, "padding": "same"},
    {"groups": 2, "strides": 2, "padding": "valid"},
    {"groups": 8, "padding": "same", "dilation_rate": 2, "activation": "relu"},
    {"groups": 1, "padding": "same", "use_bias": False},
]


def grouped_convolution(inputs, kernel, groups):
    """One convolution per group in NumPy; padding 'valid', stride 1."""
    height, width = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (height, width), (1, 2))
    outputs = [
        np.einsum("nxyihw,hwio->nxyo", group, weights)
        for group, weights in zip(
            np.split(windows, groups, axis=3), np.split(kernel, groups, axis=3)
        )
    ]
    return np.concatenate(outputs, axis=-1)


@pytest.fixture(params=[True, False], ids=["native", "split"])
def both_ways(request, monkeypatch):
    """With TensorFlow's own operation, and with one convolution per group."""
    if request.param:
        if not tensorflow_ops.runs("float32"):
            pytest.skip("TensorFlow has no grouped convolution on this machine")
    else:
        monkeypatch.setattr(tensorflow_ops, "runs", lambda dtype: False)


def test_matches_one_convolution_per_group(both_ways, rng):
    images = rng.normal(size=(2, 7, 6, 8)).astype(np.float32)
    layer = GroupedConv2D(12, (3, 2), groups=4, use_bias=False)
    layer.build(images.shape)
    assert layer.kernel.shape == (3, 2, 2, 12)
    expected = grouped_convolution(images, layer.kernel.numpy(), 4)
    np.testing.assert_allclose(layer(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"groups{o['groups']}")
def test_matches_keras(both_ways, options, rng):
    images = tf.constant(rng.normal(size=(2, 9, 9, 8)), tf.float32)
    layer = GroupedConv2D(16, 3, **options)
    layer.build(images.shape)
    other = keras.layers.Conv2D(16, 3, **options)
    other.build(images.shape)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    other.set_weights(layer.get_weights())
    results = []
    for convolution in (layer, other):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = convolution(images)
            loss = tf.reduce_sum(tf.sin(outputs))
        kernel = convolution.kernel.value
        results.append([outputs, *tape.gradient(loss, [images, kernel])])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    restored = GroupedConv2D.from_config(layer.get_config())
    assert restored.get_config() == layer.get_config()
    assert set(other.get_config()) == set(layer.get_config())


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_gradients_in_low_precision(dtype, rng):
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


def test_uses_the_operation_of_tensorflow_if_it_runs(monkeypatch):
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


def graph_of(model, folder):
    serving.export(model, folder)
    return (folder / "saved_model.pb").read_bytes()


def test_exported_models_do_not_need_xla(tmp_path, rng):
    model = zoo.InResNeXt11_4x16d(input_shape=(8, 8, 3))
    model.set_weights(
        [
            w if v.name == "moving_variance" else rng.normal(0, 0.1, w.shape)
            for v, w in zip(model.weights, model.get_weights())
        ]
    )
    assert b"_XlaMustCompile" not in graph_of(model, tmp_path / "grouped")
    pixels = rng.integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    serve = tf.saved_model.load(tmp_path / "grouped").signatures["serving_default"]
    served = serve(images=tf.constant(pixels))["probabilities"]
    np.testing.assert_allclose(served, model(pixels), rtol=1e-4, atol=1e-6)

    inputs = keras.Input((4, 4, 4))
    x = keras.layers.Conv2D(4, 3, groups=2)(inputs)
    outputs = keras.layers.GlobalAveragePooling2D()(x)
    keras_model = keras.Model(inputs, outputs)
    assert b"_XlaMustCompile" in graph_of(keras_model, tmp_path / "keras")
