"""Auto-PGD against a NumPy version of its algorithm, and against known optima."""

import numpy as np
import pytest
import tensorflow as tf

from inres_tf import attacks
from inres_tf.attacks import losses
from inres_tf.attacks.apgd import AutoPGD, checkpoints
from inres_tf.attacks.engine import RunParams

SHAPE = (2, 2, 3)


class Tanh:
    """A network with one hidden layer, in float64, with its gradient."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.first = rng.normal(size=(12, 8)) / 150.0, rng.normal(size=8)
        self.last = rng.normal(size=(8, 5)), rng.normal(size=5)

    def logits(self, images):
        flat = images.reshape(-1, 12).astype(np.float64) - 128
        self.hidden = np.tanh(flat @ self.first[0] + self.first[1])
        return self.hidden @ self.last[0] + self.last[1]

    def gradient(self, by_logits):
        """Gradient by the images of the last call, given that by the logits."""
        by_hidden = by_logits @ self.last[0].T * (1 - self.hidden**2)
        return (by_hidden @ self.first[0].T).reshape(-1, *SHAPE)

    def in_keras(self, dense):
        weights, bias = self.first
        return dense(SHAPE, (weights, bias - 128 * weights.sum(0)), self.last)


def loss_and_slope(name, logits, labels, targets):
    """The published loss of each image, and its derivative by the logits."""
    index = np.arange(len(logits))
    slope = np.zeros_like(logits)
    true_logits = logits[index, labels]
    order = np.argsort(-logits, axis=1)
    if name == "ce":
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        softmax = exponentials / exponentials.sum(1, keepdims=True)
        slope = softmax.copy()
        slope[index, labels] -= 1
        return -np.log(softmax[index, labels]), slope
    if name == "dlr":
        rival = np.where(order[:, 0] == labels, order[:, 1], order[:, 0])
        scale = logits[index, order[:, 0]] - logits[index, order[:, 2]]
        weights = {0: 1, 2: -1}
    else:
        rival, scale = targets, logits[index, order[:, 0]]
        scale = scale - (logits[index, order[:, 2]] + logits[index, order[:, 3]]) / 2
        weights = {0: 1, 2: -0.5, 3: -0.5}
    loss = (logits[index, rival] - true_logits) / scale
    np.add.at(slope, (index, rival), 1 / scale)
    np.add.at(slope, (index, labels), -1 / scale)
    for rank, weight in weights.items():
        np.add.at(slope, (index, order[:, rank]), -weight * loss / scale)
    return loss, slope


def project(images, clean, eps, order):
    change = images - clean
    if order == np.inf:
        change = np.clip(change, -eps, eps)
    else:
        norms = np.sqrt((change**2).sum((1, 2, 3), keepdims=True))
        change = change * np.minimum(1, eps / np.maximum(norms, 1e-12))
    return np.clip(clean + change, 0, 255)


def reference(network, start, clean, labels, targets, loss, eps, order, steps):
    """Algorithm 1 of Croce & Hein, with the step size rule of their code.

    Yields after every step the iterate, the step size and the best loss of each image,
    whether its loss exceeds the best and the last one, which of both may be decided by
    rounding, and whether nothing else so far depended on rounding.
    """
    length, shortest, decrease = (max(int(s * steps), 1) for s in (0.22, 0.06, 0.03))

    def evaluate(images):
        value, slope = loss_and_slope(loss, network.logits(images), labels, targets)
        return value, network.gradient(slope)

    x, previous = start, start
    value, gradient = evaluate(x)
    size = np.full(len(x), 2.0 * eps)
    best, best_x, best_gradient = value.copy(), x.copy(), gradient.copy()
    history, checked, halved = [value], best.copy(), np.ones(len(x), bool)
    since, sure = 0, np.ones(len(x), bool)
    for number in range(steps):
        direction = np.sign(gradient)
        if order == np.inf:
            slopes = np.abs(gradient).reshape(len(x), -1)
            sure = sure & (slopes.min(1) > 1e-5 * slopes.max(1))
        else:
            norms = np.sqrt((gradient**2).sum((1, 2, 3), keepdims=True))
            direction = gradient / np.maximum(norms, 1e-12)
            sure = sure & (norms.ravel() > 1e-7)
        z = project(x + size[:, None, None, None] * direction, clean, eps, order)
        weight = 0.75 if number else 1.0
        x, previous = (
            project(
                x + weight * (z - x) + (1 - weight) * (x - previous), clean, eps, order
            ),
            x,
        )
        value, gradient = evaluate(x)
        others = np.stack([best, history[-1]])
        higher, close = value > others, np.abs(value - others) <= 2e-6
        # Where logits almost coincide, dlr divides by almost 0.
        sure = sure & (np.abs(value) < 50)
        history.append(value)
        better = value > best
        best = np.where(better, value, best)
        best_x[better], best_gradient[better] = x[better], gradient[better]
        since += 1
        if since == length:
            increases = sum(history[-1 - k] > history[-2 - k] for k in range(length))
            first = increases <= 0.75 * length
            second = ~halved & (checked >= best)
            halved, checked = first | second, best.copy()
            size = np.where(halved, size / 2, size)
            x, gradient = x.copy(), gradient.copy()
            x[halved], gradient[halved] = best_x[halved], best_gradient[halved]
            since, length = 0, max(length - decrease, shortest)
        yield x, size, best, higher, close, sure


@pytest.fixture(scope="module")
def case():
    """A network, images and their predicted classes."""
    network = Tanh(0)
    rng = np.random.default_rng(3)
    clean = rng.uniform(0, 255, (40, *SHAPE)).astype(np.float32)
    return network, clean, network.logits(clean).argmax(1)


def state_of(clean, labels):
    """The state that `initialize` receives."""
    return {
        "clean": tf.constant(clean),
        "labels": tf.constant(labels),
        "ids": tf.range(len(clean), dtype=tf.int64),
        "adversarial": tf.constant(clean),
        "misclassified": tf.zeros(len(clean), tf.bool),
        "score": tf.fill([len(clean)], -np.inf),
    }


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr_targeted"])
@pytest.mark.parametrize("steps", [17, 40])
def test_iterates_match_the_algorithm(loss, norm, steps, case, dense):
    network, clean, labels = case
    order, eps = {"linf": (np.inf, 8.0), "l2": (2, 80.0)}[norm]
    model = network.in_keras(dense)
    apgd = AutoPGD(order, loss, steps)
    rank = 1 if "targeted" in loss else 0
    params = RunParams(eps, 1.0, tf.constant(5, tf.int64), 0, rank, 0, steps)
    state = apgd.initialize(model, state_of(clean, labels), params)
    start = state["images"].numpy()
    targets = np.argsort(-network.logits(clean), 1)[:, 1]
    assert (targets != labels).all()
    start, exact = start.astype(np.float64), clean.astype(np.float64)
    path = list(
        reference(network, start, exact, labels, targets, loss, eps, order, steps)
    )
    compared, same = set(), np.ones(len(clean), bool)
    for number, (images, size, best, higher, close, sure) in enumerate(path):
        others = np.stack([state["score"], state["loss"]])
        state = apgd.step(model, state, number, params)
        rounded = close & (higher != (state["loss"].numpy() > others))
        same &= ~rounded.any(0)
        sure = sure & same
        for name, expected in (
            ("step_size", size),
            ("images", images),
            ("score", best),
        ):
            np.testing.assert_allclose(
                state[name].numpy()[sure],
                expected[sure],
                rtol=1e-5,
                atol=2e-2,
                err_msg=f"{name} of step {number}",
            )
        compared |= set(size[sure])
    # Some images were compared up to the last step, and step sizes were halved.
    assert sure.sum() >= 4 and len(compared) >= 3


def test_checkpoints_match_the_authors_code():
    """The paper's 0, 0.22, and then intervals shorter by 0.03 each, down to 0.06."""
    shares = [0, 22]
    while shares[-1] + max(shares[-1] - shares[-2] - 3, 6) <= 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    assert checkpoints(100) == shares[1:] == [22, 41, 57, 70, 80, 87, 93, 99]
    # Intervals are whole numbers of steps; these follow from the authors' loop.
    assert checkpoints(1) == [1]
    assert checkpoints(7) == [1, 2, 3, 4, 5, 6, 7]
    assert checkpoints(20) == [4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]


