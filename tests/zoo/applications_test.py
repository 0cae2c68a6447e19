import keras
import numpy as np
import pytest

import zoo
from inres_tf.layers import damping_rates
from zoo import applications, constructors


def small(constructor, **kwargs):
    return constructor(
        input_shape=(32, 32, 3), classes=5, classifier_activation=None, **kwargs
    )


def random_v2(name, rng, **kwargs):
    """A ResNetV2 of keras.applications with random weights in every layer."""
    model = small(getattr(keras.applications, name), weights=None, **kwargs)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape)
            if w.name in ("gamma", "moving_variance")
            else rng.normal(0, 0.05, w.shape)
            for w in model.weights
        ]
    )
    return model


@pytest.mark.parametrize(
    "depth", [50, *(pytest.param(d, marks=pytest.mark.long) for d in (101, 152))]
)
def test_weights_of_keras_applications(depth, rng, tmp_path):
    source = random_v2(f"ResNet{depth}V2", rng)
    pixels = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    scaled = keras.applications.resnet_v2.preprocess_input(pixels.astype(np.float32))
    expected = np.asarray(source(scaled))
    scale = np.abs(expected).max()
    for name in (f"resnet{depth}v2", f"in_resnet{depth}"):
        model = small(constructors.BY_MODEL[name])
        zoo.load_application(model, source)
        np.testing.assert_allclose(model(pixels), expected, rtol=0, atol=1e-5 * scale)
        assert set(damping_rates(model).values()) <= {0.0}
    zoo.load_application(model, source, rate=0.2)
    rates = list(damping_rates(model).values())
    assert rates == pytest.approx([0.2] * len(rates), abs=1e-6)
    assert np.abs(model(pixels) - expected).max() > 1e-3 * scale


@pytest.fixture(scope="module")
def v2():
    return random_v2("ResNet50V2", np.random.default_rng(0))


@pytest.mark.parametrize(
    "suffix", [".weights.h5", pytest.param(".keras", marks=pytest.mark.long)]
)
def test_files_of_keras_applications(v2, suffix, tmp_path, rng):
    path = tmp_path / f"v2{suffix}"
    v2.save(path) if suffix == ".keras" else v2.save_weights(path)
    values = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    options = {"include_preprocessing": False, "weights": path}
    for constructor in (zoo.ResNet50V2, zoo.LambdaInResNet50):
        model = small(constructor, **options)
        np.testing.assert_allclose(model(values), v2(values), rtol=1e-4, atol=1e-4)
    features = small(zoo.InResNet50, include_top=False, pooling="avg", **options)
    expected = keras.Model(v2.inputs[0], v2.get_layer("avg_pool").output)
    np.testing.assert_allclose(features(values), expected(values), rtol=1e-4, atol=1e-4)


def test_imagenet_weights_are_downloaded_by_keras(v2, monkeypatch, rng):
    calls = []
    without_top = random_v2("ResNet50V2", rng, include_top=False)

    def download(**kwargs):
        calls.append(kwargs)
        return without_top

    monkeypatch.setattr(keras.applications, "ResNet50V2", download)
    options = {"include_preprocessing": False, "include_top": False}
    model = small(zoo.InResNet50, weights="imagenet", **options)
    assert calls == [{"weights": "imagenet", "include_top": False}]
    assert set(damping_rates(model).values()) == {0.0}
    with pytest.raises(ValueError, match="needs classes=1000. Received: classes=5"):
        small(zoo.InResNet50, weights="imagenet")
    with pytest.raises(ValueError, match="Received: weights='imagenet'"):
        zoo.InResNeXt50_32x4d(weights="imagenet")

    def fail(**kwargs):
        raise Exception("URL fetch failure: no route")

    monkeypatch.setattr(keras.applications, "ResNet50V2", fail)
    with pytest.raises(OSError, match="ResNet50V2 cannot be downloaded: URL"):
        zoo.InResNet50(weights="imagenet")


def test_weights_of_another_network_are_rejected(v2):
    before = (model := small(zoo.InResNet101)).get_weights()
    with pytest.raises(ValueError, match="resnet50v2 do not fit in_resnet101.*none"):
        zoo.load_application(model, v2)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="do not fit in_resnet20"):
        zoo.load_application(zoo.InResNet20(), v2)
    with pytest.raises(ValueError, match="'predictions' needs .2048, 3., .* .2048, 5."):
        zoo.load_application(zoo.InResNet50(input_shape=(32, 32, 3), classes=3), v2)
    deeper = random_v2("ResNet101V2", np.random.default_rng(0))
    with pytest.raises(ValueError, match="it has no layer 'stage3_block10_1_bn'"):
        zoo.load_application(small(zoo.InResNet50), deeper)


def test_copy_by_name():
    options = {"input_shape": (8, 8, 1)}
    source = zoo.InResNet20(**options)
    model = zoo.InResNet20(**options)
    applications.copy_by_name(source, model)
    for a, b in zip(source.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    applications.copy_by_name(zoo.ResNet20(**options), model)
    assert set(damping_rates(model).values()) == {0.0}
    with pytest.raises(ValueError, match="resnet8 do not fit in_resnet20"):
        applications.copy_by_name(zoo.ResNet8(**options), model)
