import logging
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import inres_tf
import zoo
from inres_tf.layers import DampedAdd, damping_rates, set_damping_rates

# For each architecture: the number of residual additions, and the names of the layers
# that produce their shortcuts and their branches.
ARCHITECTURES = {
    "ResNet50": (16, r"conv\d_block\d_(out|0_bn)", r"conv\d_block\d_3_bn"),
    "ResNet50V2": (
        16,
        r"conv\d_block\d_(out|0_conv)|max_pooling2d(_\d+)?",
        r"conv\d_block\d_3_conv",
    ),
    "MobileNetV2": (10, r"block_\d+_(project_BN|add)", r"block_\d+_project_BN"),
    "MobileNetV3Small": (
        6,
        r"expanded_conv_\d+_(project_bn|add)",
        r"expanded_conv_\d+_project_bn",
    ),
    "EfficientNetB0": (9, r"block\d[a-z]_(project_bn|add)", r"block\d[a-z]_drop"),
    "ConvNeXtTiny": (
        18,
        r"add(_\d+)?|convnext_tiny_(downsampling_block|stem|stage).*",
        r"convnext_tiny_stage_\d_block_\d_identity",
    ),
    "Xception": (12, r"batch_normalization(_\d+)?|add(_\d+)?", r"block\d+_.*"),
}


def randomize(model, rng):
    """Sets weights so that every branch matters: no layer scale or γ near 0."""
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape)
            if w.name in ("gamma", "moving_variance", "variance")
            else rng.normal(0, 0.05, w.shape)
            for w in model.weights
        ]
    )
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def damped_adds(model):
    return [x for x in model._flatten_layers() if isinstance(x, DampedAdd)]


def producers(layer):
    """Names of the layers that produce the shortcut and the branch."""
    tensors = layer._inbound_nodes[0].input_tensors
    return [tensor._keras_history.operation.name for tensor in tensors]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name == "ConvNeXtTiny" else ())
        for name in ARCHITECTURES
    ],
)
def test_keras_applications(name, rng, tmp_path):
    count, shortcut, branch = ARCHITECTURES[name]
    side = 71 if name == "Xception" else 32
    model = getattr(keras.applications, name)(
        weights=None,
        classes=3,
        input_shape=(side, side, 3),
        classifier_activation=None,
    )
    randomize(model, rng)
    damped = inres_tf.damp(model)
    merges = damped_adds(damped)
    assert len(merges) == count
    for layer in merges:
        names = producers(layer)
        assert re.fullmatch(shortcut, names[0]), names
        assert re.fullmatch(branch, names[1]), names
    assert not damped_adds(model)
    pixels = rng.uniform(0, 255, (2, side, side, 3)).astype(np.float32)
    expected = np.asarray(model(pixels))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(damped(pixels), expected, rtol=0, atol=1e-6 * scale)

    merges[-1].k.assign(0.5)
    changed = np.asarray(damped(pixels))
    assert np.abs(changed - expected).max() > 1e-3 * scale
    if name in ("MobileNetV2", "ConvNeXtTiny"):
        damped.save(tmp_path / "damped.keras")
        loaded = keras.models.load_model(tmp_path / "damped.keras")
        np.testing.assert_allclose(loaded(pixels), changed, rtol=0, atol=1e-6 * scale)
        loaded.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        loaded.train_on_batch(pixels, expected - changed)
        rates, before = damping_rates(loaded), damping_rates(damped)
        assert all(rates[key] != before[key] or rates[key] == 0 for key in rates)
        assert sum(rates[key] > 0 for key in rates) >= len(rates) / 4


def test_damps_the_shortcut(rng):
    """Closed form, with the shortcut as either input, by layer and by operator."""
    inputs = keras.Input((4,), name="x")
    branch = layers.Dense(4, use_bias=False, name="f")(inputs)
    first = layers.Add(name="first")([branch, inputs])
    second = first + layers.Dense(4, use_bias=False, name="g")(first)
    model = keras.Model(inputs, second)
    x = rng.normal(size=(3, 4)).astype(np.float32)
    f, g = (model.get_layer(name).get_weights()[0] for name in "fg")
    damped = inres_tf.damp(model, "lambda_in", rate=0.25)
    y = 0.75 * x + 1.25 * x @ f
    np.testing.assert_allclose(damped(x), 0.75 * y + 1.25 * y @ g, rtol=1e-5, atol=1e-6)
    assert [a.shortcut for a in inres_tf.additions(model)] == [(1,), (0,)]
    plain = inres_tf.damp(model, "plain")
    np.testing.assert_allclose(plain(x), x @ f @ g, rtol=1e-5, atol=1e-6)
    assert set(damping_rates(damped).values()) == {0.25}


