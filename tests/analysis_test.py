import dataclasses
import json

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from keras import layers

import zoo
from inres_tf import analysis, attacks, corruptions, dampings
from inres_tf.analysis import functions
from inres_tf.analysis.landscape import directions
from inres_tf.analysis.lyapunov import through_blocks
from inres_tf.errors import UserError
from inres_tf.evaluation import Classifier
from inres_tf.layers import DampedAdd, damped_layers, damping_rates

SHAPE = (2, 2, 3)


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def flat(x):
    return np.asarray(x, np.float64).reshape(len(x), -1)


@pytest.fixture
def data(rng):
    images = rng.uniform(100, 150, (5, *SHAPE)).astype(np.float32)
    return images, rng.integers(0, 4, 5)


def linear_model(rng, scale=0.02):
    """Softmax regression of 12 pixels into 4 classes, and its matrix."""
    inputs = keras.Input(SHAPE)
    dense = layers.Dense(4, "softmax")
    model = keras.Model(inputs, dense(layers.Flatten()(inputs)))
    matrix = rng.normal(0, scale, (12, 4)).astype(np.float32)
    dense.set_weights([matrix, np.zeros(4, np.float32)])
    return model, matrix.astype(np.float64)


def mix(rng, name=None):
    """A 1x1 convolution of 3 channels, and its matrix: y = x M."""
    matrix = rng.normal(0, 0.6, (3, 3)).astype(np.float32)
    layer = layers.Conv2D(3, 1, use_bias=False, name=name)
    layer.build((None, *SHAPE))
    layer.set_weights([matrix[None, None]])
    return layer, matrix.astype(np.float64)


def toy(rng, damping="in", top=True):
    """A stem, a damped block, a projected one; the matrices S, F, P, G, H.

    x_0 = x S, x_1 = a x_0 + b x_0 F, x_2 = x_1 P + x_1 G H.
    """
    parts = [mix(rng) for _ in range(5)]
    (stem, _), (f, _), (p, _), (g, _), (h, _) = parts
    inputs = keras.Input(SHAPE)
    x = layers.Activation("linear")(stem(inputs))
    x = DampedAdd(damping, name="damped")([x, f(x)])
    x = layers.Add(name="projected")([p(x), h(g(x))])
    x = layers.Dense(4)(layers.Flatten()(x)) if top else x
    return keras.Model(inputs, x, name="toy"), [matrix for _, matrix in parts]


def block_matrices(matrices, damping, rate):
    """The matrices of the two blocks of `toy`."""
    _, f, p, g, h = matrices
    row = dampings.get(damping)
    a, b = (
        float(w(keras.ops.convert_to_tensor(rate))) for w in (row.shortcut, row.branch)
    )
    return a * np.eye(3) + b * f, p + g @ h


def largest(matrix):
    return np.linalg.svd(matrix, compute_uv=False)[0]


# Blocks.