@pytest.mark.parametrize("order", [np.inf, 2])
def test_starts_are_on_the_surface_and_differ_by_restart(order):
    clean = np.full((6, *SHAPE), 128, np.float32)
    labels = np.zeros(6, int)

    def start(restart):
        params = RunParams(9.0, 1.0, tf.constant(2, tf.int64), restart, 0, 0, 9)
        model = lambda x: tf.reshape(x, [-1, 12])[:, :4]
        state = AutoPGD(order).initialize(model, state_of(clean, labels), params)
        return state["images"].numpy()

    first, second = start(0), start(1)
    for images in (first, second):
        norms = np.linalg.norm((images - clean).reshape(6, -1), order, axis=1)
        np.testing.assert_allclose(norms, 9, rtol=1e-5)
    assert np.abs(first - second).max() > 1


def test_losses_match_their_publication(rng):
    logits = rng.normal(size=(30, 6)).astype(np.float32)
    labels = rng.integers(0, 6, 30)
    others = np.argsort(np.where(np.eye(6)[labels] > 0, -np.inf, logits), 1)[:, ::-1]
    for rank in range(1, 6):
        targets = losses.target(logits, labels, rank)
        np.testing.assert_array_equal(targets, others[:, rank - 1])
        assert targets.dtype == tf.int64
        for name in ("ce", "dlr", "dlr_targeted"):
            function = {"ce": losses.cross_entropy}.get(name) or getattr(losses, name)
            expected, _ = loss_and_slope(name, logits, labels, targets.numpy())
            loss = function(tf.constant(logits), tf.constant(labels), targets)
            np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)
    margin = losses.margin(tf.constant(logits), tf.constant(labels))
    index = np.arange(30)
    expected = logits[index, others[:, 0]] - logits[index, labels]
    np.testing.assert_allclose(margin, expected, rtol=1e-6)
    # The ratio is invariant to scaling and shifting the logits.
    dlr = losses.dlr(tf.constant(logits), tf.constant(labels))
    scaled = losses.dlr(tf.constant(7 * logits + 3), tf.constant(labels))
    np.testing.assert_allclose(scaled, dlr, rtol=1e-4)


