"""The loss with a margin, against its formula in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from inres_tf.errors import UserError
from inres_tf.training.config import TrainConfig
from inres_tf.training.objectives import Margin, ObjectiveConfig, make_objective

LABELS = np.array([0, 1, 2, 2])


def make(offset=1.0, temperature=1.0, annealing=0.0):
    return make_objective(
        ObjectiveConfig(
            objective="margin",
            margin_offset=offset,
            margin_temperature=temperature,
            margin_annealing=annealing,
        )
    )


def loss_of(objective, logits, labels=LABELS):
    logits = tf.convert_to_tensor(logits)

    def logits_of(pixels, training):
        assert training
        return logits

    losses, returned = objective.losses(logits_of, None, None, labels)
    np.testing.assert_array_equal(returned, tf.cast(logits, tf.float32))
    return losses


def in_numpy(logits, labels, offset, temperature, annealing):
    powers = np.exp((logits - offset * np.eye(3)[labels]) / temperature)
    p = (powers / powers.sum(-1, keepdims=True))[np.arange(len(labels)), labels]
    return temperature * (1 - p) ** annealing * -np.log(p)


@pytest.mark.parametrize(
    "settings", [(0, 1, 0), (1, 1, 0), (2**0.5, 0.25, 0), (2, 0.75, 5), (1, 3, 0.5)]
)
def test_loss_and_gradient_follow_the_formula(settings, rng):
    logits = rng.normal(0, 2, (4, 3))
    variable = tf.Variable(logits, dtype=tf.float32)
    objective = make(*settings)
    assert isinstance(objective, Margin)
    with tf.GradientTape() as tape:
        losses = loss_of(objective, variable)
    assert losses.dtype == tf.float32
    expected = in_numpy(logits, LABELS, *settings)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    difference = np.empty_like(logits)
    for i in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[i] = 1e-6
        above, below = (
            in_numpy(moved, LABELS, *settings).sum()
            for moved in (logits + step, logits - step)
        )
        difference[i] = (above - below) / 2e-6
    gradient = tape.gradient(losses, variable)
    np.testing.assert_allclose(gradient, difference, rtol=1e-3, atol=1e-6)


def test_without_settings_it_is_the_cross_entropy(rng):
    logits = rng.normal(0, 2, (4, 3)).astype(np.float32)
    clean = make_objective(ObjectiveConfig())
    np.testing.assert_array_equal(loss_of(make(0), logits), loss_of(clean, logits))


def test_at_low_temperature_it_is_the_missing_margin():
    """T -> 0 without annealing gives max(0, offset - margin)."""
    logits = np.array([[3.0, 1, 0], [0, 1, 0.5], [1, 0, -2], [0, 0, 9]], np.float32)
    losses = loss_of(make(1.5, 1e-3), logits)
    np.testing.assert_allclose(losses, [0, 1, 4.5, 0], atol=1e-4)


def test_annealing_makes_images_beyond_the_margin_count_less():
    logits = np.zeros((4, 3), np.float32)
    logits[np.arange(4), LABELS] = 6
    plain, annealed = (loss_of(make(1, 1, beta), logits) for beta in (0, 5))
    assert np.all(annealed < 1e-6 * plain)
    # And nearly the same for misclassified ones.
    plain, annealed = (loss_of(make(1, 1, beta), -logits) for beta in (0, 5))
    np.testing.assert_allclose(annealed, plain, rtol=0.01)


@pytest.mark.parametrize("annealing", [0.0, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_extreme_logits_have_finite_losses_and_gradients(annealing, dtype):
    logits = tf.Variable([[1e4, 0, 0], [1e4, 0, 0], [0, 0, 20], [0, 0, 0]], dtype=dtype)
    with tf.GradientTape() as tape:
        losses = loss_of(make(1.0, 0.5, annealing), logits)
    np.testing.assert_allclose(losses[:2], [0, 1e4 + 1], rtol=0.01)
    gradient = tf.cast(tape.gradient(losses, logits), tf.float32).numpy()
    assert np.isfinite(losses).all() and np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[1], [1, -1, 0], atol=0.01)


def test_label_smoothing_is_refused():
    message = "--objective=margin needs --label_smoothing=0, .* got 0.1"
    for config in (ObjectiveConfig, TrainConfig):
        with pytest.raises(UserError, match=message):
            config(objective="margin", label_smoothing=0.1)


def test_float16_is_accepted():
    """It computes no gradients of the input, which attacks lose in float16."""
    assert TrainConfig(objective="margin", precision="float16").objective == "margin"
