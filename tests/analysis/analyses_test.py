import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import zoo
from inres_tf import analysis, attacks
from inres_tf.analysis import Chain, compiled
from inres_tf.analysis._landscape import directions
from inres_tf.analysis._lyapunov import through_blocks
from inres_tf.layers import DampedAdd, damped_layers, damping_rates, dampings

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
    chain = Chain(model)
    merges = [layer for layer in model.layers if layer.name.endswith("_merge")]
    assert [block.name for block in chain.blocks] == [m.name for m in merges]
    expected = keras.Model(model.input, [m.output for m in merges])(images)
    for block, (x, y), value in zip(chain.blocks, chain.states(images), expected):
        np.testing.assert_allclose(y, value, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(block(x), y, rtol=1e-5, atol=1e-5)


def test_blocks_are_found_in_nested_models(rng, data):
    inner, matrices = toy(rng, top=False)
    model = keras.Sequential([keras.Input(SHAPE), inner, layers.Flatten()])
    chain = Chain(model)
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


def outputs_and_jacobian(function, points):
    """What a function gives, (n, m), and its Jacobian at each point, (n, m, d)."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(points)
        outputs = tf.reshape(function(points), [len(points), -1])
        columns = tf.unstack(outputs, axis=1)
    rows = [flat(tape.gradient(column, points)) for column in columns]
    return outputs.numpy(), np.stack(rows, axis=1)


def test_lipschitz_of_a_network_is_that_of_its_jacobian(trained, digits):
    """Through fused batch normalisation, ReLU, strides and pooling."""
    images, labels = digits.test.images[:2], digits.test.labels[:2]
    found = analysis.lipschitz(trained, images, labels, iterations=100, tolerance=0)
    pixels = tf.constant(images, tf.float32)
    logits = compiled.logits_fn(trained)
    scores, jacobian = outputs_and_jacobian(logits, pixels)
    expected = [largest(j) for j in jacobian]
    np.testing.assert_allclose(found.network, expected, rtol=1e-3)
    for i, y in enumerate(labels):
        others = np.delete(np.arange(10), y)
        runner_up = others[scores[i, others].argmax()]
        norm = np.linalg.norm(jacobian[i, y] - jacobian[i, runner_up])
        assert found.margin[i] == pytest.approx(norm, rel=1e-4)
    chain = Chain(trained)
    block, (x, _) = chain.blocks[-1], chain.states(pixels)[-1]
    _, jacobian = outputs_and_jacobian(block, x)
    expected = [largest(j) for j in jacobian]
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


def test_rows_converge_each_for_itself():
    """The Jacobian of x²/2 is diag(x): the second row's gap is small, so it is slow."""
    points = tf.constant([[3.0, 0.1, 0.1], [3.0, 2.9, 2.8], [1.0, 0.5, 0.2]])

    def find(rows):
        return analysis.largest_singular_value(lambda x: x**2 / 2, rows, 500, 1e-5)

    together = find(points).numpy()
    alone = np.concatenate([find(points[i : i + 1]) for i in range(3)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(together[:, 0], [3, 3, 1], rtol=1e-3)
    assert together[1, 1] > 2 * together[0, 1] and (together[:, 2] == 1).all()


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
    loss, right = compiled.losses(trained, adversarial, labels)
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
        "exactly 0: 5 of 5"
    )
