"""Each layer against Keras, its bound against Jacobians and the layer's own bound."""

import keras
import numpy as np
import pytest

from inres_tf import layers as own
from inres_tf.errors import UserError
from inres_tf.verifier.maps import MAPS

KERAS = {
    "Normalization": lambda: keras.layers.Normalization(
        mean=[0.3, -0.2], variance=[0.25, 0.5]
    ),
    "Rescaling": lambda: keras.layers.Rescaling([0.5, -2.0], offset=[0.1, 0.2]),
    "Conv2D": lambda: keras.layers.Conv2D(3, 3, padding="same"),
    "Conv2D strided": lambda: keras.layers.Conv2D(3, 3, 2, padding="same"),
    "Conv2D valid": lambda: keras.layers.Conv2D(3, 2, activation="relu"),
    "Dense": lambda: keras.layers.Dense(4, activation="relu"),
    "Dense without a bias": lambda: keras.layers.Dense(4, use_bias=False),
    "Flatten": keras.layers.Flatten,
    "GlobalAveragePooling2D": keras.layers.GlobalAveragePooling2D,
    "ZeroPadding2D": lambda: keras.layers.ZeroPadding2D(((1, 0), (2, 3))),
    "ReLU": lambda: keras.layers.ReLU(max_value=1.5),
    "Activation": lambda: keras.layers.Activation("relu"),
    "Dropout": lambda: keras.layers.Dropout(0.5),
    "SpatialDropout2D": lambda: keras.layers.SpatialDropout2D(0.5),
    "GaussianDropout": lambda: keras.layers.GaussianDropout(0.5),
    "GaussianNoise": lambda: keras.layers.GaussianNoise(0.5),
}
OWN = {
    "ConvexPotentialConv2D": lambda: own.ConvexPotentialConv2D(3),
    "ConvexPotentialConv2D undamped": lambda: own.ConvexPotentialConv2D(
        5, kernel_size=5, damping="none"
    ),
    "ConvexPotentialConv2D 1x1": lambda: own.ConvexPotentialConv2D(
        2, kernel_size=1, damping="exponential"
    ),
    "LipschitzConv2D": lambda: own.LipschitzConv2D(3, limit=0.5),
    "LipschitzConv2D below the limit": lambda: own.LipschitzConv2D(4, limit=100.0),
    "LipschitzConv2D without limit": lambda: own.LipschitzConv2D(
        3, limit=None, use_bias=False
    ),
    "LipschitzConv2D with penalty": lambda: own.LipschitzConv2D(
        3, limit=0.5, penalty=1.0
    ),
    "MaxMin": own.MaxMin,
    "ResizeChannels": lambda: own.ResizeChannels(5),
    "ResizeChannels fewer": lambda: own.ResizeChannels(1),
    "ShiftedOrthogonal": own.ShiftedOrthogonal,
    "SpaceToDepth": own.SpaceToDepth,
    "UniformNoise": lambda: own.UniformNoise(0.5),
}
VECTORS = {
    "ConvexPotentialDense": lambda: own.ConvexPotentialDense(7),
    "ConvexPotentialDense undamped": lambda: own.ConvexPotentialDense(3, "none"),
    "LipschitzDense": lambda: own.LipschitzDense(4, limit=0.5),
    "LipschitzDense without limit": lambda: own.LipschitzDense(4, limit=None),
}


def test_every_map_is_tested():
    tested = {name.split()[0] for name in (*KERAS, *OWN, *VECTORS)}
    assert tested == {kind.removeprefix("inres_tf>") for kind in MAPS}


def check(case):
    assert case.error_of_logits() < 1e-5
    assert case.jacobian_norm() <= case.bound * (1 + 1e-6)  # which is in float32


@pytest.mark.parametrize("name", KERAS)
def test_layers_of_keras(name, saved_layer):
    case = saved_layer(KERAS[name]())
    check(case)
    if "relu" not in str(case.layer.get_config()):
        slack = 1.25 if "Conv2D" in name else 1.00001
        assert case.bound <= slack * case.jacobian_norm()


@pytest.mark.parametrize("name", OWN)
def test_own_layers(name, saved_layer):
    case = saved_layer(OWN[name]())
    check(case)
    if hasattr(case.layer, "lipschitz_bound"):
        assert case.bound == pytest.approx(case.layer.lipschitz_bound(), rel=1e-4)


@pytest.mark.parametrize("name", VECTORS)
def test_own_layers_of_vectors(name, saved_layer):
    case = saved_layer(VECTORS[name](), shape=(9,))
    check(case)
    assert case.bound == pytest.approx(case.layer.lipschitz_bound(), rel=1e-4)


def test_statistics_that_normalization_adapted(saved_layer, rng):
    layer = keras.layers.Normalization()
    layer.adapt(rng.normal(2.0, 3.0, size=(50, 5, 4, 2)))
    case = saved_layer(layer)
    check(case)
    assert case.bound == pytest.approx(1 / np.sqrt(layer.variance.numpy().min()), 1e-5)


@pytest.mark.parametrize("shape", [(7, 7, 3), (6, 5, 1)])
def test_cells_that_do_not_fit(shape, saved_layer):
    check(saved_layer(own.SpaceToDepth(3), shape))


@pytest.mark.parametrize(
    ("damping", "k", "a"),
    [
        ("none", None, 1.0),
        ("in", 0.7, 0.7),
        ("in", 1.5, 1.0),
        ("in", -0.5, 0.0),
        ("exponential", 0.5, np.exp(-0.5)),
        ("exponential", -0.5, 1.0),
    ],
)
def test_blocks_with_a_sound_norm_have_the_constant_of_their_damping(
    damping, k, a, saved_layer
):
    layer = own.ConvexPotentialConv2D(4, damping=damping)
    case = saved_layer(layer, estimate=1.0, k=k)
    assert case.bound == pytest.approx(a, rel=1e-5)
    # A norm that is too low: a - c ‖W‖² is below -a.
    case = saved_layer(own.ConvexPotentialConv2D(4, damping=damping), estimate=0.8, k=k)
    assert case.bound == pytest.approx(a * (2 / 0.8**2 - 1), rel=1e-5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            keras.layers.BatchNormalization(name="bn"),
            "'bn' (BatchNormalization) cannot",
        ),
        (keras.layers.Conv2D(4, 3, groups=2), "groups=2; it must be 1"),
        (keras.layers.Conv2D(4, 2, dilation_rate=2), "dilation_rate=2; it must be 1"),
        (keras.layers.Conv2D(4, 2, (2, 1)), "equal strides"),
        (keras.layers.Conv2D(4, 2, activation="tanh"), "activation='tanh'"),
        (keras.layers.Activation("softmax"), "activation='softmax'"),
        (keras.layers.ReLU(negative_slope=0.1), "negative_slope=0.1; it must be 0.0"),
        (keras.layers.ReLU(threshold=1.0), "threshold=1.0"),
        (keras.layers.Normalization(axis=1), "must normalise the last axis"),
        (keras.layers.GlobalAveragePooling2D(keepdims=True), "keepdims=True"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_layers_that_are_refused(layer, message, saved_layer):
    with pytest.raises(UserError) as error:
        saved_layer(layer)
    assert message in str(error.value) and layer.name in str(error.value)