@pytest.mark.parametrize("name", ["dlr", "dlr_targeted"])
def test_ratios_of_equal_logits_are_zero(name):
    """Also in a graph, which may reorder sums in the denominator."""
    function, signature = getattr(losses, name), [tf.TensorSpec((None, 5))]

    @tf.function(input_signature=signature + [tf.TensorSpec((None,), tf.int64)] * 2)
    def loss_and_slope(logits, labels, targets):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = function(logits, labels, targets)
        return loss, tape.gradient(loss, logits)

    for value in (0.0, 1.0, 400.0):
        loss, slope = loss_and_slope(tf.fill((1, 5), value), [0], [1])
        assert loss.numpy() == 0 and np.isfinite(slope).all()


def test_every_target_and_restart_is_tried(dense, monkeypatch):
    tried = []

    def spy(model, images, labels, eps, attack, runs, **settings):
        tried.extend((run.rank, run.restart, run.last_step) for run in runs)

    monkeypatch.setattr("inres_tf.attacks.apgd.run_attack", spy)
    model = dense((2, 2, 1), (np.ones((4, 5)), np.zeros(5)))
    data = model, np.zeros((1, 2, 2, 1)), np.zeros(1, int), 8
    attacks.apgd_dlr(*data, targets=3, restarts=2, steps=7)
    assert tried == [(1, 0, 7), (1, 1, 7), (2, 0, 7), (2, 1, 7), (3, 0, 7), (3, 1, 7)]
    tried.clear()
    attacks.apgd_dlr(*data)  # nine targets by default, but there are only four
    assert tried == [(rank, 0, 100) for rank in (1, 2, 3, 4)]
    tried.clear()
    attacks.apgd_dlr(*data, targets=0)
    assert tried == [(0, 0, 100)]
    tried.clear()
    attacks.apgd_ce(*data, restarts=3, steps=5)
    assert tried == [(0, 0, 5), (0, 1, 5), (0, 2, 5)]


