"""C&W and SPSA; and what holds for every attack: early stops, failures, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from inres_tf import attacks
from inres_tf.attacks import ATTACKS, AttackError
from inres_tf.attacks._spsa import SPSA
from inres_tf.attacks.adam import adam
from inres_tf.attacks.engine import RunParams
from inres_tf.distribution import classifier

# Every attack, short.
SHORT = {
    "fgsm": {},
    "ifgsm": {"steps": 6, "step_size": 3.0},
    "pgd": {"steps": 6, "step_size": 3.0, "restarts": 2},
    "mim": {"steps": 6, "step_size": 3.0},
    "cw_l2": {"steps": 12, "searches": 3},
    "spsa": {"steps": 6, "samples": 8},
    "apgd_ce": {"steps": 8, "restarts": 2},
    "apgd_dlr": {"steps": 8, "targets": 2},
    "fab": {"steps": 6, "targets": 2},
    "square": {"queries": 30},
    "autoattack": {"steps": 4, "queries": 8},
}
EPS = {"cw_l2": 60.0, "fgsm": 20.0}


def test_short_settings_are_those_of_every_attack():
    # cleverhans' own have no early stop.
    ours = {name for name in ATTACKS if not name.startswith("cleverhans")}
    assert set(SHORT) == ours


@pytest.fixture(scope="module")
def model(dense):
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(48, 9)) / 300, rng.normal(size=9)
    return dense((4, 4, 3), hidden, (rng.normal(size=(9, 5)), np.zeros(5)), spy=True)


@pytest.mark.parametrize("name", SHORT)
def test_stopping_early_is_as_strong_and_cheaper(name, model):
    rng = np.random.default_rng(2)
    images = rng.uniform(0, 255, (40, 4, 4, 3)).astype(np.float32)
    labels = model(images).numpy().argmax(-1)
    labels[:5] = (labels[:5] + 1) % 5
    spy, seen = model.get_layer("spy"), {}

    def accuracy(eps, early_stop):
        spy.rows.clear()
        attack, settings = getattr(attacks, name), SHORT[name] | {"seed": 3}
        at = model, images, labels, eps
        found = attack(*at, early_stop=early_stop, batch_size=16, **settings)
        seen[early_stop] = sum(spy.rows)
        if early_stop:
            np.testing.assert_array_equal(found[:5], images[:5])
        return (model(found).numpy().argmax(-1) == labels).mean()

    eps = EPS.get(name, 14.0)
    for share in (0.5, 1.0):
        full, early = accuracy(share * eps, False), accuracy(share * eps, True)
        assert early <= full
        # A single step is as cheap as to ask which images are misclassified.
        assert seen[True] < seen[False] or name == "fgsm"
    assert 0 < early < 0.8  # some fall, and others stand


class Broken(keras.layers.Layer):
    """Logits that are no numbers above a mean, or whose gradient is none there."""

    def __init__(self, logits, **settings):
        super().__init__(**settings)
        self.logits = logits

    def call(self, images):
        flat = keras.ops.reshape(images, (-1, 4))
        mean = keras.ops.mean(flat, axis=1, keepdims=True)
        if self.logits:
            bad = keras.ops.where(mean > 100, np.nan, 0.0)
        else:  # the slope of what is not chosen is zero times NaN
            bad = keras.ops.where(mean > 100, 0.0, keras.ops.power(100 - mean, 0.5))
        return flat / 255 + bad


def broken(logits):
    layers = [Broken(logits), keras.layers.Dense(4, use_bias=False)]
    model = keras.Sequential([keras.Input((2, 2, 1)), *layers])
    model.layers[-1].set_weights([np.eye(4)])
    return model


@pytest.mark.parametrize("name", ["fgsm", "cw_l2", "spsa", "apgd_ce", "fab", "square"])
def test_networks_that_give_nan_do_not_pass_as_robust(name):
    model = broken(logits=True)
    images = np.full((4, 2, 2, 1), 101.0)
    labels = np.arange(4)  # the argmax of NaN is class 0
    attack, settings = getattr(attacks, name), SHORT[name]
    assert not classifier.compiled_classifier(model, 4).correct(images, labels).any()
    found = attack(model, images, labels, 2.0, early_stop=True, **settings)
    np.testing.assert_array_equal(found, images)
    # Without an early stop there is an image to return, or an error.
    try:
        found = attack(model, images, labels, 2.0, early_stop=False, **settings)
    except AttackError as error:
        assert "non-finite" in str(error)
    else:
        assert not classifier.compiled_classifier(model, 4).correct(found, labels).any()


@pytest.mark.parametrize("name", ["fgsm", "mim", "cw_l2", "apgd_ce", "fab"])
def test_gradients_that_are_nan_are_errors(name):
    model = broken(logits=False)
    images = np.full((1, 2, 2, 1), 150.0)
    images[0, 0, 0] += 5
    assert classifier.compiled_classifier(model, 4).correct(images, [0]).all()
    attack, settings = getattr(attacks, name), SHORT[name] | {"early_stop": True}
    with pytest.raises(AttackError, match="non-finite"):
        attack(model, images, np.array([0]), 0.5, **settings)


def test_adam_is_that_of_keras(rng):
    variable = keras.Variable(rng.normal(size=(3, 2)).astype(np.float32))
    optimizer = keras.optimizers.Adam(0.1, epsilon=1e-8)
    zeros = tf.zeros((3, 2))
    rows = {"variables": tf.constant(variable.numpy())}
    rows |= {"first_moment": zeros, "second_moment": zeros}
    for number in range(5):
        gradient = tf.constant(rng.normal(size=(3, 2)), tf.float32)
        optimizer.apply([gradient], [variable])
        rows = adam(rows, gradient, number, 0.1)
        np.testing.assert_allclose(rows["variables"], variable.numpy(), rtol=1e-5)


def test_cw_finds_the_nearest_example_of_a_linear_network(dense, rng):
    """Two against one: the least distance is the smaller margin over the norm."""
    weights = rng.normal(size=(8, 3)) / 20
    model = dense((2, 2, 2), (weights, np.zeros(3)))
    images = rng.uniform(60, 195, (10, 2, 2, 2)).astype(np.float32)
    logits = images.reshape(10, 8) @ weights
    labels = logits.argmax(1)
    slopes = weights[:, labels].T[:, None] - weights.T  # (image, other class, pixel)
    margins = logits[np.arange(10), labels][:, None] - logits
    with np.errstate(invalid="ignore"):
        least = np.nanmin(margins / np.linalg.norm(slopes, axis=2), axis=1)
    near = least < 50  # where the pixel range does not end before
    assert near.sum() > 4
    at = model, images, labels
    settings = {"steps": 300, "searches": 8, "learning_rate": 0.01}
    found = attacks.cw_l2(*at, 500.0, **settings)
    distance = np.linalg.norm((found - images).reshape(10, 8), axis=1)
    assert (model(found).numpy().argmax(1) != labels).all()
    assert (distance >= least * 0.999).all()
    np.testing.assert_allclose(distance[near], least[near], rtol=0.03)
    # Within a smaller eps only those that lie so near are returned.
    eps = float(np.sort(distance)[5] - 1e-3)
    nearer = attacks.cw_l2(*at, eps, **settings)
    moved = (nearer != images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(moved, distance <= eps)
    np.testing.assert_allclose(nearer[moved], found[moved], atol=1e-3)
    # A margin asked for is kept.
    sure = attacks.cw_l2(*at, 500.0, confidence=0.5, **settings)
    after = model(sure).numpy()
    mine = after[np.arange(10), labels]
    assert (after.max(1) - mine >= 0.5 - 1e-4).all()


def test_spsa_estimates_the_gradient_without_bias(rng):
    """On linear logits the mean over directions is the slope of the margin."""
    slope = rng.normal(size=(2, 2, 2)).astype(np.float32) / 50
    queried = []

    def model(images):
        queried.append(len(images))
        flat = tf.reduce_sum(images * slope, axis=(1, 2, 3))
        return tf.stack([tf.zeros_like(flat), flat], axis=1)

    number = 3000
    clean = tf.fill((number, 2, 2, 2), 128.0)
    rows = {"clean": clean, "labels": tf.zeros(number, tf.int64)}
    rows |= {"ids": tf.range(number, dtype=tf.int64)}
    spsa = SPSA(np.inf, samples=2)
    numbers = RunParams(9.0, 1.0, tf.constant(0, tf.int64), 0, 0, 0, 5)
    rows = spsa.step(model, spsa.initialize(model, rows, numbers), 0, numbers)
    assert queried == [number] + [2 * number] * 2
    # Adam goes down, so that its gradient is that of the margin, turned round.
    gradient = -rows["first_moment"].numpy() / 0.1
    deviation = np.linalg.norm(slope) / np.sqrt(2 * number)
    np.testing.assert_allclose(gradient.mean(0), slope, atol=4 * deviation)
    assert gradient.std(0).max() > deviation


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_spsa_reaches_the_worst_case_of_a_linear_network(norm, dense, rng):
    w = rng.normal(size=8) / 100
    model = dense((2, 2, 2), (np.stack([w, -w], 1), np.zeros(2)))
    images = np.full((3, 2, 2, 2), 128.0, np.float32)
    eps = {"linf": 5.0, "l2": 15.0}[norm]
    labels = np.zeros(3, int)
    at = model, images, labels, eps
    found = attacks.spsa(*at, norm=norm, steps=60, samples=16, learning_rate=1.0)
    gained = -(found - images).reshape(3, 8) @ w
    best = eps * (np.abs(w).sum() if norm == "linf" else np.linalg.norm(w))
    assert (gained / best).min() > 0.9 and (gained / best).max() < 1 + 1e-4


WRONG = [
    ("fgsm", {"eps": 0}, "`eps` must be in (0, 255]. Received: eps=0"),
    ("fgsm", {"eps": 256}, "Received: eps=256"),
    ("fgsm", {"eps": float("inf"), "norm": "l2"}, "Received: eps=inf"),
    ("fgsm", {"norm": "l1"}, "`norm` must be 'linf' or 'l2'. Received: norm='l1'"),
    ("fgsm", {"labels": np.array([0, 5, 1])}, "from 0 to 4, the model's classes"),
    ("fgsm", {"labels": np.array([-1, 2, 1])}, "values from -1 to 2"),
    ("fgsm", {"labels": np.zeros(3)}, "type float64 for 3 images"),
    ("fgsm", {"ids": [1, 2]}, "ids of shape (2,) for 3 images"),
    ("fgsm", {"batch_size": 0}, "`batch_size` must be positive"),
    ("ifgsm", {"steps": 10**7}, "`steps` must be from 1 to 10^6"),
    ("ifgsm", {"step_size": 0}, "`step_size` must be positive. Received: step_size=0"),
    ("pgd", {"restarts": 0}, "`restarts` must be a positive integer"),
    ("mim", {"decay": 1.5}, "`decay` must be in [0, 1]. Received: decay=1.5"),
    ("cw_l2", {"steps": 0}, "`steps` must be a positive integer. Received: steps=0"),
    ("cw_l2", {"searches": 1.5}, "Received: searches=1.5"),
    ("cw_l2", {"learning_rate": 0}, "`learning_rate` must be positive"),
    ("cw_l2", {"weight": -1}, "`weight` must be positive. Received: weight=-1"),
    ("cw_l2", {"confidence": -1}, "`confidence` must be at least 0"),
    ("spsa", {"samples": 0}, "`samples` must be a positive integer"),
    ("spsa", {"delta": 0}, "`delta` must be positive. Received: delta=0"),
    ("spsa", {"learning_rate": float("nan")}, "`learning_rate` must be positive"),
    ("fab", {"targets": -2}, "`targets` must be 0 or a positive integer"),
    ("autoattack", {"images": np.full((3, 4, 4, 3), -1.0)}, "values from -1 to -1"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG)
def test_wrong_arguments(name, change, message, model):
    arguments = {"images": np.zeros((3, 4, 4, 3)), "labels": np.zeros(3, int)}
    with pytest.raises(ValueError) as caught:
        getattr(attacks, name)(model, **arguments | {"eps": 8} | change)
    assert message in str(caught.value)


class Subclassed(keras.Model):
    def call(self, images):
        return keras.ops.mean(images, axis=(1, 2))


@pytest.mark.parametrize("name", SHORT)
def test_models_without_logits_are_refused(name):
    with pytest.raises(ValueError, match="logits of .* cannot be found"):
        getattr(attacks, name)(Subclassed(), np.zeros((3, 4, 4, 3)), [0, 1, 2], 8)


@pytest.mark.parametrize("name", SHORT)
def test_no_images_are_attacked_in_no_time(name, model):
    found = getattr(attacks, name)(model, np.zeros((0, 4, 4, 3)), np.zeros(0, int), 8)
    assert found.shape == (0, 4, 4, 3) and found.dtype == np.float32
