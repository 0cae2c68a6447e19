"""Layers with a limited Lipschitz constant, against dense matrices and Jacobians."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from inres_tf.layers import (
    ConvexPotentialConv2D,
    ConvexPotentialDense,
    LipschitzConv2D,
    LipschitzDense,
    MaxMin,
)

SHAPE = (4, 5, 3)


def trained(layer, shape, passes=0, scale=1.0):
    """A layer with random weights, after some training passes."""
    keras.utils.set_random_seed(1)
    layer.build((None, *shape))
    rng = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        if weight.name != "k":
            weight.assign(scale * rng.normal(size=weight.shape))
    x = inputs(shape)
    for _ in range(passes):
        layer(x, training=True)
    return layer


def inputs(shape, number=6):
    return np.random.default_rng(1).normal(size=(number, *shape)).astype("float32")


def jacobian_norm(layer, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    rows, columns = np.prod(y.shape[1:]), np.prod(x.shape[1:])
    jacobians = tape.batch_jacobian(y, x).numpy().reshape(-1, rows, columns)
    return np.linalg.norm(jacobians.astype(np.float64), 2, axis=(1, 2)).max()


LAYERS = {
    "conv": (lambda **kw: LipschitzConv2D(4, **kw), SHAPE),
    "dense": (lambda **kw: LipschitzDense(4, **kw), (6,)),
    "convex conv": (lambda **kw: ConvexPotentialConv2D(5, **kw), SHAPE),
    "convex dense": (lambda **kw: ConvexPotentialDense(7, **kw), (6,)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("passes", [0, 1, 30])
def test_the_bound_is_never_below_the_jacobian(name, passes):
    make, shape = LAYERS[name]
    layer = trained(make(), shape, passes)
    norm = jacobian_norm(layer, inputs(shape))
    assert norm <= layer.lipschitz_bound() * (1 + 1e-5)


@pytest.mark.parametrize("name", ["conv", "dense"])
def test_power_iteration_finds_the_norm_and_the_limit_holds(name):
    make, shape = LAYERS[name]
    layer = trained(make(limit=0.5), shape, passes=300, scale=3.0)
    # σ approaches the norm from below.
    assert float(layer.sigma) <= layer.norm_bound()
    assert float(layer.sigma) >= 0.9 * layer.norm_bound()
    assert layer.lipschitz_bound() <= 0.5 * 1.1
    layer.tighten()
    assert layer.lipschitz_bound() <= 0.5 * (1 + 1e-6)
    assert jacobian_norm(layer, inputs(shape)) <= 0.5 * (1 + 1e-5)
    free = trained(make(limit=None), shape, scale=3.0)
    assert free.lipschitz_bound() == free.norm_bound() > 1
    small = trained(make(limit=1e6), shape, passes=5)
    np.testing.assert_allclose(small(inputs(shape)), free_of(small, shape), rtol=1e-4)


def free_of(layer, shape):
    """What a layer computes without its limit."""
    return layer.apply(tf.constant(inputs(shape))) + layer.bias.value


@pytest.mark.parametrize("name", ["convex conv", "convex dense"])
@pytest.mark.parametrize("damping", ["none", "in", "exponential"])
def test_a_convex_potential_block_has_the_constant_of_its_shortcut(name, damping):
    make, shape = LAYERS[name]
    layer = trained(make(damping=damping), shape, passes=3, scale=2.0)
    layer.tighten()
    rate = float(layer.rate)
    a = {"none": 1.0, "in": 1 - rate, "exponential": np.exp(-rate)}[damping]
    assert layer.lipschitz_bound() == pytest.approx(a, rel=1e-5)
    assert layer.contraction_rate() == pytest.approx(-np.log(a), abs=1e-4)
    x = inputs(shape)
    assert jacobian_norm(layer, x) <= a * (1 + 1e-5)
    # The documented formula.
    weight = 2 * a / float(layer.sigma) ** 2
    hidden = tf.nn.relu(layer.apply(tf.constant(x)) + layer.bias.value)
    expected = a * x - weight * layer.transpose(hidden)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_the_transpose_is_the_adjoint():
    for name in LAYERS:
        make, shape = LAYERS[name]
        layer = trained(make(), shape)
        x = tf.constant(inputs(shape))
        y = layer.apply(x)
        other = tf.constant(np.random.default_rng(3).normal(size=y.shape), tf.float32)
        left, right = (
            tf.reduce_sum(y * other),
            tf.reduce_sum(x * layer.transpose(other)),
        )
        np.testing.assert_allclose(left, right, rtol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_inference_changes_nothing_and_training_only_the_estimate(name):
    make, shape = LAYERS[name]
    layer = trained(make(), shape)
    before = {weight.path: weight.numpy() for weight in layer.weights}
    layer(inputs(shape))
    assert all(np.array_equal(before[w.path], w.numpy()) for w in layer.weights)
    layer(inputs(shape), training=True)
    changed = {w.name for w in layer.weights if not np.array_equal(before[w.path], w)}
    assert changed == {"vector", "sigma"}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_round_trip(name, tmp_path):
    make, shape = LAYERS[name]
    layer = make()
    model = keras.Sequential([keras.Input(shape), layer])
    model.compile("sgd", "mse")
    x, vector = inputs(shape), layer.vector.numpy()
    model.fit(x, np.zeros_like(model(x)), epochs=1, verbose=0)
    assert np.isfinite(model(x)).all() and not np.array_equal(layer.vector, vector)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
    assert loaded.layers[-1].lipschitz_bound() == layer.lipschitz_bound()
    assert loaded.layers[-1].get_config() == layer.get_config()


@pytest.mark.parametrize("name", LAYERS)
def test_mixed_precision_estimates_the_norm_in_float32(name):
    make, shape = LAYERS[name]
    half, full = (
        trained(make(dtype=dtype), shape, passes=5, scale=3.0)
        for dtype in ("mixed_bfloat16", "float32")
    )
    assert half(inputs(shape)).dtype == tf.bfloat16
    assert half.sigma.dtype == half.vector.dtype == "float32"
    np.testing.assert_allclose(half.sigma, full.sigma, rtol=1e-6)
    np.testing.assert_allclose(half.vector, full.vector, atol=1e-6)


@pytest.mark.parametrize("name", ["conv", "convex conv"])
def test_xla_computes_the_same(name):
    make, shape = LAYERS[name]
    x = tf.constant(inputs(shape))
    plain, compiled = (trained(make(), shape, scale=3.0) for _ in range(2))
    step = tf.function(lambda: compiled(x, training=True), jit_compile=True)
    for _ in range(3):
        np.testing.assert_allclose(
            step(), plain(x, training=True), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_allclose(compiled.sigma, plain.sigma, rtol=1e-5)


@pytest.mark.parametrize("name", ["conv", "dense"])
def test_a_penalty_is_a_loss_in_place_of_the_limit(name):
    """Its gradient is 2 p (σ - limit) ∂σ/∂W; ∂σ/∂W = u vᵀ for a matrix."""
    make, shape = LAYERS[name]
    settings = {"limit": 0.5, "penalty": 3.0, "iterations": 30}
    layer = trained(make(**settings), shape, passes=2, scale=2.0)
    assert settings.items() <= layer.get_config().items()
    free = trained(make(limit=None), shape, scale=2.0)
    x = tf.constant(inputs(shape))
    with tf.GradientTape() as tape:
        outputs = layer(x, training=True)
        (loss,) = layer.losses
    np.testing.assert_allclose(outputs, free(x), rtol=1e-5)
    excess = float(layer.sigma) - 0.5
    assert excess > 1
    np.testing.assert_allclose(loss, 3.0 * excess**2, rtol=1e-5)
    assert layer.lipschitz_bound() == layer.norm_bound()
    gradient = tape.gradient(loss, layer.kernel.value).numpy()
    if name == "dense":
        u, _, v = np.linalg.svd(layer.kernel.numpy())
        direction = np.outer(u[:, 0], v[0])
        np.testing.assert_allclose(gradient, 6 * excess * direction, atol=1e-3)
    else:
        # σ is homogeneous: ⟨∂σ/∂W, W⟩ = σ.
        product = np.sum(gradient * layer.kernel.numpy())
        np.testing.assert_allclose(product, 6 * excess * (excess + 0.5), rtol=1e-4)
    layer(x)
    assert layer.losses == []
    layer.limit = 1e6
    layer(x, training=True)
    assert [float(loss) for loss in layer.losses] == [0.0]


def test_maxmin_sorts_pairs_and_keeps_norms():
    x = inputs((3, 4))
    y = MaxMin()(x).numpy()
    np.testing.assert_array_equal(y[..., :2], np.maximum(x[..., :2], x[..., 2:]))
    np.testing.assert_array_equal(y[..., 2:], np.minimum(x[..., :2], x[..., 2:]))
    assert jacobian_norm(MaxMin(), x) == pytest.approx(1)
    assert MaxMin().lipschitz_bound() == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LipschitzConv2D(0), "`filters` must be a positive integer"),
        (lambda: LipschitzConv2D(4, 2), "`kernel_size` must be odd"),
        (lambda: LipschitzConv2D(4, limit=-1), "`limit` must be None or positive"),
        (lambda: LipschitzDense(4, penalty=0), "`penalty` must be None or positive"),
        (
            lambda: LipschitzConv2D(4, limit=None, penalty=2.0),
            "`penalty` needs a `limit`. Received: penalty=2.0, limit=None",
        ),
        (lambda: LipschitzDense(1.5), "`units` must be a positive integer"),
        (lambda: LipschitzDense(2, iterations=0), "`iterations` must be a positive"),
        (lambda: ConvexPotentialDense(2, "plain"), "`damping` must be one of 'none'"),
        (
            lambda: LipschitzConv2D(4).build((None, None, 4, 3)),
            "needs a known height and width",
        ),
        (lambda: MaxMin().build((None, 3)), "an even number of channels"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_whole_numbers_may_be_floats():
    layer = LipschitzDense(3.0, iterations=2.0)
    assert layer(np.ones((1, 2), np.float32), training=True).shape == (1, 3)
    with pytest.raises(ValueError, match="`units` must be a positive integer"):
        LipschitzDense(float("inf"))


def test_layers_refuse_images_of_another_size_than_their_norm():
    """On one pixel, this kernel has the norm 8; on more, up to 12."""
    layer = LipschitzConv2D(1, limit=1.0, name="conv")
    layer(np.zeros((1, 1, 1, 1)))
    with pytest.raises(ValueError, match="conv.*incompatible"):
        layer(np.zeros((1, 16, 16, 1)))
