"""SPSA: its gradient estimates, and linear networks, whose worst case is known."""

import numpy as np
import pytest
import tensorflow as tf

from inres_tf import attacks
from inres_tf.attacks._spsa import SPSA
from inres_tf.attacks.engine import RunParams


def test_gradient_estimates_are_unbiased(rng):
    """For linear logits, their mean over directions is the slope of the margin."""
    slope = rng.normal(size=(2, 2, 2)).astype(np.float32) / 50
    queried = []

    def model(images):
        queried.append(len(images))
        flat = tf.reduce_sum(images * slope, axis=(1, 2, 3))
        return tf.stack([tf.zeros_like(flat), flat], axis=1)

    number = 3000
    state = {
        "clean": tf.fill((number, 2, 2, 2), 128.0),
        "labels": tf.zeros(number, tf.int64),
        "ids": tf.range(number, dtype=tf.int64),
    }
    spsa = SPSA(np.inf, samples=2)
    params = RunParams(9.0, 1.0, tf.constant(0, tf.int64), 0, 0, 0, 5)
    state = spsa.step(model, spsa.initialize(model, state, params), 0, params)
    assert queried == [number] + [2 * number] * 2
    # Adam minimises, so its gradient is the negative one of the margin.
    gradient = -state["first_moment"].numpy() / 0.1
    deviation = np.linalg.norm(slope) / np.sqrt(2 * number)
    np.testing.assert_allclose(gradient.mean(0), slope, atol=4 * deviation)
    assert gradient.std(0).max() > deviation


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_worst_case_of_a_linear_network_is_reached(norm, dense, rng):
    w = rng.normal(size=8) / 100
    model = dense((2, 2, 2), (np.stack([w, -w], 1), np.zeros(2)))
    images = np.full((3, 2, 2, 2), 128.0, np.float32)
    labels = np.zeros(3, int)
    eps = {"linf": 5.0, "l2": 15.0}[norm]
    settings = {"norm": norm, "steps": 60, "samples": 16, "learning_rate": 1.0}
    adversarial = attacks.spsa(model, images, labels, eps, **settings)
    gained = -(adversarial - images).reshape(3, 8) @ w
    best = eps * (np.abs(w).sum() if norm == "linf" else np.linalg.norm(w))
    assert (gained / best).min() > 0.9 and (gained / best).max() < 1 + 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "`samples` must be a positive integer"),
        ({"delta": 0}, "`delta` must be positive. Received: delta=0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be positive"),
    ],
)
def test_invalid_arguments(change, message, dense):
    model = dense((2, 2, 1), (np.ones((4, 3)), np.zeros(3)))
    with pytest.raises(ValueError) as caught:
        attacks.spsa(model, np.zeros((1, 2, 2, 1)), [0], 8, **change)
    assert message in str(caught.value)
