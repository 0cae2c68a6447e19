import itertools

import keras
import numpy as np
import pytest

import zoo
from inres_tf.layers import UniformNoise, damping_rates
from zoo import builder

SMALL = {"input_shape": (8, 8, 1)}


def test_preprocessing(rng):
    model = zoo.InResNet8(classifier_activation=None)
    raw = zoo.InResNet8(classifier_activation=None, include_preprocessing=False)
    raw.set_weights(
        [v.numpy() for v in model.weights if "normalization/" not in v.path]
    )
    pixels = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
    normalised = ((pixels / 255 - mean) / std).astype(np.float32)
    np.testing.assert_allclose(model(pixels), raw(normalised), rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(model(pixels), model(pixels.astype(np.float32)))


def test_strided_convolutions_pad_both_sides():
    """A convolution of ones counts the pixels it covers: 2x2 in the first corner."""
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, builder.conv(inputs, 1, 3, stride=2, name="c"))
    model.get_layer("c").set_weights([np.ones((3, 3, 1, 1))])
    counts = np.asarray(model(np.ones((1, 8, 8, 1))))[0, :, :, 0]
    expected = np.full((4, 4), 9.0)
    expected[0], expected[:, 0], expected[0, 0] = 6, 6, 4
    np.testing.assert_array_equal(counts, expected)


def test_features_and_pooling(rng):
    x = rng.normal(size=(2, 13, 16, 3)).astype(np.float32)
    options = {"include_top": False, "input_shape": (None, None, 3)}
    maps = zoo.InResNet8(**options)
    pooled = zoo.InResNet8(pooling="avg", **options)
    largest = zoo.InResNet8(pooling="max", **options)
    for model in (pooled, largest):
        model.set_weights(maps.get_weights())
    features = np.asarray(maps(x))
    assert features.shape == (2, 4, 4, 64)
    np.testing.assert_allclose(pooled(x), features.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(largest(x), features.max((1, 2)), rtol=1e-5)


def test_default_input_shape():
    assert zoo.InResNet8(input_shape=None).input_shape == (None, 32, 32, 3)
    model = zoo.InResNet8(input_shape=None, include_top=False)
    assert model.input_shape == (None, None, None, 3)


def test_input_tensor():
    inputs = keras.Input((8, 8, 1))
    scaled = keras.layers.Rescaling(2.0)(inputs)
    model = zoo.InResNet8(input_tensor=scaled)
    assert model.inputs[0] is inputs
    half = np.full((1, 8, 8, 1), 60.0)
    direct = zoo.InResNet8(**SMALL)
    direct.set_weights(model.get_weights())
    np.testing.assert_allclose(model(half), direct(2 * half), rtol=1e-6)


@pytest.mark.parametrize("name", ["in_resnet8", "in_resnext11_4x16d", "in_resnet50"])
def test_settings_of_the_batch_normalisations(name):
    settings = {
        (layer.momentum, layer.epsilon)
        for layer in zoo.get_model(name).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert settings == {(0.9, 1.001e-5 if name == "in_resnet50" else 1e-5)}


def test_damped_blocks_keep_their_shape():
    """Compared with the shapes of the layers."""
    for name in ("in_resnet20", "in_resnext29_2x64d", "in_resnet50"):
        model = zoo.get_model(name)
        merges = [x for x in model.layers if x.name.endswith("_merge")]
        damped = [
            after.name
            for before, after in itertools.pairwise(merges)
            if before.output.shape == after.output.shape
        ]
        assert list(damping_rates(model)) == damped


def between(model, first, second):
    """Function that returns the outputs of two layers in the same training pass."""
    submodel = keras.Model(
        model.inputs[0], [model.get_layer(first).output, model.get_layer(second).output]
    )
    return lambda x: [np.asarray(y) for y in submodel(x, training=True)]


def test_noise_follows_the_official_code(rng):
    model = zoo.EnResNet20()
    pixels = rng.integers(0, 256, (64, 32, 32, 3)).astype(np.uint8)
    types = {x.name: type(x) for x in model.layers if x.name.endswith("_noise")}
    assert len(types) == 9
    assert types.pop("stage1_block1_noise") is keras.layers.GaussianNoise
    assert set(types.values()) == {UniformNoise}

    before, after = between(model, "stage1_block1_merge", "stage1_block1_noise")(pixels)
    noise = (after - before).astype(np.float64)
    assert noise.mean() == pytest.approx(0, abs=1e-5)
    assert noise.std() == pytest.approx(0.001, rel=0.01)
    assert np.abs(noise).max() > 0.004
    before, after = between(model, "stage3_block3_merge", "stage3_block3_noise")(pixels)
    noise = (after - before).astype(np.float64)
    rounding = 1e-6
    assert -rounding <= noise.min() < 1e-5 and 0.00099 < noise.max() <= 0.001 + rounding
    assert noise.mean() == pytest.approx(0.0005, rel=0.02)

    without_noise = zoo.ResNet20()
    without_noise.set_weights(model.get_weights())
    np.testing.assert_array_equal(model(pixels[:4]), without_noise(pixels[:4]))


def test_stochastic_depth(rng, tmp_path):
    """Whole branches are dropped, deeper ones more often, and the others are scaled."""
    p = 0.4
    model = zoo.InResNet20(stochastic_depth=p, input_shape=(4, 4, 3))
    rates = {x.name: x.rate for x in model.layers if x.name.endswith("_drop")}
    expected = [p * i / 8 for i in range(1, 9)]
    assert list(rates.values()) == pytest.approx(expected)
    assert list(rates)[-1] == "stage3_block3_drop"

    pixels = rng.integers(0, 256, (2000, 4, 4, 3)).astype(np.uint8)
    branch, dropped = between(model, "stage3_block3_2_conv", "stage3_block3_drop")(
        pixels
    )
    ratio = dropped / np.where(branch == 0, np.nan, branch)
    kept = np.nanmax(np.abs(ratio), axis=(1, 2, 3)) > 0
    np.testing.assert_allclose(dropped[kept], branch[kept] / (1 - p), rtol=1e-5)
    assert not dropped[~kept].any()
    # Five standard deviations of a binomial distribution.
    assert (~kept).mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 2000))

    model.save_weights(tmp_path / "model.weights.h5")
    without_dropout = zoo.InResNet20(
        input_shape=(4, 4, 3), weights=tmp_path / "model.weights.h5"
    )
    np.testing.assert_array_equal(model(pixels[:9]), without_dropout(pixels[:9]))
