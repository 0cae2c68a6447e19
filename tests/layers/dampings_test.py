import keras
import numpy as np
import pytest
from keras import ops

from inres_tf.layers import DampedAdd, damping_rates, dampings
from inres_tf.layers.dampings import DAMPINGS

TRAINABLE = ["in", "lambda_in", "exponential"]


def reference(damping, rate, shortcut, branch):
    """The update in float64 NumPy, from the equations."""
    a, b = {
        "none": (1.0, 1.0),
        "in": (1.0 - rate, 1.0),
        "lambda_in": (1.0 - rate, 1.0 + rate),
        "exponential": (np.exp(-rate), (1 - np.exp(-rate)) / rate if rate else 1.0),
        "plain": (0.0, 1.0),
    }[damping]
    return a * shortcut.astype(np.float64) + b * branch.astype(np.float64)


def damped(damping, rate, shape=(2, 4, 4, 3), **kwargs):
    """A built layer whose λ is `rate`."""
    scalar = dampings.get(damping).scalar
    k = keras.initializers.Constant(scalar(rate)) if scalar else None
    layer = DampedAdd(damping, k, **kwargs)
    layer.build([shape, shape])
    return layer


@pytest.mark.parametrize("damping", list(DAMPINGS))
@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.005, 0.02, 0.23, 1.0, 3.0])
def test_update_is_the_equation(damping, rate, rng):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped(damping, rate)
    fixed = {"none": 0.0, "plain": 1.0}
    np.testing.assert_allclose(layer.rate, fixed.get(damping, rate), atol=1e-7)
    expected = reference(damping, float(layer.rate), shortcut, branch)
    np.testing.assert_allclose(
        layer([shortcut, branch]), expected, rtol=2e-6, atol=2e-6
    )


@pytest.mark.parametrize("damping", TRAINABLE)
def test_no_damping_is_the_residual_sum(damping, rng):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped(damping, 0.0)
    np.testing.assert_array_equal(layer([shortcut, branch]), shortcut + branch)


def test_full_in_damping_is_the_branch_alone(rng):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(damped("in", 1.0)([shortcut, branch]), branch)
    np.testing.assert_array_equal(damped("plain", 1.0)([shortcut, branch]), branch)


def test_exponential_damping_is_the_exact_step_of_the_damped_ode():
    """Against 20,000 Euler steps of dx/dt = f - λ x over unit time, f frozen."""
    rate, x, f, n = 0.7, 1.3, -0.4, 20_000
    expected = x
    for _ in range(n):
        expected += (f - rate * expected) / n
    shape = (1, 1)
    layer = damped("exponential", rate, shape)
    got = float(
        layer([np.full(shape, x, np.float32), np.full(shape, f, np.float32)])[0, 0]
    )
    assert got == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("damping", TRAINABLE)
@pytest.mark.parametrize("rate", [0.005, 0.3])
def test_gradient_of_the_scalar(damping, rate, rng):
    """Automatic differentiation in k against central differences of the reference."""
    import tensorflow as tf

    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped(damping, rate)
    with tf.GradientTape() as tape:
        loss = ops.sum(layer([shortcut, branch]))
    gradient = float(tape.gradient(loss, layer.k.value))
    sign = -1.0 if damping == "in" else 1.0
    h = 1e-5
    up, down = (
        reference(damping, rate + s * h, shortcut, branch).sum() for s in (1, -1)
    )
    assert gradient == pytest.approx(sign * (up - down) / (2 * h), rel=2e-3)


@pytest.mark.parametrize("damping", TRAINABLE)
def test_gradient_stays_finite_where_the_rate_dies(damping, rng):
    import tensorflow as tf

    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped(damping, 0.0)
    layer.k.assign(dampings.get(damping).scalar(-0.1))
    with tf.GradientTape() as tape:
        loss = ops.sum(layer([shortcut, branch]))
    assert float(layer.rate) == 0.0
    assert float(tape.gradient(loss, layer.k.value)) == 0.0