def test_blocks_of_the_zoo_are_those_of_its_merges(digits):
    """With the states of Keras' own model, and noise that evaluation leaves out."""
    model = zoo.get_model("en_resnet20", input_shape=digits.shape)
    images = digits.test.images[:3].astype(np.float32)
    chain = analysis.Chain(model)
    merges = [layer for layer in model.layers if layer.name.endswith("_merge")]
    assert [block.name for block in chain.blocks] == [m.name for m in merges]
    expected = keras.Model(model.input, [m.output for m in merges])(images)
    for block, (x, y), value in zip(chain.blocks, chain.states(images), expected):
        np.testing.assert_allclose(y, value, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(block(x), y, rtol=1e-5, atol=1e-5)


def test_blocks_are_found_in_nested_models(rng, data):
    inner, matrices = toy(rng, top=False)
    model = keras.Sequential([keras.Input(SHAPE), inner, layers.Flatten()])
    chain = analysis.Chain(model)
    assert [b.name for b in chain.blocks] == ["toy/damped", "toy/projected"]
    (x0, x1), (again, x2) = chain.states(data[0])
    np.testing.assert_array_equal(x1, again)
    np.testing.assert_allclose(x0, data[0] @ matrices[0], rtol=1e-4)
    np.testing.assert_allclose(x2, inner(data[0]), rtol=1e-4, atol=1e-3)


def test_finding_blocks_leaves_the_model_alone(rng, data):
    model, _ = toy(rng)
    analysis.lyapunov(model, *data, 4, rates=(1.0,), steps=1, iterations=2)
    assert all(len(layer._inbound_nodes) == 1 for layer in model.layers)


# Lyapunov.


@pytest.mark.parametrize("damping", ["in", "lambda_in", "exponential"])
def test_growth_and_exponents_are_those_of_the_matrices(rng, data, damping):
    model, matrices = toy(rng, damping)
    rates = (0.0, 0.5, 1.5)
    trained = damping_rates(model)["damped"]
    found = analysis.lyapunov(
        model, *data, 4, rates=rates, steps=2, iterations=500, tolerance=1e-7
    )
    assert found.names == ("damped", "projected") and found.converged.all()
    np.testing.assert_array_equal(found.settings, [np.nan, *rates])
    for i, rate in enumerate((trained, *rates)):
        assert found.rates[i, 0] == pytest.approx(rate, abs=1e-6)
        assert np.isnan(found.rates[i, 1])
        blocks = block_matrices(matrices, damping, rate)
        for j, block in enumerate(blocks):
            np.testing.assert_allclose(
                found.exponents[i, :, j], np.log(largest(block)), atol=1e-3
            )
    # Random signs of a size at which nothing is clipped.
    signs = np.random.default_rng([0, 2]).choice([-4.0, 4.0], data[0].shape)
    for i, rate in enumerate((trained, *rates)):
        difference, norms = signs @ matrices[0], []
        norms.append(np.linalg.norm(flat(difference), axis=1))
        for block in block_matrices(matrices, damping, rate):
            difference = difference @ block
            norms.append(np.linalg.norm(flat(difference), axis=1))
        expected = np.stack(norms, 1) / np.linalg.norm(flat(signs), axis=1)[:, None]
        np.testing.assert_allclose(found.growth_random[i], expected, rtol=2e-4)


def test_growth_is_bounded_by_the_constants_of_the_blocks(rng, data):
    """Of linear blocks, whatever the perturbation; and PGD does find one."""
    model, _ = toy(rng)
    found = analysis.lyapunov(model, *data, 8, iterations=500, tolerance=1e-7)
    for growth in (found.growth_random[0], found.growth_pgd[0]):
        bound = np.exp(np.cumsum(found.exponents[0], axis=1))
        assert (through_blocks(growth)[:, 1:] <= bound * (1 + 1e-4)).all()
    assert not np.allclose(found.growth_random, found.growth_pgd, rtol=1e-3)


def test_rates_are_put_back(rng, data, monkeypatch):
    model, _ = toy(rng, "lambda_in")
    before = damped_layers(model)[0][1].k.numpy()
    analysis.lyapunov(model, *data, 4, rates=(0.7,), steps=1, iterations=2)
    assert damped_layers(model)[0][1].k.numpy() == before

    def fail(*args, **kwargs):
        assert damping_rates(model)["damped"] == pytest.approx(0.7)
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError), analysis.damped_at(model, 0.7):
        fail()
    assert damped_layers(model)[0][1].k.numpy() == before
    calls = []

    def second(model, images, *args, **kwargs):
        calls.append(damping_rates(model)["damped"])
        if len(calls) == 2:
            fail()
        return images + 1

    monkeypatch.setattr(attacks, "pgd", second)
    with pytest.raises(RuntimeError):
        analysis.lyapunov(model, *data, 4, rates=(0.7,), steps=1, iterations=2)
    assert len(calls) == 2 and damped_layers(model)[0][1].k.numpy() == before


# Lipschitz.


