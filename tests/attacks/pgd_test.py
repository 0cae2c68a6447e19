"""FGSM, I-FGSM, PGD and MIM: cleverhans' examples, the official script's, restarts."""

import cleverhans.tf2.attacks.projected_gradient_descent as cleverhans_pgd
import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method

from inres_tf import attacks
from inres_tf.attacks import counter_rng, engine, geometry
from inres_tf.attacks._pgd import GradientAscent
from inres_tf.attacks.engine import AttackRun, RunParams
from inres_tf.models.logits import logits_fn

ORDERS = {"linf": np.inf, "l2": 2}
# A radius of each norm at which about half of the digits fall.
EPS = {"linf": 16.0, "l2": 100.0}


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(37))


def cross_entropy(model, part, images):
    logits = logits_fn(model)(tf.constant(images, tf.float32))
    return tf.nn.sparse_softmax_cross_entropy_with_logits(part.labels, logits).numpy()


def right(model, part, images):
    return model(images).numpy().argmax(-1) == part.labels


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd", "mim"])
def test_examples_are_those_of_cleverhans_bit_for_bit(
    name, norm, trained, few, monkeypatch
):
    images, eps, order = few.images.astype(np.float32), EPS[norm], ORDERS[norm]
    clipped = {"clip_min": 0.0, "clip_max": 255.0, "y": tf.constant(few.labels)}
    at = (logits_fn(trained), tf.constant(images), eps)
    settings = {"norm": norm, "seed": 3}
    if name == "fgsm":
        expected = fast_gradient_method(*at, order, **clipped)
    else:
        settings |= {"steps": 7, "step_size": eps / 5}
        function = cleverhans_pgd.projected_gradient_descent
        if name == "mim":
            function, clipped["sanity_checks"] = momentum_iterative_method, False
        if name == "pgd":
            start = geometry.random_in_ball(
                counter_rng.key(
                    tf.constant(3, tf.int64), tf.range(37, dtype=tf.int64), 0
                ),
                images.shape[1:],
                eps,
                order,
            )
            clipped["rand_init"] = True
            monkeypatch.setattr(
                cleverhans_pgd, "random_lp_vector", lambda *a, **k: start
            )
        expected = function(*at, eps / 5, 7, order, **clipped)
    found = getattr(attacks, name)(trained, few.images, few.labels, eps, **settings)
    assert np.abs(found - images).max() > 8
    np.testing.assert_array_equal(found, expected)


def official_pgd(model, x, y, eps, start, steps, size):
    """The official script's PGD, on pixels, in NumPy: projected around the start."""
    logits = logits_fn(model)
    center, adversarial = start.copy(), start.copy()
    for _ in range(steps):
        variable = tf.constant(adversarial)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits(variable))
        adversarial = adversarial + size * np.sign(
            tape.gradient(loss, variable).numpy()
        )
        adversarial = np.clip(adversarial, center - eps, center + eps)
        adversarial = np.clip(adversarial, 0, 255)
    return adversarial


def test_paper_pgd_is_the_official_script(trained, few):
    eps = 8.0
    keys = counter_rng.key(tf.constant(5, tf.int64), tf.range(37, dtype=tf.int64), 0)
    noise = eps * (2 * counter_rng.uniform(keys, few.images.shape[1:]).numpy() - 1)
    start = few.images + noise
    expected = official_pgd(trained, few.images, few.labels, eps, start, 20, 1.0)
    found = attacks.pgd(trained, few.images, few.labels, eps, center="start", seed=5)
    # Gradients within rounding of zero may take either sign.
    assert (np.abs(found - expected) < 1e-3).mean() > 0.99
    reach = np.abs(found - few.images).max()
    assert eps + 1 < reach <= 2 * eps + 1e-3