@pytest.mark.parametrize("damping", TRAINABLE)
def test_rate_0_itself_has_the_gradient_from_above(damping, rng):
    import tensorflow as tf

    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped(damping, 0.0)
    with tf.GradientTape() as tape:
        loss = ops.sum(layer([shortcut, branch]))
    gradient = float(tape.gradient(loss, layer.k.value))
    h = 1e-5
    above, at = (reference(damping, r, shortcut, branch).sum() for r in (h, 0.0))
    sign = -1.0 if damping == "in" else 1.0
    assert gradient == pytest.approx(sign * (above - at) / h, rel=1e-3)


@pytest.mark.parametrize("damping", TRAINABLE)
@pytest.mark.parametrize("depth", [20, 110, 164])
def test_initial_range_of_the_scalar(damping, depth):
    low, high = {
        ("in", False): (0.75, 0.80),
        ("in", True): (0.8, 0.9),
        ("lambda_in", False): (0.20, 0.25),
        ("lambda_in", True): (0.1, 0.2),
        ("exponential", False): (0.20, 0.25),
        ("exponential", True): (0.1, 0.2),
    }[damping, depth == 164]
    assert dampings.scalar_range(damping, depth) == (low, high)
    if depth != 164:
        layers = [DampedAdd(damping) for _ in range(20)]
        for layer in layers:
            layer.build([(1, 2), (1, 2)])
        drawn = [float(layer.k) for layer in layers]
        assert low <= min(drawn) < max(drawn) <= high


@pytest.mark.parametrize("damping", list(DAMPINGS))
def test_layer_round_trip_covers_every_argument(damping, rng):
    layer = damped(damping, 0.3, name="merge", trainable=False)
    config = layer.get_config()
    assert {"damping", "initializer", "name", "trainable", "dtype"} <= set(config)
    again = DampedAdd.from_config(config)
    again.build([(2, 4, 4, 3)] * 2)
    again.set_weights(layer.get_weights())
    pair = list(rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32))
    np.testing.assert_array_equal(again(pair), layer(pair))
    assert again.get_config() == config
    assert not again.trainable_variables


def test_low_precision_keeps_the_rate_in_float32(rng):
    layer = damped("in", 0.2266, dtype="mixed_bfloat16")
    assert float(layer.rate) == pytest.approx(0.2266, abs=1e-7)
    pair = [
        ops.convert_to_tensor(p, "bfloat16") for p in rng.normal(size=(2, 2, 4, 4, 3))
    ]
    out = layer(pair)
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
    a, b = (np.asarray(ops.cast(p, "float32")) for p in pair)
    np.testing.assert_allclose(
        ops.cast(out, "float32"), reference("in", 0.2266, a, b), atol=0.04
    )


def test_rates_are_read_in_the_order_of_the_network():
    inputs = keras.Input((4,))
    x = DampedAdd("in", keras.initializers.Constant(0.9), name="b")([inputs, inputs])
    x = DampedAdd("plain", name="p")([x, x])
    inner_in = keras.Input((4,))
    inner_out = DampedAdd("lambda_in", keras.initializers.Constant(0.3), name="a")(
        [inner_in, inner_in]
    )
    outputs = keras.Model(inner_in, inner_out)(x)
    rates = damping_rates(keras.Model(inputs, outputs))
    first, second = rates
    assert first == "b" and second.endswith("/a")
    assert list(rates.values()) == pytest.approx([0.1, 0.3])


def test_masks_pass_as_through_an_addition(rng):
    tokens = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    x = keras.layers.Embedding(5, 3, mask_zero=True)(tokens)
    for damping in DAMPINGS:
        merged = DampedAdd(damping)([x, x])
        np.testing.assert_array_equal(keras_mask(merged), tokens != 0)
    assert keras_mask(DampedAdd("in")([x, np.ones((2, 4, 3), np.float32)])) is None


def keras_mask(tensor):
    return getattr(tensor, "_keras_mask", None)


def test_errors_say_what_is_accepted():
    with pytest.raises(ValueError, match="'none', 'in', .*Received: damping='out'"):
        DampedAdd("out")
    with pytest.raises(ValueError, match="same shape.*Received: shortcut"):
        DampedAdd("in")([np.zeros((1, 4)), np.zeros((1, 5))])
    with pytest.raises(ValueError, match=r"\[shortcut, branch\]"):
        DampedAdd("in")(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="'merge' has no rate before it is built"):
        _ = DampedAdd("in", name="merge").rate