def test_lipschitz_of_a_linear_model(rng, data):
    model, matrix = linear_model(rng)
    images, labels = data
    found = analysis.lipschitz(model, *data, iterations=2000, tolerance=1e-8)
    np.testing.assert_allclose(found.network, largest(matrix), rtol=1e-4)
    scores = flat(images) @ matrix
    true = matrix[:, labels]
    scores[np.arange(5), labels] = -np.inf
    margin = np.linalg.norm(true - matrix[:, scores.argmax(1)], axis=0)
    np.testing.assert_allclose(found.margin, margin, rtol=1e-5)
    assert found.blocks.shape == (5, 0) and found.names == ()


def test_lipschitz_of_blocks_and_their_product(rng, data):
    model, matrices = toy(rng)
    found = analysis.lipschitz(model, *data, iterations=500, tolerance=1e-7)
    blocks = block_matrices(matrices, "in", damping_rates(model)["damped"])
    expected = [largest(block) for block in blocks]
    np.testing.assert_allclose(found.blocks, [expected] * 5, rtol=1e-3)
    np.testing.assert_allclose(found.product, np.prod(expected), rtol=2e-3)


def test_lipschitz_of_a_network_is_that_of_its_jacobian(trained, digits):
    """Through fused batch normalisation, ReLU, strides and pooling."""
    images, labels = digits.test.images[:2], digits.test.labels[:2]
    found = analysis.lipschitz(trained, images, labels, iterations=100, tolerance=0)
    pixels = tf.constant(images, tf.float32)
    logits = functions.logits_fn(trained)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        scores = logits(pixels)
    jacobian = tape.batch_jacobian(scores, pixels).numpy().reshape(2, 10, -1)
    expected = [largest(j) for j in jacobian.astype(np.float64)]
    np.testing.assert_allclose(found.network, expected, rtol=1e-3)
    for i, y in enumerate(labels):
        others = np.delete(np.arange(10), y)
        runner_up = others[scores.numpy()[i, others].argmax()]
        norm = np.linalg.norm(jacobian[i, y] - jacobian[i, runner_up])
        assert found.margin[i] == pytest.approx(norm, rel=1e-4)
    chain = analysis.Chain(trained)
    block, (x, _) = chain.blocks[-1], chain.states(pixels)[-1]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = block(x)
    jacobian = tape.batch_jacobian(y, x).numpy().reshape(2, -1, np.prod(x.shape[1:]))
    expected = [largest(j) for j in jacobian.astype(np.float64)]
    np.testing.assert_allclose(found.blocks[:, -1], expected, rtol=1e-3)


def test_power_iteration_grows_to_its_limit_and_says_whether_it_got_there(rng, data):
    model, matrix = linear_model(rng)
    values = []
    for iterations in (1, 2, 4, 8):
        found = analysis.lipschitz(model, *data, iterations=iterations, tolerance=0)
        values.append(found.network)
        assert (found.iterations == iterations).all() and not found.converged.any()
    assert (np.diff(values, axis=0) > 0).all()
    assert (values[-1] <= largest(matrix) * (1 + 1e-5)).all()
    found = analysis.lipschitz(model, *data, iterations=1000, tolerance=1e-3)
    assert found.converged.all() and (found.iterations < 1000).all()


def test_a_constant_function_has_the_constant_zero():
    found = analysis.largest_singular_value(tf.zeros_like, tf.ones((2, 3)), 5, 1e-3)
    np.testing.assert_array_equal(found, [[0, 1, 1]] * 2)


# Landscape.


