import inspect

import keras
import numpy as np
import pytest

import zoo
from inres_tf.layers import DampedAdd, damping_rates
from zoo import presets

SMALL = {"input_shape": (8, 8, 1)}


def parameters(depth, classes, channels=3):
    """Trainable parameters of the undamped network, counted by hand."""
    if depth == 164:
        kernels, widths, repeats = (1, 3, 1), (1, 1, 4), 18
    else:
        kernels, widths, repeats = (3, 3), (1, 1), (depth - 2) // 6
    count, inputs = 9 * channels * 16, 16
    for stage in (16, 32, 64):
        for _ in range(repeats):
            outputs = stage * widths[-1]
            if inputs != outputs:
                count += 2 * inputs + inputs * outputs
            for kernel, factor in zip(kernels, widths):
                count += 2 * inputs + kernel**2 * inputs * stage * factor
                inputs = stage * factor
    return count + 2 * inputs + inputs * classes + classes


def test_registry_lists_every_family_at_every_depth():
    names = zoo.list_models()
    assert names == sorted(names)
    stems = ("{}", "in_{}", "lambda_in_{}", "exponential_{}")
    resnets = [*presets.RESNETS, *presets.IMAGENET_RESNETS]
    resnexts = [*presets.RESNEXTS, *presets.IMAGENET_RESNEXTS]
    expected = {s.format(f"resnet{size}") for s in stems for size in resnets}
    expected |= {s.format(f"resnext{size}") for s in stems for size in resnexts}
    expected |= {f"plain{size}" for size in resnets}
    expected |= {f"plain_resnext{size}" for size in resnexts}
    expected |= {f"en_resnet{size}" for size in presets.RESNETS}
    v2 = {f"resnet{size}" for size in presets.IMAGENET_RESNETS}
    assert set(names) == expected - v2 | {f"{name}v2" for name in v2}
    assert {"resnext29_8x64d", "in_resnext11_4x16d", "in_resnext50_32x4d"} <= expected

    exported = {}
    for constructor in zoo.__all__:
        found = inspect.signature(getattr(zoo, constructor)).parameters
        if "damping" in found:
            exported[found["name"].default] = constructor
    assert set(exported) == set(names)
    assert exported["in_resnext101_32x8d"] == "InResNeXt101_32x8d"
    assert exported["resnet50v2"] == "ResNet50V2"


def test_constructors_have_the_signature_users_know():
    found = inspect.signature(zoo.InResNet20).parameters
    assert {k: p.default for k, p in found.items()} == {
        "weights": None,
        "include_top": True,
        "include_preprocessing": True,
        "input_tensor": None,
        "input_shape": (32, 32, 3),
        "pooling": None,
        "classes": 10,
        "classifier_activation": "softmax",
        "damping": "in",
        "name": "in_resnet20",
        "stochastic_depth": 0.0,
        "noise": 0.0,
    }
    large = inspect.signature(zoo.InResNeXt50_32x4d).parameters
    assert list(large) == list(found)
    assert large["input_shape"].default == (224, 224, 3)
    assert large["classes"].default == 1000
    assert zoo.InResNet20.__name__ == "InResNet20"
    assert "arXiv 2006.05749" in zoo.InResNet20.__doc__


@pytest.mark.parametrize("depth", [*map(int, presets.RESNETS)])
def test_sizes(depth):
    model = zoo.InResNet(depth)
    damped = 3 * (presets.RESNETS[str(depth)].repeats[0] - 1)
    assert len(damping_rates(model)) == damped
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable == parameters(depth, 10) + damped
    convs = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and "shortcut" not in layer.name
    ]
    assert len(convs) + 1 == depth
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    low, high = (0.1, 0.2) if depth == 164 else (0.2, 0.25)
    assert all(low <= r <= high for r in damping_rates(model).values())


def test_get_model_is_the_constructor():
    keras.utils.set_random_seed(1)
    a = zoo.get_model("lambda_in_resnet20", **SMALL, classes=3)
    keras.utils.set_random_seed(1)
    b = zoo.LambdaInResNet20(**SMALL, classes=3)
    assert a.name == b.name == "lambda_in_resnet20"
    assert [v.path for v in a.weights] == [v.path for v in b.weights]
    for x, y in zip(a.get_weights(), b.get_weights()):
        np.testing.assert_array_equal(x, y)


def set_rates(model, rate):
    for layer in model.layers:
        if isinstance(layer, DampedAdd) and layer.k is not None:
            layer.k.assign(1 - rate if layer.damping == "in" else rate)


def without_scalars(model):
    return [v.numpy() for v in model.weights if v.name != "k"]


