import inspect

import keras
import numpy as np
import pytest

import zoo
from inres_tf.layers import damping_rates, set_damping_rates
from zoo import presets

SMALL = {"input_shape": (8, 8, 1)}


def parameters(depth, classes, channels=3):
    """Trainable parameters of the undamped network, from its definition."""
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


def test_signature():
    parameters = inspect.signature(zoo.InResNet20).parameters
    assert {k: p.default for k, p in parameters.items()} == {
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
    assert list(large) == list(parameters)
    assert large["input_shape"].default == (224, 224, 3)
    assert large["classes"].default == 1000
    assert zoo.InResNet20.__name__ == "InResNet20"
    assert "arXiv 2006.05749" in zoo.InResNet20.__doc__


@pytest.mark.parametrize(
    "depth",
    [
        pytest.param(int(depth), marks=pytest.mark.long if depth == "110" else ())
        for depth in presets.RESNETS
    ],
)
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


def test_get_model_calls_the_constructor():
    keras.utils.set_random_seed(1)
    a = zoo.get_model("lambda_in_resnet20", **SMALL, classes=3)
    keras.utils.set_random_seed(1)
    b = zoo.LambdaInResNet20(**SMALL, classes=3)
    assert a.name == b.name == "lambda_in_resnet20"
    assert [v.path for v in a.weights] == [v.path for v in b.weights]
    for x, y in zip(a.get_weights(), b.get_weights()):
        np.testing.assert_array_equal(x, y)


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
def test_limits_of_the_rate(damping, rate, limit, rng):
    model = zoo.InResNet20(damping=damping, **SMALL)
    set_damping_rates(model, rate)
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
    ("arguments", "message"),
    [
        ({"damping": "out"}, "'lambda_in'.*Received: damping='out'"),
        (
            {"input_shape": (3, 32, 3)},
            r"at least 4x4 .*Received: input_shape=\(3, 32, 3\)",
        ),
        ({"input_shape": (32, 32)}, "must be .height, width, channels.,"),
        ({"input_shape": (32, 32, None)}, "None for the height and width"),
        ({"pooling": "sum"}, "None, 'avg' or 'max'.*Received: pooling='sum'"),
        ({"classes": 0}, "positive integer. Received: classes=0"),
        ({"classes": "ten"}, "positive integer"),
        ({"classes": True}, "positive integer"),
        ({"input_shape": (32, 32, 0)}, "positive integers"),
        ({"input_shape": "32x32"}, "must be .height, width, channels.,"),
        ({"damping": ["in"]}, "Received: damping="),
        ({"weights": 5}, "Received: weights='5'"),
        ({"weights": "imagenet"}, "path of an existing .*Received: weights='imagenet'"),
        ({"weights": "missing.keras"}, "Received: weights='missing.keras'"),
    ],
)
def test_invalid_arguments_of_small_networks(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.InResNet8(**arguments)


@pytest.mark.parametrize(
    ("constructor", "arguments", "message"),
    [
        ("InResNet8", {"stochastic_depth": 1.0}, "in .0, 1.. Received.*=1.0"),
        (
            "InResNet8",
            {"stochastic_depth": "half"},
            "Received: stochastic_depth='half'",
        ),
        ("InResNet8", {"noise": -0.1}, "`noise` must be a number in .0, 1."),
        ("PlainNet20", {"stochastic_depth": 0.5}, "damping='plain' needs"),
        (
            "InResNet50",
            {"input_shape": (31, 64, 3)},
            "at least 32x32 .*reduce them by 32",
        ),
        ("InResNeXt29_8x64d", {"input_shape": (3, 3, 3)}, "at least 4x4"),
        ("InResNet152", {"classes": 0}, "positive integer. Received: classes=0"),
    ],
)
def test_invalid_arguments(constructor, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(zoo, constructor)(**arguments)


def test_depths():
    with pytest.raises(
        ValueError, match="8, 20, 32, 44, 56, 110, 164. Received: depth=21"
    ):
        zoo.InResNet(21)
    assert zoo.LambdaInResNet(8, **SMALL).name == "lambda_in_resnet8"