def test_landscape_of_a_linear_model_is_its_closed_form(rng, data):
    model, matrix = linear_model(rng)
    images, labels = data
    found = analysis.landscape(model, *data, 8, grid=5, seed=3)
    np.testing.assert_array_equal(found.steps, [-8, -4, 0, 4, 8])
    probabilities = softmax(flat(images) @ matrix)
    gradient = (probabilities - np.eye(4)[labels]) @ matrix.T
    u, v = (flat(x) for x in directions(model, images, labels, 8, "sign", seed=3))
    np.testing.assert_array_equal(u, np.sign(gradient))
    assert set(np.unique(v)) == {-1, 1}
    for i, s in enumerate(found.steps):
        for j, t in enumerate(found.steps):
            scores = (flat(images) + s * u + t * v) @ matrix
            loss = -np.log(softmax(scores)[np.arange(5), labels])
            np.testing.assert_allclose(found.loss[:, i, j], loss, 1e-4, 1e-6)
            right = scores.argmax(1) == labels
            np.testing.assert_array_equal(found.correct[:, i, j], right)
            assert found.mean_loss[i, j] == pytest.approx(loss.mean(), rel=1e-4)
            assert found.accuracy[i, j] == right.mean()


def test_gradient_direction_is_a_unit_vector_and_the_random_one_orthogonal(rng, data):
    model, matrix = linear_model(rng)
    u, v = (flat(x) for x in directions(model, *data, 8, "gradient"))
    gradient = (softmax(flat(data[0]) @ matrix) - np.eye(4)[data[1]]) @ matrix.T
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(u, gradient, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose((u * v).sum(1), 0, atol=1e-6)


def test_pgd_direction_ends_at_pgd(trained, digits):
    images, labels = digits.test.images[:9], digits.test.labels[:9]
    found = analysis.landscape(
        trained, images, labels, 32, grid=3, direction="pgd", steps=5, seed=1
    )
    adversarial = attacks.pgd(
        trained, images, labels, 32, steps=5, step_size=16, seed=1
    )
    loss, right = functions.losses(trained, adversarial, labels)
    np.testing.assert_allclose(found.loss[:, -1, 1], loss, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(found.correct[:, -1, 1], right)
    assert found.mean_loss[-1, 1] > found.mean_loss[1, 1]
    u, v = (flat(x) for x in directions(trained, images, labels, 32, "pgd", 5, 1))
    np.testing.assert_allclose((u * v).sum(1), 0, atol=1e-4)
    norms = [np.linalg.norm(x, axis=1) for x in (u, v)]
    np.testing.assert_allclose(*norms, rtol=1e-4)


# Gradients.


def test_gradient_norms_of_softmax_regression(rng, data):
    model, matrix = linear_model(rng)
    matrix[[2, 5, 7]] = 0  # pixels that no class looks at
    model.layers[-1].set_weights([matrix, np.zeros(4)])
    found = analysis.gradient_norms(model, *data)
    images, labels = data
    gradient = (softmax(flat(images) @ matrix) - np.eye(4)[labels]) @ matrix.T
    for name, order in (("l1", 1), ("l2", 2), ("linf", np.inf)):
        expected = np.linalg.norm(gradient, order, axis=1)
        np.testing.assert_allclose(getattr(found, name), expected, 1e-4, 1e-7)
    np.testing.assert_allclose(found.zeros, 3 / 12)


def test_gradients_that_vanish_are_counted(data):
    """At a confidence of exactly 1 the loss has no gradient."""
    rng = np.random.default_rng(1)
    model, matrix = linear_model(rng, scale=100.0)
    labels = (flat(data[0]) @ matrix).argmax(1)
    found = analysis.gradient_norms(model, data[0], labels)
    np.testing.assert_array_equal(found.zeros, 1)
    np.testing.assert_array_equal(found.l1, 0)
    assert analysis.figures.gradients(found).axes[0].get_title() == (
        "exactly 0: 5 images"
    )


# Calibration.


def test_calibration_by_hand():
    # Confidence .55 and right, .65 and wrong, .9 and right, .95 and right.
    given = np.array([0.55, 0.65, 0.9, 0.95])
    logits = np.log(np.stack([given, 1 - given], 1))
    found = analysis.calibration(logits, np.array([0, 1, 0, 0]), bins=5)
    np.testing.assert_array_equal(found.count, [0, 0, 1, 1, 2])
    np.testing.assert_allclose(
        found.confidence_by_bin, [np.nan, np.nan, 0.55, 0.65, 0.925]
    )
    np.testing.assert_allclose(found.accuracy_by_bin, [np.nan, np.nan, 1, 0, 1])
    assert found.ece == pytest.approx((0.45 + 0.65 + 2 * 0.075) / 4)
    assert found.mce == pytest.approx(0.65)
    assert found.accuracy == 0.75 and found.confidence == pytest.approx(3.05 / 4)
    wrong = np.array([0.45, 0.65, 0.1, 0.05])
    assert found.brier == pytest.approx((2 * wrong**2).mean())
    assert found.nll == pytest.approx(-np.log([0.55, 0.35, 0.9, 0.95]).mean())


def test_calibration_puts_an_edge_into_the_lower_bin():
    found = analysis.calibration(np.zeros((3, 2)), np.array([0, 0, 1]), bins=2)
    np.testing.assert_array_equal(found.count, [3, 0])
    assert found.ece == pytest.approx(2 / 3 - 1 / 2)


def test_calibration_error_of_labels_drawn_as_predicted_vanishes(rng):
    logits = rng.normal(0, 2, (20000, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    found = analysis.calibration(logits, labels)
    assert found.ece < 0.015
    assert found.nll == pytest.approx(sklearn.metrics.log_loss(labels, softmax(logits)))
    confident = analysis.calibration(4 * logits, labels)
    assert confident.ece == pytest.approx(
        confident.confidence - confident.accuracy, abs=0.01
    )
    assert confident.ece > 0.1 and confident.brier > found.brier
    assert confident.accuracy == found.accuracy


def test_huge_logits_have_a_finite_loss():
    found = analysis.calibration([[1e4, 0.0], [0.0, 1e4]], np.array([0, 0]))
    assert found.nll == 5000 and found.brier == 1


def test_calibration_under_corruptions(trained, digits):
    few = digits.test.take(slice(60))
    found = analysis.corrupted_calibration(
        trained, few.images, few.labels, corruptions=("shot_noise",), seed=4
    )
    assert list(found.corrupted) == [("shot_noise", s) for s in range(1, 6)]
    pixels = corruptions.corrupt(few.images, "shot_noise", 5, seed=4)
    by_hand = found.corrupted["shot_noise", 5]
    right = Classifier(trained).correct(pixels, few.labels)
    assert by_hand.accuracy == right.mean()
    confidence = trained.predict(pixels, verbose=0).max(1).mean()
    assert by_hand.confidence == pytest.approx(confidence, rel=1e-4)
    arrays = found.arrays()
    assert list(arrays["sets"][[0, -1]]) == ["clean", "shot_noise 5"]
    assert arrays["ece"][-1] == by_hand.ece and arrays["count"].shape == (6, 15)


# What all have in common.


def test_results_do_not_depend_on_the_batch_size(trained, digits):
    images, labels = digits.test.images[:7], digits.test.labels[:7]
    for function, options in (
        (analysis.gradient_norms, {}),
        (analysis.lipschitz, {"iterations": 30, "tolerance": 0}),
        (analysis.landscape, {"eps": 32, "grid": 3, "direction": "pgd"}),
        (analysis.lyapunov, {"eps": 32, "iterations": 5, "tolerance": 0}),
    ):
        whole, parts = (
            function(trained, images, labels, batch_size=size, **options).arrays()
            for size in (7, 3)
        )
        for name, values in whole.items():
            if np.asarray(values).dtype.kind == "f":
                np.testing.assert_allclose(
                    parts[name], values, rtol=2e-3, atol=1e-6, err_msg=name
                )


def test_each_function_is_traced_once(rng, data):
    traces = []

    @keras.saving.register_keras_serializable("analysis_test")
    class Counted(layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return 2.0 * inputs

    inputs = keras.Input(SHAPE)
    x = layers.Add()([inputs, Counted()(inputs)])
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))

    def run(number, size):
        images, labels = data[0][:number], data[1][:number]
        options = {"batch_size": size}
        analysis.gradient_norms(model, images, labels, **options)
        analysis.landscape(model, images, labels, 4, grid=3, **options)
        analysis.lipschitz(model, images, labels, iterations=2, **options)
        analysis.growth(model, images, images + 1, **options)

    run(5, 5)
    first = len(traces)
    run(5, 2)
    run(3, 1)
    assert len(traces) == first


def test_low_precision_is_analysed_in_float32(trained, digits):
    images, labels = digits.test.images[:20], digits.test.labels[:20]
    with_policy = attacks._with_policy(trained.get_config(), "mixed_float16")
    half = type(trained).from_config(with_policy)
    half.set_weights(trained.get_weights())
    for function in (analysis.gradient_norms, analysis.corrupted_calibration):
        ours, theirs = (
            function(model, images, labels).arrays() for model in (half, trained)
        )
        for name in set(theirs) - {"sets"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)


def test_replicas_share_the_images(trained, digits):
    images, labels = digits.test.images[:5], digits.test.labels[:5]
    options = {"iterations": 20, "tolerance": 0}
    alone = analysis.lipschitz(trained, images, labels, **options)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.models.clone_model(trained)
        model.set_weights(trained.get_weights())
        shared = analysis.lipschitz(model, images, labels, **options)
    for name in ("network", "margin", "blocks"):
        np.testing.assert_allclose(
            getattr(shared, name), getattr(alone, name), rtol=1e-3
        )


def test_missing_rows_are_a_defect(data):
    with pytest.raises(RuntimeError, match="0 rows for 5 images"):
        functions.in_batches(lambda x: x[:0], [data[0]], 5)


def test_plain_network_has_no_blocks_to_follow(rng, data):
    model, _ = linear_model(rng)
    with pytest.raises(UserError, match=r"has no residual block.*--nolyapunov"):
        analysis.lyapunov(model, *data, 4)
    with pytest.raises(UserError, match="has no residual block"):
        analysis.growth(model, data[0], data[0] + 1)


def test_mistakes(rng, data, trained, digits):
    model, _ = toy(rng)
    images, labels = data
    good = {"gradient_norms": {}, "landscape": {"eps": 4, "grid": 3}}
    for name, options in good.items():
        function = getattr(analysis, name)
        for wrong, message in (
            ((images[:0], labels[:0]), "at least one"),
            ((images[0], labels), "height, width, channels"),
            ((images + 200, labels), r"pixels in \[0, 255\]"),
            ((images, labels[:3]), "one integer class an image"),
            ((images, labels + 0.5), "one integer class an image"),
            ((images, labels + 4), "classes from 0 to 3"),
        ):
            with pytest.raises(ValueError, match=message):
                function(model, *wrong, **options)
        with pytest.raises(ValueError, match="batch_size"):
            function(model, *data, batch_size=0, **options)
    for function, options, message in (
        (analysis.landscape, {"eps": 4, "grid": 4}, "odd"),
        (analysis.landscape, {"eps": 4, "grid": 1}, "grid"),
        (analysis.landscape, {"eps": 0}, "eps"),
        (analysis.landscape, {"eps": 4, "direction": "up"}, "'sign', 'gradient'"),
        (analysis.lipschitz, {"iterations": 0}, "iterations"),
        (analysis.lipschitz, {"tolerance": -1}, "tolerance"),
        (analysis.lyapunov, {"eps": 256}, "eps"),
        (analysis.lyapunov, {"eps": 4, "rates": (-1.0,)}, "rate"),
        (analysis.lyapunov, {"eps": 4, "iterations": 0}, "iterations"),
    ):
        with pytest.raises(ValueError, match=message):
            function(model, *data, **options)
    with pytest.raises(ValueError, match="shape of `images`"):
        analysis.growth(model, images, images[:2])
    few = digits.test.take(slice(3))
    for options, message in (
        ({"severity": 6}, "severity"),
        ({"corruptions": ("snow9",)}, "snow9"),
        ({"bins": 0}, "bins"),
    ):
        with pytest.raises(ValueError, match=message):
            analysis.corrupted_calibration(trained, few.images, few.labels, **options)
    with pytest.raises(ValueError, match="a label each"):
        analysis.calibration(np.zeros((3, 2)), np.zeros(2, int))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"eps": 0.0}, "--eps must be from 0.001 to 255; got 0"),
        ({"grid": 10}, "--grid must be odd"),
        ({"bins": 0}, "--bins must be from 1"),
        ({"rates": (0.5, -1.0)}, "--rates must be at least 0; got -1"),
        ({"direction": "up"}, "--direction does not know 'up'; known: sign"),
        ({"corruptions": ("no",)}, "--corruptions does not know 'no'"),
        ({"severity": 6}, "--severity must be from 1 to 5; got 6"),
        (dict.fromkeys(analysis.ANALYSES, False), "leave on one of --landscape"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        analysis.AnalysisConfig(**settings)


def test_model_that_does_not_fit_is_refused_before_any_work(
    rng, digits, tmp_path, monkeypatch
):
    config = analysis.AnalysisConfig(num_examples=3)
    dataset = dataclasses.replace(digits, test=digits.test.take(slice(2)))
    model = zoo.ResNet8(input_shape=digits.shape)
    with pytest.raises(UserError, match="more than the 2 test images"):
        analysis.analyze(model, dataset, config, tmp_path / "out", progress=False)
    with pytest.raises(UserError, match="takes images of 2x2x3"):
        analysis.analyze(toy(rng)[0], digits, config, tmp_path / "out", False)
    flat_model = keras.Sequential(
        [keras.Input(digits.shape), layers.Flatten(), layers.Dense(10)]
    )
    with pytest.raises(UserError, match="has no residual block"):
        analysis.analyze(flat_model, digits, config, tmp_path / "out", False)
    top = keras.Sequential([keras.Input(digits.shape), layers.Flatten()])
    sigmoid = keras.Sequential([*top.layers, layers.Dense(10, "sigmoid")])
    with pytest.raises(UserError, match="logits of"):
        analysis.analyze(sigmoid, digits, config, tmp_path / "out", False)
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_finite_are_none_in_json(digits, tmp_path):
    """A network that ignores its input: no growth, exponents of -inf."""
    inputs = keras.Input(digits.shape)
    x = layers.Conv2D(2, 1, kernel_initializer="zeros")(inputs)
    x = layers.Add()([x, layers.Conv2D(2, 1, kernel_initializer="zeros")(x)])
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="dead")
    config = analysis.AnalysisConfig(
        num_examples=3, grid=3, corruptions=(), steps=1, iterations=2
    )
    summary = analysis.analyze(model, digits, config, tmp_path, progress=False)
    assert json.loads((tmp_path / "analysis.json").read_text()) == json.loads(
        json.dumps(summary)
    )
    rows = summary["analyses"]
    assert rows["lyapunov"]["λ as trained"]["median growth, PGD"] is None
    assert rows["gradients"]["share of zeros"]["mean"] == 1
    assert rows["lipschitz"]["logits"]["max"] == 0
    assert "| -" in analysis.table(summary)
    assert summary["analyses"]["calibration"].keys() == {"clean"}


def test_images_are_taken_from_the_first(digits, tmp_path):
    config = analysis.AnalysisConfig(
        lyapunov=False,
        landscape=False,
        lipschitz=False,
        calibration=False,
        num_examples=5,
    )
    model = zoo.ResNet8(input_shape=digits.shape)
    analysis.analyze(model, digits, config, tmp_path, progress=False)
    first = analysis.gradient_norms(
        model, digits.test.images[:5], digits.test.labels[:5]
    )
    with np.load(tmp_path / "gradients.npz") as found:
        np.testing.assert_allclose(found["l1"], first.l1, rtol=1e-5)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"gradients.npz", "gradients.png", "analysis.json"}
