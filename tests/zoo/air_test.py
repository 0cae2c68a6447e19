import keras
import numpy as np
import pytest

import zoo


@pytest.fixture(scope="module")
def rate_limits():
    """AirNets of one set of weights with λ = 0, λ = 1 and without shortcuts."""
    keras.utils.set_random_seed(0)
    options = {"input_shape": (16, 16, 3), "classifier_activation": None}
    residual = zoo.AirNet(**options)
    for weight in residual.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(keras.random.uniform(weight.shape, 0.5, 1.5))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(keras.random.normal(weight.shape, 0.1))
    return options, residual


@pytest.mark.parametrize(
    ("name", "rate"), [("in_airnet", 0.0), ("exponential_airnet", 0.0)]
)
def test_rate_0_is_the_residual_network(name, rate, rate_limits, rng, tmp_path):
    options, residual = rate_limits
    residual.save_weights(tmp_path / "air.weights.h5")
    damped = zoo.get_model(name, weights=tmp_path / "air.weights.h5", **options)
    pixels = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    np.testing.assert_allclose(damped(pixels), residual(pixels), rtol=1e-4, atol=1e-5)


def test_rate_1_is_the_network_without_shortcuts(rate_limits, rng):
    options, residual = rate_limits
    damped, plain = zoo.InAirNet(**options), zoo.PlainAirNet(**options)
    sources = {layer.name: layer for layer in residual.layers}
    for model in (damped, plain):
        for layer in model.layers:
            if layer.weights and not layer.name.endswith("merge"):
                layer.set_weights(sources[layer.name].get_weights())
    for layer in damped.layers:
        if layer.name.endswith("merge"):
            layer.k.assign(0.0)  # λ = relu(1 - k)
    pixels = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    np.testing.assert_allclose(damped(pixels), plain(pixels), rtol=1e-4, atol=1e-5)
    assert np.abs(damped(pixels) - residual(pixels)).max() > 0.1


def test_whitening_is_not_trained(digits):
    keras.utils.set_random_seed(0)
    model = zoo.InAirNet(input_shape=digits.shape)
    before = model.get_layer("stem_conv").get_weights()[0]
    model.compile(
        keras.optimizers.SGD(0.05, weight_decay=0.1),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    images, labels = digits.train.images[:512], digits.train.labels[:512]
    history = model.fit(images, labels, epochs=3, verbose=0).history
    assert history["accuracy"][-1] > 0.8
    np.testing.assert_array_equal(model.get_layer("stem_conv").get_weights()[0], before)


def test_stochastic_depth_drops_branches_only(rng):
    """Without its branch, a block of the residual network is its pooled half."""
    model = zoo.AirNet(
        input_shape=(8, 8, 3), stochastic_depth=0.999999, include_top=False
    )
    assert [x.name for x in model.layers if x.name.endswith("drop")] == [
        "stage2_block1_drop",
        "stage3_block1_drop",
    ]
    pixels = rng.integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    # Statistics of the batch are not used, so that only dropping is in training mode.
    for layer in model.layers:
        layer.trainable = False
    half = model.get_layer("stage3_block1_1_gelu").output
    both = keras.Model(model.input, [half, model.output])  # of the same draws
    shortcut, output = both(pixels, training=True)
    np.testing.assert_allclose(output, shortcut, rtol=1e-4, atol=1e-5)
    shortcut, output = both(pixels, training=False)
    assert np.abs(np.asarray(output) - np.asarray(shortcut)).max() > 0.1
