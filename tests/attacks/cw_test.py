"""Carlini and Wagner's attack on linear networks, whose closest examples are known."""

import functools

import numpy as np
import pytest

from inres_tf import attacks
from inres_tf.attacks import ATTACKS
from inres_tf.evaluation import EvaluationConfig


def test_the_closest_example_of_a_linear_network_is_found(dense, rng):
    """Its distance is the smallest margin over the norm, as two classes compete."""
    weights = rng.normal(size=(8, 3)) / 20
    model = dense((2, 2, 2), (weights, np.zeros(3)))
    images = rng.uniform(60, 195, (10, 2, 2, 2)).astype(np.float32)
    logits = images.reshape(10, 8) @ weights
    labels = logits.argmax(1)
    slopes = weights[:, labels].T[:, None] - weights.T  # (image, other class, pixel)
    margins = logits[np.arange(10), labels][:, None] - logits
    with np.errstate(invalid="ignore"):
        smallest = np.nanmin(margins / np.linalg.norm(slopes, axis=2), axis=1)
    unclipped = smallest < 50  # where the pixel range does not matter
    assert unclipped.sum() > 4
    settings = {"steps": 300, "searches": 8, "learning_rate": 0.01}
    far = attacks.cw_l2(model, images, labels, 500.0, **settings)
    distance = np.linalg.norm((far - images).reshape(10, 8), axis=1)
    assert (model(far).numpy().argmax(1) != labels).all()
    assert (distance >= smallest * 0.999).all()
    np.testing.assert_allclose(distance[unclipped], smallest[unclipped], rtol=0.03)
    # With a smaller eps, only the examples within it are returned.
    eps = float(np.sort(distance)[5] - 1e-3)
    near = attacks.cw_l2(model, images, labels, eps, **settings)
    changed = (near != images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, distance <= eps)
    np.testing.assert_allclose(near[changed], far[changed], atol=1e-3)
    # Examples have at least the margin wanted.
    confident = attacks.cw_l2(model, images, labels, 500.0, confidence=0.5, **settings)
    logits = model(confident).numpy()
    true_logits = logits[np.arange(10), labels]
    assert (logits.max(1) - true_logits >= 0.5 - 1e-4).all()


def test_pixels_at_the_ends_of_their_range_move(dense, rng):
    """About as far as FAB moves them, which knows the range."""
    weights = rng.normal(size=(48, 5)) / 50
    model = dense((4, 4, 3), (weights, np.zeros(5)))
    images = 255.0 * rng.integers(0, 2, (12, 4, 4, 3)).astype(np.float32)
    labels = model(images).numpy().argmax(1)
    distances = []
    for attack in (attacks.cw_l2, functools.partial(attacks.fab, norm="l2")):
        found = attack(model, images, labels, 5000.0)
        missed = model(found).numpy().argmax(1) == labels
        distance = np.linalg.norm((found - images).reshape(12, -1), axis=1)
        distances.append(np.where(missed, np.inf, distance))
    near = distances[1] < 200  # of a range of 255
    assert near.sum() > 6
    np.testing.assert_allclose(*(d[near] for d in distances), rtol=0.15)


def test_the_default_learning_rate_finds_closer_examples(dense, rng):
    """Than ten times as much, with which nine times 100 steps end too early."""
    weights = rng.normal(size=(12, 4)) / 20
    model = dense((2, 2, 3), (weights, np.zeros(4)))
    images = rng.uniform(60, 195, (20, 2, 2, 3)).astype(np.float32)
    labels = model(images).numpy().argmax(1)
    beyond = attacks.cw_l2(model, images, labels, 500.0)
    images += 0.9 * (beyond - images)  # close to the boundary

    def distance(**settings):
        found = attacks.cw_l2(model, images, labels, 500.0, **settings)
        return np.linalg.norm((found - images).reshape(20, -1), axis=1).mean()

    assert distance() < distance(learning_rate=0.1)
    assert ATTACKS["cw_l2"].settings(EvaluationConfig(), 8.0)["learning_rate"] == 0.01


def test_the_weight_grows_tenfold(dense):
    """In three searches from 0.001 to 0.1, but not from 0.001 to 0.004.

    The margin falls by 8 per unit of the pixel range and is 1.6, so that the closest
    example is 0.2 away and needs a weight above 2 · 0.2 / 8 = 0.05.
    """
    model = dense((1, 1, 1), (np.array([[8.0, 0.0]]) / 255, np.array([-1.6, 0.0])))
    images = np.full((1, 1, 1, 1), 102.0, np.float32)
    labels = np.array([0])
    assert model(images).numpy()[0, 0] == pytest.approx(1.6, abs=1e-3)

    def found(searches):
        settings = {"weight": 0.001, "searches": searches, "steps": 400}
        example = attacks.cw_l2(model, images, labels, 255.0, **settings)
        return model(example).numpy().argmax() == 1

    assert found(3) and not found(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "`steps` must be a positive integer. Received: steps=0"),
        ({"searches": 1.5}, "Received: searches=1.5"),
        ({"learning_rate": 0}, "`learning_rate` must be positive"),
        ({"weight": -1}, "`weight` must be positive. Received: weight=-1"),
        ({"confidence": -1}, "`confidence` must be at least 0"),
    ],
)
def test_invalid_arguments(change, message, dense):
    model = dense((2, 2, 1), (np.ones((4, 3)), np.zeros(3)))
    with pytest.raises(ValueError) as caught:
        attacks.cw_l2(model, np.zeros((1, 2, 2, 1)), [0], 8, **change)
    assert message in str(caught.value)