def unit(width, name):
    """A residual unit as a model."""
    x = keras.Input((8, 8, width))
    y = layers.Conv2D(width, 3, padding="same", activation="relu", name="conv")(x)
    return keras.Model(x, layers.Add(name="merge")([y, x]), name=name)


def user_model():
    """A model with nested and shared parts and additions of all kinds."""
    image = keras.Input((8, 8, 3), name="image")
    bias = keras.Input((8, 8, 4), name="bias")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    shared = unit(4, "shared")
    x = shared(shared(x))
    x = layers.Add(name="two_inputs")([x, bias])
    x = layers.Add(name="three")(
        [x, layers.ReLU()(x), layers.Conv2D(4, 1, name="extra")(x)]
    )
    towers = [layers.Conv2D(4, 3, padding="same", name=f"tower{i}")(x) for i in (0, 1)]
    x = layers.Add(name="towers")(towers)
    scale = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Add(name="broadcast")([x, scale])
    x = layers.Add(name="twice")([x, x])
    x = x + 1.0
    merge = layers.Add(name="reused")
    for i in range(2):
        y = layers.Dropout(0.5)(layers.Conv2D(4, 1, name=f"branch{i}")(x))
        x = merge([x, y] if i else [y, x])
    projected = layers.Conv2D(6, 1, strides=2, name="projection")(x)
    y = layers.Conv2D(4, 3, strides=2, padding="same", name="down")(x)
    y = layers.Conv2D(6, 3, padding="same", name="up")(y)
    x = layers.Add(name="projected")([y, projected])
    top = keras.Sequential([keras.Input((4, 4, 6)), layers.Flatten(), layers.Dense(2)])
    outputs = {"scores": top(x), "features": x}
    return keras.Model({"image": image, "bias": bias}, outputs, name="mine")


def test_model_with_all_kinds_of_additions(rng, tmp_path, caplog):
    model = user_model()
    with caplog.at_level(logging.WARNING, "inres_tf"):
        damped = inres_tf.damp(model)
    verdicts = {a.name: a.reason for a in inres_tf.additions(model)}
    assert verdicts == {
        "shared/merge": None,
        "two_inputs": "its inputs have nothing in common",
        "three": "it adds 3 tensors",
        "towers": "its inputs are parallel branches of 1 and 1 layers with kernels",
        "broadcast": "it adds shapes (None, 8, 8, 4) and (None, 1, 1, 4)",
        "twice": "it adds a tensor to itself",
        "reused": None,
        "projected": None,
    }
    for name, reason in verdicts.items():
        assert (reason is None) != (f"{name} (" in caplog.text)
    # A shared model and a shared layer have one λ each.
    assert set(damping_rates(damped)) == {"shared/merge", "projected", "reused"}
    inputs = {
        "image": rng.normal(size=(2, 8, 8, 3)).astype(np.float32),
        "bias": rng.normal(size=(2, 8, 8, 4)).astype(np.float32),
    }
    expected, outputs = model(inputs), damped(inputs)
    assert set(outputs) == {"scores", "features"}
    for name in outputs:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-5, atol=1e-5)

    kernel = model.get_layer("stem").kernel
    damped.get_layer("stem").kernel.assign_add(tf.ones(kernel.shape))
    np.testing.assert_array_equal(model(inputs)["scores"], expected["scores"])

    damped.get_layer("projected").k.assign(0.3)
    damped.save(tmp_path / "mine.keras")
    loaded = keras.models.load_model(tmp_path / "mine.keras")
    for name, value in damped(inputs).items():
        np.testing.assert_allclose(loaded(inputs)[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("damping", ["in", "lambda_in", "exponential"])
def test_training_changes_a_rate_of_0(damping, rng):
    """With the usual derivative of ReLU at 0, λ would stay 0."""
    x = rng.normal(size=(64, 4)).astype(np.float32)
    inputs = keras.Input((4,))
    branch = layers.Dense(4, kernel_initializer="zeros", trainable=False)(inputs)
    model = keras.Model(inputs, layers.Add(name="merge")([inputs, branch]))
    damped = inres_tf.damp(model, damping)
    damped.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    assert damping_rates(damped) == {"merge": 0.0}
    damped.fit(x, 0.5 * x, epochs=30, verbose=0)
    rate = {"in": 0.5, "lambda_in": 0.5, "exponential": np.log(2)}[damping]
    assert damping_rates(damped)["merge"] == pytest.approx(rate, abs=0.05)


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        (None, {"block_a", "block_b", "head"}),
        ("head", {"head"}),
        ("block_*", {"block_a", "block_b"}),
        (("block_b", "head"), {"block_b", "head"}),
        (lambda layer: layer.name.endswith("a"), {"block_a"}),
        (lambda layer: False, set()),
    ],
)
def test_where_selects(where, chosen):
    x = inputs = keras.Input((4,))
    for name in ("block_a", "block_b", "head"):
        x = layers.Add(name=name)([x, layers.Dense(4)(x)])
    damped = inres_tf.damp(keras.Model(inputs, x), where=where)
    assert {layer.name for layer in damped_adds(damped)} == chosen


