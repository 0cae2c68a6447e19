"""Bounds of whole networks against exact Jacobians in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import zoo
from inres_tf.layers import (
    BatchNormalization,
    ConvDynamics,
    ConvexPotentialConv2D,
    DampedAdd,
    GroupedConv2D,
    LipschitzConv2D,
    LipschitzDense,
    MaxMin,
    NeuralODE,
    SpaceToDepth,
    operator_norms,
    tighten,
)
from inres_tf.models import in_float64, lipschitz_bound, logits_fn
from inres_tf.models.lipschitz import RULES

SHAPE = (6, 5, 4)
ZEROS = np.zeros((1, *SHAPE))


@keras.saving.register_keras_serializable(package="tests")
class Doubled(layers.Layer):
    """2 x, with a bound of its own."""

    def call(self, inputs):
        return 2 * inputs

    def lipschitz_bound(self):
        return 2.0


class OtherDense(layers.Dense):
    """A subclass that computes something else."""

    def call(self, inputs):
        return 10 * super().call(inputs)


class Add(layers.Layer):
    """Not Keras' layer of that name."""

    def call(self, inputs):
        return 10 * inputs[0] + inputs[1]


def relu(x):
    """Not Keras' function of that name."""
    return 5 * keras.ops.relu(x)


class Amplified(keras.Model):
    """A functional model that computes something else than its graph."""

    def call(self, inputs):
        return 5 * super().call(inputs)


def classifier(body, shape=SHAPE, classes=3, **last):
    """A classifier of a function of the input tensor."""
    inputs = keras.Input(shape)
    features = layers.Flatten()(body(inputs))
    return keras.Model(inputs, layers.Dense(classes, **last)(features))


def randomized(model, rng):
    """The model with random weights, variances positive."""
    for weight in model.weights:
        values = rng.normal(size=weight.shape)
        weight.assign(np.abs(values) + 0.1 if "variance" in weight.path else values)
    return model


def matrix_of(model):
    """The matrix of an affine model, float64, (outputs, pixels)."""
    basis = np.eye(np.prod(SHAPE)).reshape(-1, *SHAPE)
    outputs = np.asarray(in_float64(model)(np.concatenate([ZEROS, basis])))
    return (outputs[1:] - outputs[0]).T