def test_gradients_of_randomised_networks_are_averaged():
    """A network whose gradients vary, with a known mean."""
    calls = []

    def model(images):
        calls.append(1)
        sign = 1.0 if len(calls) % 4 else -5.0  # sums to -2 over four calls
        flat = sign * tf.reduce_sum(images - 100.0, axis=(1, 2, 3))
        return tf.stack([flat / 1e6, -flat / 1e6], axis=1)

    def gradient(samples):
        state = state_of(np.full((1, *SHAPE), 100, np.float32), np.zeros(1, int))
        params = RunParams(9.0, 1.0, tf.constant(2, tf.int64), 0, 0, 0, 9)
        apgd = AutoPGD(np.inf, "ce", 9, samples)
        return apgd.initialize(model, state, params)["gradient"].numpy()

    assert (gradient(samples=1) < 0).all() and len(calls) == 1
    calls.clear()
    # d CE / d pixel is -1e-6 if the slope is 1 and the two classes equally likely.
    np.testing.assert_allclose(gradient(samples=4), 0.5e-6, rtol=1e-2)
    assert len(calls) == 4


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_optimum_of_a_linear_network_is_found(norm, dense, rng):
    """Bisection finds the largest loss in the ball and the pixel range."""
    weights = rng.normal(size=(12, 2)) / 600
    model = dense(SHAPE, (weights, np.zeros(2)))
    images = rng.uniform(0, 255, (8, *SHAPE)).astype(np.float32)
    images[:3] = np.where(images[:3] > 128, 255, 2)  # close to the ends of the range
    labels = np.arange(8) % 2
    eps = {"linf": 10.0, "l2": 30.0}[norm]
    adversarial = attacks.apgd_ce(model, images, labels, eps, norm=norm, steps=60)
    slope = (weights[:, 1] - weights[:, 0]) * np.where(labels == 0, 1, -1)[:, None]
    flat, change = images.reshape(8, 12), (adversarial - images).reshape(8, 12)
    room = np.where(slope > 0, 255 - flat, flat)
    if norm == "linf":
        best = np.minimum(room, eps)
    else:
        low, high = np.zeros((8, 1)), np.full((8, 1), 1e9)
        for _ in range(200):
            middle = (low + high) / 2
            moved = np.minimum(middle * np.abs(slope), room)
            inside = (moved**2).sum(1, keepdims=True) <= eps**2
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        best = np.minimum(low * np.abs(slope), room)
    reached = (slope * change).sum(1) / (np.abs(slope) * best).sum(1)
    assert reached.max() < 1 + 1e-4
    # L2 steps that are clipped to the pixel range are not exact projections.
    assert reached.min() > (0.9999 if norm == "linf" else 0.97), reached


def test_l2_steps_are_as_long_for_tiny_gradients(dense):
    """The gradients of confident networks are tiny, 1e-8 here."""
    weights = np.stack([np.full(12, 0.02), np.full(12, -0.02)], axis=1)
    model = dense(SHAPE, (weights, [0.0, 0.0]))
    images = np.full((1, *SHAPE), 31, np.float32)  # a margin of 15 logits
    adversarial = attacks.apgd_ce(model, images, [0], 40.0, norm="l2", steps=5)
    np.testing.assert_allclose(adversarial, 31 - 40 / np.sqrt(12), atol=1.5)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("apgd_ce", {"steps": 0}, "`steps` must be from 1"),
        ("apgd_ce", {"steps": 2.5}, "from 1 to 10^6. Received: steps=2.5"),
        ("apgd_ce", {"restarts": 0}, "`restarts` must be a positive integer"),
        ("apgd_ce", {"samples": 0}, "`samples` must be a positive integer"),
        ("apgd_ce", {"norm": "l1"}, "'linf' or 'l2'. Received: norm='l1'"),
        ("apgd_dlr", {"targets": -1}, "`targets` must be 0 or a positive integer"),
        ("apgd_dlr", {"targets": 1.5}, "Received: targets=1.5"),
    ],
)
def test_invalid_arguments(name, change, message, dense):
    model = dense((2, 2, 1), (np.ones((4, 5)), np.zeros(5)))
    data = model, np.zeros((1, 2, 2, 1)), np.zeros(1, int), 8
    with pytest.raises(ValueError) as caught:
        getattr(attacks, name)(*data, **change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "targets", "message"),
    [
        (3, 9, "the targeted difference of logits ratio needs 4 classes and the model"),
        (2, 0, "the difference of logits ratio needs 3 classes and the model has 2"),
    ],
)
def test_too_few_classes(classes, targets, message, dense):
    model = dense((2, 2, 1), (np.ones((4, classes)), np.zeros(classes)))
    with pytest.raises(ValueError, match=message):
        attacks.apgd_dlr(model, np.zeros((1, 2, 2, 1)), [0], 8, targets=targets)