def test_where_must_match_a_residual_addition():
    model = user_model()
    with pytest.raises(
        ValueError,
        match="'conv9'. Available: shared/merge, reused, projected. Received: where=",
    ):
        inres_tf.damp(model, where="conv9")
    with pytest.raises(ValueError, match="three is not residual: it adds 3 tensors"):
        inres_tf.damp(model, where=["projected", "three"])
    damped = inres_tf.damp(model, where="shared/*")
    assert [layer.name for layer in damped_adds(damped)] == ["merge"]


def linear(width, name):
    return layers.Dense(width, use_bias=False, name=name)


def test_a_shared_addition_is_damped_at_every_call(rng):
    """One λ, with the shortcut as either input, in the model and in a nested one."""
    merge = layers.Add(name="merge")
    x = keras.Input((4,))
    inner = keras.Model(x, merge([linear(4, "f")(x), x]), name="inner")
    inputs = keras.Input((4,))
    h = inner(inputs)
    h = merge([h, linear(4, "g")(h)])
    model = keras.Model(inputs, merge([linear(4, "h")(h), h]))
    (addition,) = inres_tf.additions(model)
    assert sorted(addition.shortcut) == [0, 1, 1]
    damped = inres_tf.damp(model, rate=0.25)
    (rate,) = damping_rates(damped).values()
    assert rate == 0.25
    f = inner.get_layer("f").get_weights()[0]
    g, k = (model.get_layer(name).get_weights()[0] for name in "gh")
    y = x = rng.normal(size=(3, 4)).astype(np.float32)
    for kernel in (f, g, k):
        y = 0.75 * y + y @ kernel
    np.testing.assert_allclose(damped(x), y, rtol=1e-4, atol=1e-5)


def test_a_shared_addition_must_be_residual_at_every_call():
    """Its only λ cannot apply to the second call, which has no shortcut."""
    inputs = keras.Input((4,))
    merge = layers.Add(name="merge")
    x = merge([inputs, layers.Dense(4)(inputs)])
    x = merge([layers.Dense(4)(x), layers.Dense(4)(x)])
    model = keras.Model(inputs, x)
    assert "parallel" in inres_tf.additions(model)[0].reason
    assert not damped_adds(inres_tf.damp(model))


def test_state_other_than_weights_is_copied(rng):
    """Statistics of an adapted normalisation, a vocabulary, masks, frozen layers."""
    words = np.array([["cat dog"], ["bird dog"], ["cat"]])
    split = layers.TextVectorization(output_sequence_length=3)
    split.adapt(words)
    inputs = keras.Input((1,), dtype="string")
    x = layers.Embedding(9, 4, mask_zero=True)(split(inputs))
    normalise = layers.Normalization()
    normalise.adapt(rng.normal(3, 5, (50, 4)))
    values = keras.Input((3, 4))
    frozen = layers.Dense(4, name="frozen", trainable=False)
    x = layers.Add(name="first")([x, layers.Dense(4)(x)])
    y = normalise(values)
    y = layers.Add(name="second")([y, frozen(y)])
    # The LSTM returns its state after the last word only if the mask is kept.
    outputs = layers.Concatenate()([layers.LSTM(4)(x), layers.Flatten()(y)])
    model = keras.Model([inputs, values], outputs)
    damped = inres_tf.damp(model)
    assert len(damped_adds(damped)) == 2
    batch = [tf.constant(words), tf.constant(rng.normal(size=(3, 3, 4)), tf.float32)]
    np.testing.assert_allclose(damped(batch), model(batch), rtol=1e-5, atol=1e-6)
    assert not damped.get_layer("frozen").trainable