def jacobians(model, images):
    """Jacobians of the logits in float64, (number, classes, pixels)."""
    copy, x = in_float64(model), tf.constant(images, tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        logits = tf.unstack(copy(x), axis=1)
    rows = [tape.gradient(logit, x).numpy() for logit in logits]
    return np.stack(rows, 1).reshape(len(images), len(rows), -1)


def norm(matrix):
    return np.linalg.norm(matrix, 2)


LINEAR = {
    "rescaling": layers.Rescaling(1 / 51, offset=-1.0),
    "normalization": layers.Normalization(
        mean=(1.0, 2.0, 3.0, 4.0), variance=(4.0, 0.25, 9.0, 1.0)
    ),
    "conv": layers.Conv2D(3, 3, padding="same"),
    "even conv": layers.Conv2D(3, 2, padding="same"),
    "valid conv": layers.Conv2D(3, (3, 2)),
    "strided conv": layers.Conv2D(3, 3, strides=2, padding="same"),
    "strided valid conv": layers.Conv2D(3, 2, strides=2),
    "wide strided conv": layers.Conv2D(2, 5, strides=3, padding="same"),
    "unequal strides": layers.Conv2D(3, 3, strides=(2, 1), padding="same"),
    "dilated conv": layers.Conv2D(3, 3, dilation_rate=(2, 1), padding="same"),
    "grouped conv": GroupedConv2D(6, 3, groups=2, padding="same"),
    "dense": layers.Dense(5),
    "batch norm": layers.BatchNormalization(),
    "fused batch norm": BatchNormalization(),
    "unscaled batch norm": layers.BatchNormalization(scale=False, center=False),
    "zero padding": layers.ZeroPadding2D(((1, 0), (2, 1))),
    "cropping": layers.Cropping2D(1),
    "permute": layers.Permute((3, 1, 2)),
    "reshape": layers.Reshape((4, 30)),
    "average pool": layers.AveragePooling2D(2),
    "overlapping average pool": layers.AveragePooling2D(3, strides=1),
    "same average pool": layers.AveragePooling2D(2, padding="same"),
    "global average": layers.GlobalAveragePooling2D(),
    "dropout": layers.Dropout(0.5),
    "noise": layers.GaussianNoise(0.5),
    "space to depth": SpaceToDepth(2),
    "Lipschitz conv": LipschitzConv2D(3),
    "own": Doubled(),
}
# Where the border makes the norm smaller than the bound.
LOOSE = (
    "wide strided conv",
    "unequal strides",
    "overlapping average pool",
    "same average pool",
)


@pytest.mark.parametrize("name", LINEAR)
def test_bounds_of_linear_layers_are_barely_above_their_norms(name, rng):
    layer = type(LINEAR[name]).from_config(LINEAR[name].get_config())
    model = randomized(classifier(layer), rng)
    tighten(model)
    bound = lipschitz_bound(model)
    features = keras.Model(model.inputs[0], model.layers[-2].output)
    exact = matrix_of(features)
    assert norm(exact) <= bound.features
    assert bound.features <= (3 if name in LOOSE else 1.2) * norm(exact)
    logits = matrix_of(model)
    assert norm(logits) <= bound.global_bound
    for i, j in np.ndindex(3, 3):
        assert np.linalg.norm(logits[i] - logits[j]) <= bound.pairwise[i, j] + 1e-12


def test_bounds_of_one_by_one_convolutions_and_matrices_are_exact(rng):
    kernel = rng.normal(size=(1, 1, 4, 3))
    model = classifier(layers.Conv2D(3, 1))
    model.layers[1].kernel.assign(kernel)
    model.layers[-1].kernel.assign(rng.normal(size=(90, 3)))
    bound = lipschitz_bound(model)
    last = np.asarray(model.layers[-1].kernel, np.float64)
    assert bound.features == pytest.approx(norm(kernel[0, 0]), rel=1e-5)
    assert bound.global_bound == pytest.approx(bound.features * norm(last), rel=1e-5)
    distances = np.linalg.norm(last[:, :, None] - last[:, None, :], axis=0)
    np.testing.assert_allclose(bound.pairwise, bound.features * distances, rtol=1e-5)


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (layers.Add(), 5.0),
        (layers.Subtract(), 5.0),
        (layers.Average(), 2.5),
        (layers.Concatenate(), np.hypot(2, 3)),
        (layers.Maximum(), np.hypot(2, 3)),
        (layers.Minimum(), np.hypot(2, 3)),
        (DampedAdd("none"), 5.0),
        (DampedAdd("plain"), 3.0),
        (DampedAdd("in", keras.initializers.Constant(0.25)), 0.25 * 2 + 3),
        (DampedAdd("lambda_in", keras.initializers.Constant(2.0)), 1 * 2 + 3 * 3),
        (lambda pair: pair[0] + pair[1], 5.0),
    ],
)
def test_merges_add_the_bounds_of_their_branches(merge, expected, rng):
    def body(x):
        return merge([layers.Rescaling(2.0)(x), layers.Rescaling(-3.0)(x)])

    model = classifier(body)
    bound = lipschitz_bound(model)
    assert bound.features == pytest.approx(expected, rel=1e-5)
    kernel = np.asarray(model.layers[-1].kernel, np.float64)
    (slope,) = jacobians(model, rng.normal(size=(1, *SHAPE)))
    assert norm(slope) <= bound.features * norm(kernel) * (1 + 1e-6)


def test_a_bright_pixel_in_all_windows_attains_the_bound_of_max_pooling():
    """In nine overlapping windows, a pixel moves the output by three times itself."""
    layer = layers.MaxPooling2D(3, strides=1, padding="same")
    bound = lipschitz_bound(classifier(layer)).features
    pixel = np.zeros((1, *SHAPE), np.float32)
    pixel[0, 2, 2, 0] = 1.0
    moved = np.linalg.norm(layer(pixel))
    assert moved == pytest.approx(3.0) and bound == pytest.approx(3.0, rel=1e-5)
    apart = layers.MaxPooling2D(2)
    assert lipschitz_bound(classifier(apart)).features == pytest.approx(1, rel=1e-5)


def smooth(x):
    x = layers.Conv2D(4, 3, activation="tanh")(x)
    return layers.Activation("softplus")(layers.LeakyReLU(1.5)(x))


def residual(x):
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = DampedAdd("in")([x, layers.BatchNormalization()(y)])
    return layers.MaxPooling2D(2)(layers.ReLU()(x))


