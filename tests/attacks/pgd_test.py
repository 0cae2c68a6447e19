"""FGSM, I-FGSM, PGD and MIM against cleverhans and the official script; restarts."""

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
# Radii at which about half of the digits are misclassified.
EPS = {"linf": 16.0, "l2": 100.0}


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(37))


def cross_entropy(model, part, images):
    logits = logits_fn(model)(tf.constant(images, tf.float32))
    return tf.nn.sparse_softmax_cross_entropy_with_logits(part.labels, logits).numpy()


def is_correct(model, part, images):
    return model(images).numpy().argmax(-1) == part.labels


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd", "mim"])
def test_examples_match_cleverhans_bit_for_bit(name, norm, trained, few, monkeypatch):
    images, eps, order = few.images.astype(np.float32), EPS[norm], ORDERS[norm]
    options = {"clip_min": 0.0, "clip_max": 255.0, "y": tf.constant(few.labels)}
    arguments = (logits_fn(trained), tf.constant(images), eps)
    settings = {"norm": norm, "seed": 3}
    if name == "fgsm":
        expected = fast_gradient_method(*arguments, order, **options)
    else:
        settings |= {"steps": 7, "step_size": eps / 5}
        function = cleverhans_pgd.projected_gradient_descent
        if name == "mim":
            function, options["sanity_checks"] = momentum_iterative_method, False
        if name == "pgd":
            start = geometry.random_in_ball(
                counter_rng.key(
                    tf.constant(3, tf.int64), tf.range(37, dtype=tf.int64), 0
                ),
                images.shape[1:],
                eps,
                order,
            )
            options["rand_init"] = True
            monkeypatch.setattr(
                cleverhans_pgd, "random_lp_vector", lambda *a, **k: start
            )
        expected = function(*arguments, eps / 5, 7, order, **options)
    attack = getattr(attacks, name)
    adversarial = attack(trained, few.images, few.labels, eps, **settings)
    assert np.abs(adversarial - images).max() > 8
    np.testing.assert_array_equal(adversarial, expected)


def official_pgd(model, x, y, eps, start, steps, size):
    """PGD of the official script, on pixels: projected around the start."""
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


def test_pgd_around_the_start_matches_the_official_script(trained, few):
    eps = 8.0
    keys = counter_rng.key(tf.constant(5, tf.int64), tf.range(37, dtype=tf.int64), 0)
    noise = eps * (2 * counter_rng.uniform(keys, few.images.shape[1:]).numpy() - 1)
    start = few.images + noise
    expected = official_pgd(trained, few.images, few.labels, eps, start, 20, 1.0)
    settings = {"center": "start", "seed": 5}
    adversarial = attacks.pgd(trained, few.images, few.labels, eps, **settings)
    # Gradients that are zero up to rounding may take either sign.
    assert (np.abs(adversarial - expected) < 1e-3).mean() > 0.99
    assert eps + 1 < np.abs(adversarial - few.images).max() <= 2 * eps + 1e-3