def test_zoo(rng):
    model = zoo.ResNet20(input_shape=(8, 8, 3))
    damped = inres_tf.damp(model, "lambda_in", rate=0.5)
    assert list(damping_rates(damped).values()) == [0.5] * 9
    constructed = zoo.InResNet20(input_shape=(8, 8, 3))
    blocks = list(damping_rates(constructed))
    damped = inres_tf.damp(model, rate=0.5, where=blocks)
    zoo.applications.copy_by_name(model, constructed)
    set_damping_rates(constructed, 0.5)
    pixels = rng.integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        damped(pixels), constructed(pixels), rtol=1e-5, atol=1e-6
    )


def test_unused_inputs_are_kept():
    x, unused = keras.Input((4,)), keras.Input((2,))
    model = keras.Model([x, unused], layers.Add()([x, layers.Dense(4)(x)]))
    batch = [np.ones((1, 4)), np.ones((1, 2))]
    np.testing.assert_allclose(inres_tf.damp(model)(batch), model(batch), rtol=1e-6)


def test_sequential_models(rng):
    model = keras.Sequential([keras.Input((8, 8, 3)), unit(3, "unit"), layers.ReLU()])
    damped = inres_tf.damp(model, rate=1.0)
    x = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    branch = model.get_layer("unit").get_layer("conv")(x)
    np.testing.assert_allclose(damped(x), branch, rtol=1e-5, atol=1e-6)


def test_mixed_precision_and_existing_damping_are_kept():
    inputs = keras.Input((4,))
    policy = {"dtype": "mixed_bfloat16"}
    x = layers.Add(name="layer", **policy)([inputs, layers.Dense(4, **policy)(inputs)])
    model = keras.Model(inputs, x + layers.Dense(4, **policy)(x))
    damped = inres_tf.damp(model)
    assert {layer.compute_dtype for layer in damped_adds(damped)} == {"bfloat16"}
    assert {layer.k.dtype for layer in damped_adds(damped)} == {"float32"}
    damped.get_layer("layer").k.assign(0.5)
    damped_twice = inres_tf.damp(damped)
    assert damping_rates(damped_twice)["layer"] == 0.5


class WithoutConfig(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.dense = layers.Dense(width)

    def call(self, inputs):
        return self.dense(inputs)


def test_custom_layers(rng):
    inputs = keras.Input((4,))
    factor = 2.0
    branch = layers.Lambda(lambda x: factor * x)(layers.Dense(4)(inputs))
    model = keras.Model(inputs, layers.Add()([inputs, branch]))
    x = rng.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(inres_tf.damp(model)(x), model(x), rtol=1e-6)
    branch = WithoutConfig(4)(inputs)
    model = keras.Model(inputs, layers.Add()([inputs, branch]))
    with pytest.raises(
        ValueError, match="WithoutConfig 'without_config.*' cannot be copied"
    ):
        inres_tf.damp(model)


def test_a_nested_model_with_a_call_of_its_own_is_kept_as_it_is(rng):
    inputs = keras.Input((4,))
    inner = Subclassed(inputs, layers.Add()([inputs, layers.Dense(4)(inputs)]))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    assert inres_tf.additions(model) == []
    pixels = rng.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(inres_tf.damp(model)(pixels), model(pixels))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs + inputs


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (Subclassed(name="mine"), {}, "'mine' is a subclassed model.*DampedAdd"),
        # With a graph, which is not what it computes.
        (
            Subclassed(*[keras.Input((4,))] * 2, name="mine"),
            {},
            "'mine' is a subclassed model.*Received: Subclassed",
        ),
        ("model", {}, "only functional models can be damped.*Received: str"),
        (unit(3, "u"), {"damping": "out"}, "Received: damping='out'"),
        (unit(3, "u"), {"rate": -0.1}, "finite number >= 0.*Received: rate=-0.1"),
        (unit(3, "u"), {"rate": "0"}, "Received: rate='0'"),
        (unit(3, "u"), {"rate": float("inf")}, "Received: rate=inf"),
        (unit(3, "u"), {"damping": "plain", "rate": 0.5}, "must be 0 under .*'plain'"),
        (unit(3, "u"), {"rate": 10**400}, "Received: rate=1000"),
        (unit(3, "u"), {"where": 5}, "a list of them.* Received: where=5"),
        (unit(3, "u"), {"where": [None]}, "Received: where=.None."),
        (unit(3, "u"), {"where": layers.Add()}, "Received: where=<Add"),
    ],
)
def test_invalid_arguments(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        inres_tf.damp(model, **arguments)


def test_warns_if_there_is_nothing_to_damp(caplog):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs), name="linear")
    with caplog.at_level(logging.WARNING, "inres_tf"):
        inres_tf.damp(model)
    assert "linear has no residual addition to damp" in caplog.text
