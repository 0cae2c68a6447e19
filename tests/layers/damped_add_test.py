import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from inres_tf.layers import DampedAdd, dampings
from inres_tf.layers.dampings import DAMPINGS

TRAINABLE = ["in", "lambda_in", "exponential"]


def reference(damping, rate, shortcut, branch):
    """The update in NumPy and float64, from the equations."""
    a, b = {
        "none": (1.0, 1.0),
        "in": (1.0 - rate, 1.0),
        "lambda_in": (1.0 - rate, 1.0 + rate),
        "exponential": (np.exp(-rate), (1 - np.exp(-rate)) / rate if rate else 1.0),
        "plain": (0.0, 1.0),
    }[damping]
    return a * shortcut.astype(np.float64) + b * branch.astype(np.float64)


@pytest.mark.parametrize("damping", list(DAMPINGS))
@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.005, 0.02, 0.23, 1.0, 3.0])
def test_update_matches_the_equations(damping, rate, rng, damped_add):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped_add(damping, rate)
    fixed = {"none": 0.0, "plain": 1.0}
    np.testing.assert_allclose(layer.rate, fixed.get(damping, rate), atol=1e-7)
    expected = reference(damping, float(layer.rate), shortcut, branch)
    np.testing.assert_allclose(
        layer([shortcut, branch]), expected, rtol=2e-6, atol=2e-6
    )


@pytest.mark.parametrize("damping", TRAINABLE)
def test_rate_0_is_the_residual_sum(damping, rng, damped_add):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped_add(damping, 0.0)
    np.testing.assert_array_equal(layer([shortcut, branch]), shortcut + branch)


def test_rate_1_of_in_damping_is_the_branch(rng, damped_add):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(damped_add("in", 1.0)([shortcut, branch]), branch)
    np.testing.assert_array_equal(damped_add("plain", 1.0)([shortcut, branch]), branch)


def test_exponential_damping_solves_the_damped_ode(damped_add):
    """Compared with 20,000 Euler steps of dx/dt = f - λ x over unit time."""
    rate, x, f, n = 0.7, 1.3, -0.4, 20_000
    expected = x
    for _ in range(n):
        expected += (f - rate * expected) / n
    shape = (1, 1)
    layer = damped_add("exponential", rate, shape)
    outputs = float(
        layer([np.full(shape, x, np.float32), np.full(shape, f, np.float32)])[0, 0]
    )
    assert outputs == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("damping", TRAINABLE)
@pytest.mark.parametrize("rate", [0.005, 0.3])
def test_gradient_of_the_scalar(damping, rate, rng, damped_add):
    """Compared with central differences of the reference."""
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped_add(damping, rate)
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
def test_clipped_rate_has_zero_gradient(damping, rng, damped_add):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped_add(damping, 0.0)
    layer.k.assign(dampings.get(damping).scalar(-0.1))
    with tf.GradientTape() as tape:
        loss = ops.sum(layer([shortcut, branch]))
    assert float(layer.rate) == 0.0
    assert float(tape.gradient(loss, layer.k.value)) == 0.0


@pytest.mark.parametrize("damping", TRAINABLE)
def test_gradient_at_rate_0_is_one_sided(damping, rng, damped_add):
    shortcut, branch = rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    layer = damped_add(damping, 0.0)
    with tf.GradientTape() as tape:
        loss = ops.sum(layer([shortcut, branch]))
    gradient = float(tape.gradient(loss, layer.k.value))
    h = 1e-5
    above, zero = (reference(damping, r, shortcut, branch).sum() for r in (h, 0.0))
    sign = -1.0 if damping == "in" else 1.0
    assert gradient == pytest.approx(sign * (above - zero) / h, rel=1e-3)


@pytest.mark.parametrize("damping", list(DAMPINGS))
def test_config_round_trip(damping, rng, damped_add):
    layer = damped_add(damping, 0.3, name="merge", trainable=False)
    config = layer.get_config()
    assert {"damping", "initializer", "name", "trainable", "dtype"} <= set(config)
    restored = DampedAdd.from_config(config)
    restored.build([(2, 4, 4, 3)] * 2)
    restored.set_weights(layer.get_weights())
    pair = list(rng.normal(size=(2, 2, 4, 4, 3)).astype(np.float32))
    np.testing.assert_array_equal(restored(pair), layer(pair))
    assert restored.get_config() == config
    assert not restored.trainable_variables


def test_rate_is_float32_in_low_precision(rng, damped_add):
    layer = damped_add("in", 0.2266, dtype="mixed_bfloat16")
    assert float(layer.rate) == pytest.approx(0.2266, abs=1e-7)
    pair = [
        ops.convert_to_tensor(p, "bfloat16") for p in rng.normal(size=(2, 2, 4, 4, 3))
    ]
    outputs = layer(pair)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    a, b = (np.asarray(ops.cast(p, "float32")) for p in pair)
    np.testing.assert_allclose(
        ops.cast(outputs, "float32"), reference("in", 0.2266, a, b), atol=0.04
    )


def test_masks_match_those_of_an_addition(rng):
    tokens = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    x = keras.layers.Embedding(5, 3, mask_zero=True)(tokens)
    for damping in DAMPINGS:
        merged = DampedAdd(damping)([x, x])
        np.testing.assert_array_equal(keras_mask(merged), tokens != 0)
    assert keras_mask(DampedAdd("in")([x, np.ones((2, 4, 3), np.float32)])) is None


def keras_mask(tensor):
    return getattr(tensor, "_keras_mask", None)


def test_errors_name_the_accepted_inputs():
    with pytest.raises(ValueError, match="'none', 'in', .*Received: damping='out'"):
        DampedAdd("out")
    with pytest.raises(ValueError, match="same shape.*Received: shortcut"):
        DampedAdd("in")([np.zeros((1, 4)), np.zeros((1, 5))])
    with pytest.raises(ValueError, match=r"\[shortcut, branch\]"):
        DampedAdd("in")(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="'merge' has no rate before it is built"):
        _ = DampedAdd("in", name="merge").rate