def potential(x):
    x = ConvexPotentialConv2D(5)(MaxMin()(x))
    return NeuralODE(ConvDynamics("skew"), "rk4")(x)


@pytest.mark.parametrize("body", [smooth, residual, potential])
def test_slopes_of_random_networks_are_below_their_bounds(body, rng):
    model = randomized(classifier(body), rng)
    bound = lipschitz_bound(model)
    images = rng.normal(size=(20, *SHAPE))
    slopes = jacobians(model, images)
    assert max(map(norm, slopes)) <= bound.global_bound
    for i, j in ((0, 1), (1, 2), (0, 2)):
        steepest = np.linalg.norm(slopes[:, i] - slopes[:, j], axis=-1).max()
        assert 0 < steepest <= bound.pairwise[i, j]


@pytest.mark.parametrize("name", ["cpl_tiny", "damped_cpl_tiny", "lip_node_tiny"])
def test_logits_of_models_of_the_zoo_move_at_most_by_the_bound(name, digits, rng):
    model = zoo.get_model(name, input_shape=digits.shape)
    tighten(model)
    bound = lipschitz_bound(model)
    logits = logits_fn(in_float64(model))
    images = digits.test.images[:50].astype(np.float64)
    near = images + rng.normal(size=images.shape)
    for others in (images[::-1], near):
        distance = np.linalg.norm((images - others).reshape(50, -1), axis=1)
        moved = np.asarray(logits(images)) - np.asarray(logits(others))
        changes = np.abs(moved[:, :, None] - moved[:, None, :])
        assert (changes <= bound.pairwise * distance[:, None, None]).all()


def test_the_softmax_at_the_end_is_left_out(rng):
    plain = classifier(layers.Dense(4))
    softmax = classifier(layers.Dense(4), activation="softmax")
    inner = keras.Sequential([keras.Input(SHAPE), layers.Dense(4), layers.Flatten()])
    inner.add(layers.Dense(3, activation="softmax"))
    nested = keras.Sequential([keras.Input(SHAPE), layers.Identity(), inner])
    after = keras.Sequential([keras.Input(SHAPE), plain, layers.Softmax()])
    bounds = []
    for model in (plain, softmax, nested, after):
        model.set_weights(plain.get_weights())
        bounds.append(lipschitz_bound(model))
    for bound in bounds[1:]:
        np.testing.assert_array_equal(bound.pairwise, bounds[0].pairwise)
    # Of two, the first one is part of the network.
    twice = keras.Sequential([keras.Input(SHAPE), softmax, layers.Softmax()])
    root = np.sqrt(2) * bounds[0].global_bound
    np.testing.assert_allclose(
        lipschitz_bound(twice).pairwise, root * (1 - np.eye(3)), rtol=1e-5
    )


def test_the_last_layer_counts_by_pairs_of_classes_if_it_is_dense(rng):
    body = [keras.Input(SHAPE), layers.Conv2D(3, 3), layers.Flatten()]
    limited = keras.Sequential([*body, LipschitzDense(3, limit=0.5)])
    kernel = rng.normal(size=(36, 3))
    limited.layers[-1].kernel.assign(kernel)
    tighten(limited)
    bound = lipschitz_bound(limited)
    expected = bound.features * 0.5 / operator_norms.dense_norm_bound(kernel)
    assert bound.global_bound == pytest.approx(0.5 * bound.features, rel=1e-5)
    gap = np.linalg.norm(kernel[:, 0] - kernel[:, 1])
    assert bound.pairwise[0, 1] == pytest.approx(expected * gap, rel=1e-5)
    pooled = keras.Sequential([keras.Input(SHAPE), layers.GlobalAveragePooling2D()])
    bound = lipschitz_bound(pooled)
    assert bound.global_bound == pytest.approx(30**-0.5, rel=1e-5)
    assert bound.pairwise[0, 1] == pytest.approx(np.sqrt(2 / 30), rel=1e-5)


def test_a_layer_called_twice_counts_twice():
    double = layers.Rescaling(2.0)
    model = classifier(lambda x: double(double(x)))
    assert lipschitz_bound(model).features == pytest.approx(4.0, rel=1e-5)


def repeated_mean(x):
    return layers.Add()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)])


def row_maximum(x):
    return layers.Maximum()([x, layers.Cropping2D(((0, 5), 0))(x)])