@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd", "mim"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_examples_are_in_the_ball_and_misclassified(name, norm, trained, few):
    weights = trained.get_weights()
    attack = getattr(attacks, name)
    accuracy = [is_correct(trained, few, few.images).mean()]
    for eps in EPS[norm] * np.array([0.25, 1, 4]):
        settings = {} if name == "fgsm" else {"step_size": eps / 5, "steps": 10}
        settings["norm"] = norm
        adversarial = attack(trained, few.images, few.labels, eps, **settings)
        assert adversarial.shape == few.images.shape
        assert adversarial.dtype == np.float32
        change = (adversarial - few.images).reshape(37, -1)
        distance = np.linalg.norm(change, ORDERS[norm], axis=1).max()
        assert 0.8 * eps < distance <= eps * (1 + 1e-5) + 1e-3
        assert 0 <= adversarial.min() and adversarial.max() <= 255
        accuracy.append(is_correct(trained, few, adversarial).mean())
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] > 0.8 and accuracy[-1] < 0.2
    for a, b in zip(weights, trained.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd", "mim"])
def test_l2_steps_do_not_shrink_with_the_gradient(name, dense, rng):
    """That of confident networks is tiny, in units of pixels in [0, 255] above all."""
    weights = rng.normal(size=(4, 2)) * 1e-9
    model = dense((2, 2, 1), (weights, np.zeros(2)))
    images, labels = np.full((1, 2, 2, 1), 128.0), np.array([0])
    found = getattr(attacks, name)(model, images, labels, 20.0, norm="l2")
    slope = (weights[:, 1] - weights[:, 0]).reshape(2, 2, 1)
    change = found[0] - images[0]
    assert np.linalg.norm(change) == pytest.approx(20, abs=0.1)
    cosine = (change * slope).sum() / np.linalg.norm(change) / np.linalg.norm(slope)
    assert cosine > 0.98


@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd", "mim", "apgd_ce"])
@pytest.mark.parametrize("margin", [30.0, 60.0])
def test_confident_networks_fall_in_l2(name, margin, dense):
    """The squares of their gradients vanish in float32."""
    slope = margin / 2 / (12 * 16)  # each pixel is 16 away from the boundary
    weights = np.stack([np.full(12, slope), np.full(12, -slope)], axis=1)
    bias = 44 * 12 * slope
    model = dense((2, 2, 3), (weights, [-bias, bias]))
    images, labels = np.full((1, 2, 2, 3), 60.0), np.array([0])
    assert np.diff(model(images.astype("float32")).numpy()[0]) == pytest.approx(-margin)
    eps = 25 * np.sqrt(12)
    found = getattr(attacks, name)(model, images, labels, eps, norm="l2")
    assert model(found).numpy().argmax() == 1


def test_examples_outside_the_pixel_range_do_not_end_a_search(dense):
    """Which a projection around the random start may leave."""
    model = dense((1, 1, 2), (np.array([[1.0, -1.0], [0.5, -0.5]]), [40.0, 0.0]))
    images = np.zeros((200, 1, 1, 2), np.float32)
    images[..., 1] = 10.0
    labels = np.zeros(200, int)
    settings = {"steps": 8, "step_size": 4.0, "center": "start"}
    accuracies = []
    for early_stop in (True, False):
        found = attacks.pgd(
            model, images, labels, 24, early_stop=early_stop, **settings
        )
        accuracies.append((model(found).numpy().argmax(1) == labels).mean())
    assert accuracies[0] <= accuracies[1]


def test_the_margin_has_a_gradient_where_the_cross_entropy_has_none(dense):
    weights = np.array([[1.0, -1.0], [-2.0, 0.5], [0.3, 0.1], [-0.2, 0.4]])
    model = dense((2, 2, 1), (weights, [900.0, 0.0]))
    images, labels = np.full((1, 2, 2, 1), 128.0), np.array([0])
    found = attacks.pgd(model, images, labels, 5, loss="margin")
    signs = np.sign(weights[:, 1] - weights[:, 0]).reshape(2, 2, 1)
    np.testing.assert_allclose(found[0], 128 + 5 * signs, atol=1e-4)
    with pytest.raises(ValueError, match="'cross_entropy' or 'margin'. Received: loss"):
        attacks.pgd(model, images, labels, 5, loss="hinge")


def test_many_steps_are_stronger_than_one(trained, few):
    one = attacks.fgsm(trained, few.images, few.labels, 32)
    many = attacks.ifgsm(trained, few.images, few.labels, 32, step_size=4)
    losses = [cross_entropy(trained, few, x).mean() for x in (many, one, few.images)]
    assert losses == sorted(losses, reverse=True)


def test_momentum_is_a_decaying_sum_of_normalised_gradients():
    """A model whose gradient is known at every step, and so the path of MIM."""
    slopes = [0.03, 0.01, -0.01, -0.04]  # of each step; only their signs matter
    labels, visited = tf.constant([0], tf.int64), []

    class Slope:
        def __init__(self, slope):
            self.slope = slope

        def __call__(self, images):
            visited.append(images.numpy().item())
            flat = tf.reshape(images, [1, 1]) * self.slope
            return tf.concat([-flat, flat], axis=1)

    def path(decay):
        visited.clear()
        image = tf.fill([1, 1, 1, 1], 100.0)
        state = {"clean": image, "labels": labels, "ids": labels, "adversarial": image}
        ascent = GradientAscent(np.inf, momentum=decay)
        params = RunParams(50.0, 1.0, 0, 0, 0, 0, len(slopes))
        state = ascent.initialize(None, state, params)
        for number, slope in enumerate(slopes):
            state = ascent.step(Slope(slope), state, number, params)
        return [*visited, state["images"].numpy().item()]

    # The sums of signs are 1, 2, 1, 0, and with a decay of 0.9 1, 1.9, 0.71, -0.361.
    assert path(1.0) == [100, 101, 102, 103, 103]
    assert path(0.9) == [100, 101, 102, 103, 102]
    assert path(0.0) == [100, 101, 102, 101, 100]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_best_of_several_restarts_is_returned(norm, trained, few):
    settings = {"steps": 3, "step_size": EPS[norm] / 4, "norm": norm, "seed": 1}
    images, labels = few.images, few.labels

    def single(restart):
        ascent = GradientAscent(ORDERS[norm], random=True)
        runs = [AttackRun(3, restart=restart)]
        step_size = settings["step_size"]
        arguments = (trained, images, labels, EPS[norm], ascent, runs)
        return engine.run_attack(*arguments, step_size=step_size, seed=1)

    singles = np.stack([single(restart) for restart in range(3)])
    assert np.abs(singles[0] - singles[1]).max() > 1
    misclassified = np.stack([~is_correct(trained, few, x) for x in singles])
    losses = np.stack([cross_entropy(trained, few, x) for x in singles])
    best = np.lexsort((losses, misclassified), axis=0)[-1]
    assert len(set(best)) == 3
    expected = singles[best, np.arange(37)]
    several = attacks.pgd(trained, images, labels, EPS[norm], restarts=3, **settings)
    np.testing.assert_array_equal(several, expected)


def test_images_leave_the_batch_once_misclassified(dense):
    """Each I-FGSM step on a linear network lowers the margin by a known amount."""
    w = np.array([0.5, -1.0, 0.25, 0.25]) / 100
    model = dense((2, 2, 1), (np.stack([w, -w], 1), [0.0, 0.0]), spy=True)
    # Margins are 2 w·x: an image at 2 w·x = m is misclassified after m / 0.04 steps.
    needed = np.array([2, 5, 1, 3, 9, 0])
    images = np.full((6, 4), 100.0)
    images[:, 0] += (needed - 0.5) * 0.04 / (2 * w[0]) - images[0] @ w / w[0]
    images = images.reshape(6, 2, 2, 1)
    labels = np.zeros(6, int)
    settings = {"steps": 7, "step_size": 1.0, "early_stop": True}
    adversarial = attacks.ifgsm(model, images, labels, 50.0, **settings)
    # The clean images, then those that remain at each step and after the last.
    sizes = model.get_layer("spy").rows
    assert sizes == [6] + [sum(needed >= max(step, 1)) for step in range(8)]
    misclassified = model(adversarial).numpy().argmax(-1) != labels
    np.testing.assert_array_equal(misclassified, needed <= 7)
    steps = np.abs(adversarial - images).max(axis=(1, 2, 3))
    np.testing.assert_allclose(steps, np.minimum(needed, 7), atol=1e-4)
    np.testing.assert_array_equal(adversarial[5], images[5].astype(np.float32))

    model.get_layer("spy").rows.clear()
    attacks.ifgsm(model, images, labels, 50.0, **settings | {"early_stop": False})
    assert model.get_layer("spy").rows == [6] * 8


def test_new_scalar_arguments_do_not_trace_again(dense, rng):
    layers = (rng.normal(size=(4, 3)) / 50, np.zeros(3))
    model = dense((2, 2, 1), layers, spy=True)
    images, labels = np.full((7, 2, 2, 1), 128.0), np.arange(7) % 3
    settings = {"early_stop": True, "restarts": 1}
    attacks.pgd(model, images, labels, 8.0, **settings)
    spy = model.get_layer("spy")
    traces, calls = len(spy.traces), len(spy.rows)
    assert traces == 1 + 2  # the classifier; `step` and `finish`
    for change in (
        {"eps": 4.0},
        {"steps": 3, "step_size": 2.0},
        {"batch_size": 2},
        {"restarts": 3, "seed": 4},
        {"early_stop": False},
    ):
        attacks.pgd(model, images, labels, **{"eps": 8.0} | settings | change)
    attacks.pgd(model, images[:3], labels[:3], 8.0, ids=[5, 3, 4])
    assert len(spy.traces) == traces and len(spy.rows) > calls