@pytest.mark.parametrize(
    ("damping", "rate", "limit"),
    [
        ("in", 0.0, "none"),
        ("lambda_in", 0.0, "none"),
        ("exponential", 0.0, "none"),
        ("in", 1.0, "plain"),
    ],
)
def test_limits_are_the_resnet_and_the_plain_network(damping, rate, limit, rng):
    model = zoo.InResNet20(damping=damping, **SMALL)
    set_rates(model, rate)
    expected = zoo.InResNet20(damping=limit, **SMALL)
    expected.set_weights(without_scalars(model))
    pixels = rng.integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)
    for training in (False, True):
        np.testing.assert_allclose(
            model(pixels, training=training),
            expected(pixels, training=training),
            rtol=1e-5,
            atol=1e-6,
        )
    assert not np.allclose(model(pixels), zoo.InResNet20(**SMALL)(pixels))


@pytest.mark.parametrize(
    "name", ["resnet8", "in_resnet20", "exponential_resnet8", "plain20"]
)
def test_round_trips(name, tmp_path, rng):
    model = zoo.get_model(name, **SMALL)
    pixels = rng.integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(loaded(pixels), model(pixels), rtol=1e-6)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(clone(pixels), model(pixels), rtol=1e-6)


def test_preprocessing_is_inside_the_model(rng):
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
    """A strided convolution of ones counts its pixels: 2x2 in the first corner."""
    from zoo import builder

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


def test_shape_that_is_not_given():
    assert zoo.InResNet8(input_shape=None).input_shape == (None, 32, 32, 3)
    model = zoo.InResNet8(input_shape=None, include_top=False)
    assert model.input_shape == (None, None, None, 3)


def test_builds_on_a_tensor():
    inputs = keras.Input((8, 8, 1))
    scaled = keras.layers.Rescaling(2.0)(inputs)
    model = zoo.InResNet8(input_tensor=scaled)
    assert model.inputs[0] is inputs
    half = np.full((1, 8, 8, 1), 60.0)
    direct = zoo.InResNet8(**SMALL)
    direct.set_weights(model.get_weights())
    np.testing.assert_allclose(model(half), direct(2 * half), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_from_a_file(suffix, tmp_path, rng):
    model = zoo.InResNet8(**SMALL, classes=4)
    path = tmp_path / f"model{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    pixels = rng.integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    again = zoo.InResNet8(**SMALL, classes=4, weights=path)
    np.testing.assert_array_equal(again(pixels), model(pixels))

    features = zoo.InResNet8(
        **SMALL, weights=str(path), include_top=False, pooling="avg"
    )
    expected = keras.Model(model.input, model.get_layer("avg_pool").output)
    np.testing.assert_array_equal(features(pixels), expected(pixels))

    with pytest.raises(ValueError, match="are for classes=4.*Received: classes=10"):
        zoo.InResNet8(**SMALL, weights=path)
    with pytest.raises(ValueError, match="do not fit in_resnet20"):
        zoo.InResNet20(**SMALL, classes=4, weights=path)
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable weights file"):
        zoo.InResNet8(**SMALL, classes=4, weights=damaged)


def test_weights_of_another_damping_are_refused(tmp_path):
    """k means another λ under each, and the variables alone do not tell."""
    path = tmp_path / "model.keras"
    zoo.InResNet20(**SMALL).save(path)
    with pytest.raises(ValueError, match="with damping in, not lambda_in"):
        zoo.LambdaInResNet20(**SMALL, weights=path)
    with pytest.raises(ValueError, match="Received: classifier_activation='relu'"):
        zoo.InResNet20(**SMALL, weights=path, classifier_activation="relu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"damping": "out"}, "'lambda_in'.*Received: damping='out'"),
        (
            {"input_shape": (3, 32, 3)},
            r"at least 4x4 .*Received: input_shape=\(3, 32, 3\)",
        ),
        ({"input_shape": (32, 32)}, "must be .height, width, channels."),
        ({"input_shape": (32, 32, None)}, "known channels"),
        ({"pooling": "sum"}, "None, 'avg' or 'max'.*Received: pooling='sum'"),
        ({"classes": 0}, "positive integer. Received: classes=0"),
        ({"classes": "ten"}, "positive integer"),
        ({"classes": True}, "positive integer"),
        ({"input_shape": (32, 32, 0)}, "positive integers"),
        ({"input_shape": "32x32"}, "must be .height, width, channels."),
        ({"damping": ["in"]}, "Received: damping="),
        ({"weights": 5}, "Received: weights='5'"),
        ({"weights": "imagenet"}, "path of an existing .*Received: weights='imagenet'"),
        ({"weights": "missing.keras"}, "Received: weights='missing.keras'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.InResNet8(**arguments)


def test_wrong_names_and_depths():
    with pytest.raises(ValueError, match="Did you mean .*in_resnet20.*all 97"):
        zoo.get_model("in_resnet21")
    with pytest.raises(
        ValueError, match="8, 20, 32, 44, 56, 110, 164. Received: depth=21"
    ):
        zoo.InResNet(21)