@pytest.mark.parametrize(
    ("body", "shape", "norm"),
    [
        # The identity plus the projection on what is equal everywhere.
        (repeated_mean, (6, 5, 1), 2.0),
        (lambda x: x + np.zeros((1, 6, 5, 1), np.float32), (1, 1, 1), 30**0.5),
        (row_maximum, (6, 5, 1), 7**0.5),
    ],
)
def test_what_is_repeated_by_broadcasting_counts_as_often(body, shape, norm):
    bound = lipschitz_bound(classifier(body, shape)).features
    assert bound == pytest.approx(norm, rel=1e-5) and bound >= norm


def test_broadcasting_by_an_unknown_factor_is_refused():
    inputs = keras.Input((None, None, 3))
    largest = layers.GlobalMaxPooling2D(keepdims=True)(inputs)
    outputs = layers.GlobalMaxPooling2D()(layers.Add()([inputs, largest]))
    with pytest.raises(ValueError, match="layer 'add.*it broadcasts .* unknown"):
        lipschitz_bound(keras.Model(inputs, outputs))


def test_rules_can_be_added(monkeypatch):
    model = classifier(layers.UnitNormalization())
    with pytest.raises(ValueError, match="UnitNormalization"):
        lipschitz_bound(model)
    rule = lambda layer, sources, shapes: 7 * sources[0]
    monkeypatch.setitem(RULES, layers.UnitNormalization, rule)
    assert lipschitz_bound(model).features == pytest.approx(7, rel=1e-5)


def adaptive(x):
    return NeuralODE(ConvDynamics(), "dopri5", name="flow")(x)


def twice(x):
    """Calls a layer on images of two sizes."""
    layer = Doubled(name="both")
    parts = [layer(x), layer(layers.Cropping2D(1)(x))]
    return layers.Concatenate()([layers.Flatten()(part) for part in parts])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (layers.LayerNormalization(name="norm"), "'norm' .* has no known Lipschitz"),
        (OtherDense(3, name="mine"), r"'mine' \(OtherDense\).* use Conv2D"),
        (layers.Dense(3, activation="silu", name="a"), "layer 'a': .*silu has no"),
        (layers.ReLU(threshold=1.0, name="r"), "layer 'r': its threshold"),
        (adaptive, "layer 'flow': dopri5 adapts its step size"),
        (lambda x: x * x, "'multiply.*' .* has no known Lipschitz"),
        (twice, "tensors of several shapes"),
        (lambda x: Add(name="sum")([x, x]), r"'sum' \(Add\).* has no known"),
        (layers.Activation(relu, name="a"), "layer 'a': .*relu of .*has no known"),
        (layers.Dense(3, activation=relu, name="d"), "layer 'd': .*relu of .*has no"),
    ],
)
def test_layers_without_a_known_bound_are_refused_by_name(body, message):
    with pytest.raises(ValueError, match=message):
        lipschitz_bound(classifier(body))


def test_models_whose_weights_or_graph_are_not_what_they_compute_are_refused():
    model = classifier(layers.Identity())
    model.layers[-1].quantize("int8")
    with pytest.raises(ValueError, match="is quantized"):
        lipschitz_bound(model)
    plain = classifier(layers.Identity())
    amplified = Amplified(plain.input, plain.output, name="loud")
    for model in (amplified, keras.Sequential([keras.Input(SHAPE), amplified])):
        with pytest.raises(ValueError, match="loud is a Amplified, whose own `call`"):
            lipschitz_bound(model)


def test_unknown_sizes_and_weights_that_are_not_finite_are_refused():
    inputs = keras.Input((None, None, 3))
    for layer in (
        LipschitzConv2D(3, name="own"),
        NeuralODE(ConvDynamics(), name="own"),
    ):
        layer(np.zeros((1, 2, 2, 3)))  # on smaller images its norm is smaller
        outputs = layers.GlobalAveragePooling2D()(layer(inputs))
        with pytest.raises(ValueError, match="'own': .* height and width"):
            lipschitz_bound(keras.Model(inputs, outputs))
    outputs = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, name="conv")(inputs))
    with pytest.raises(ValueError, match="layer 'conv': .* height and width"):
        lipschitz_bound(keras.Model(inputs, outputs))
    model = classifier(layers.BatchNormalization())
    model.layers[1].gamma.assign([1.0, np.nan, 1.0, 1.0])
    with pytest.raises(ValueError, match="not finite"):
        lipschitz_bound(model)