@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd", "mim"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_examples_lie_in_the_ball_and_fool_the_network(name, norm, trained, few):
    weights = trained.get_weights()
    attack = getattr(attacks, name)
    accuracy = [right(trained, few, few.images).mean()]
    for eps in EPS[norm] * np.array([0.25, 1, 4]):
        options = {} if name == "fgsm" else {"step_size": eps / 5, "steps": 10}
        found = attack(trained, few.images, few.labels, eps, norm=norm, **options)
        assert found.shape == few.images.shape and found.dtype == np.float32
        distance = np.linalg.norm((found - few.images).reshape(37, -1), ORDERS[norm], 1)
        assert 0.8 * eps < distance.max() <= eps * (1 + 1e-5) + 1e-3
        assert 0 <= found.min() and found.max() <= 255
        accuracy.append(right(trained, few, found).mean())
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] > 0.8 and accuracy[-1] < 0.2
    for a, b in zip(weights, trained.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_iterating_is_stronger_than_one_step(trained, few):
    one = attacks.fgsm(trained, few.images, few.labels, 32)
    many = attacks.ifgsm(trained, few.images, few.labels, 32, step_size=4)
    losses = [cross_entropy(trained, few, x).mean() for x in (many, one, few.images)]
    assert losses == sorted(losses, reverse=True)


def test_momentum_is_a_sum_of_gradients_of_mean_size_one():
    """A model whose gradient is known at every step, so that MIM's path is too."""
    slopes = [0.03, 0.01, -0.01, -0.04]  # by step; every size counts alike
    labels, taken = tf.constant([0], tf.int64), []

    class Slope:
        def __init__(self, slope):
            self.slope = slope

        def __call__(self, images):
            taken.append(images.numpy().item())
            flat = tf.reshape(images, [1, 1]) * self.slope
            return tf.concat([-flat, flat], axis=1)

    def path(decay):
        taken.clear()
        one = tf.fill([1, 1, 1, 1], 100.0)
        rows = {"clean": one, "labels": labels, "ids": labels, "adversarial": one}
        ascent = GradientAscent(np.inf, momentum=decay)
        numbers = RunParams(50.0, 1.0, 0, 0, 0, 0, len(slopes))
        rows = ascent.initialize(None, rows, numbers)
        for number, slope in enumerate(slopes):
            rows = ascent.step(Slope(slope), rows, number, numbers)
        return [*taken, rows["images"].numpy().item()]

    # The sums of signs are 1, 2, 1, 0, at a decay of 0.9 1, 1.9, 0.71, -0.361.
    assert path(1.0) == [100, 101, 102, 103, 103]
    assert path(0.9) == [100, 101, 102, 103, 102]
    assert path(0.0) == [100, 101, 102, 101, 100]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_of_several_restarts_the_best_is_kept(norm, trained, few):
    settings = {"steps": 3, "step_size": EPS[norm] / 4, "norm": norm, "seed": 1}
    images, labels = few.images, few.labels

    def one(restart):
        ascent = GradientAscent(ORDERS[norm], random=True)
        passes = [AttackRun(3, restart=restart)]
        step_size = settings["step_size"]
        at = (trained, images, labels, EPS[norm], ascent, passes)
        return engine.run_attack(*at, step_size=step_size, seed=1)

    singles = np.stack([one(restart) for restart in range(3)])
    assert np.abs(singles[0] - singles[1]).max() > 1
    fallen = np.stack([~right(trained, few, x) for x in singles])
    losses = np.stack([cross_entropy(trained, few, x) for x in singles])
    best = np.lexsort((losses, fallen), axis=0)[-1]
    assert len(set(best)) == 3
    expected = singles[best, np.arange(37)]
    found = attacks.pgd(trained, images, labels, EPS[norm], restarts=3, **settings)
    np.testing.assert_array_equal(found, expected)


def test_images_leave_as_they_fall(dense):
    """Each I-FGSM step on a linear network lowers the margin by a known amount."""
    w = np.array([0.5, -1.0, 0.25, 0.25]) / 100
    model = dense((2, 2, 1), (np.stack([w, -w], 1), [0.0, 0.0]), spy=True)
    # Margins are 2 w·x, so that an image at 2 w·x = m falls after m / 0.04 steps.
    falls = np.array([2, 5, 1, 3, 9, 0])
    images = np.full((6, 4), 100.0)
    images[:, 0] += (falls - 0.5) * 0.04 / (2 * w[0]) - images[0] @ w / w[0]
    images = images.reshape(6, 2, 2, 1)
    labels = np.zeros(6, int)
    settings = {"steps": 7, "step_size": 1.0, "early_stop": True}
    found = attacks.ifgsm(model, images, labels, 50.0, **settings)
    # The clean images, then those left before each step, and those after the last.
    seen = model.get_layer("spy").rows
    assert seen == [6] + [sum(falls >= max(step, 1)) for step in range(8)]
    fell = model(found).numpy().argmax(-1) != labels
    np.testing.assert_array_equal(fell, falls <= 7)
    steps = np.abs(found - images).max(axis=(1, 2, 3))
    np.testing.assert_allclose(steps, np.minimum(falls, 7), atol=1e-4)
    np.testing.assert_array_equal(found[5], images[5].astype(np.float32))

    model.get_layer("spy").rows.clear()
    attacks.ifgsm(model, images, labels, 50.0, **settings | {"early_stop": False})
    assert model.get_layer("spy").rows == [6] * 8


def test_another_number_traces_nothing_anew(dense, rng):
    layers = (rng.normal(size=(4, 3)) / 50, np.zeros(3))
    model = dense((2, 2, 1), layers, spy=True)
    images, labels = np.full((7, 2, 2, 1), 128.0), np.arange(7) % 3
    settings = {"early_stop": True, "restarts": 1}
    attacks.pgd(model, images, labels, 8.0, **settings)
    spy = model.get_layer("spy")
    traces, seen = len(spy.traces), len(spy.rows)
    assert traces == 1 + 2  # the classifier; the step and the end of the search
    for change in (
        {"eps": 4.0},
        {"steps": 3, "step_size": 2.0},
        {"batch_size": 2},
        {"restarts": 3, "seed": 4},
        {"early_stop": False},
    ):
        attacks.pgd(model, images, labels, **{"eps": 8.0} | settings | change)
    attacks.pgd(model, images[:3], labels[:3], 8.0, ids=[5, 3, 4])
    assert len(spy.traces) == traces and len(spy.rows) > seen
