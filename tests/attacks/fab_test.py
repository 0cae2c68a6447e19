"""FAB against its algorithm, with projections by brute force."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from inres_tf import attacks
from inres_tf.attacks import geometry
from inres_tf.attacks._fab import FAB
from inres_tf.attacks.engine import RunParams

SHAPE = (2, 2, 2)
ORDERS = {"linf": np.inf, "l2": 2}


def brute_force(point, normal, gap, order):
    """The smallest change in [0, 255] that gains the gap along the normal.

    For L2, by bisection of the multiplier. For L-infinity, only the size of the change,
    by linear programming. If no change gains so much, the one that gains most.
    """
    sign = 1 if gap >= 0 else -1
    normal, gap = sign * normal, abs(gap)
    room = np.where(normal > 0, 255 - point, np.where(normal < 0, -point, 0.0))
    if normal @ room <= gap:
        return room
    if order == np.inf:
        # min t with |d| <= t, normal·d = gap and point + d in the range.
        size = len(point)
        bounds = np.block([[np.eye(size), -np.ones((size, 1))]] * 2)
        bounds[size:, :size] *= -1
        solution = scipy.optimize.linprog(
            np.eye(size + 1)[size],
            A_ub=bounds,
            b_ub=np.zeros(2 * size),
            A_eq=np.append(normal, 0)[None],
            b_eq=[gap],
            bounds=[*zip(-point, 255 - point), (0, None)],
        )
        assert solution.status == 0
        return np.abs(solution.x[-1])  # only the size is unique
    low, high = 0.0, 1e12
    for _ in range(300):
        middle = (low + high) / 2
        change = np.clip(middle * normal, -point, 255 - point)
        low, high = (middle, high) if normal @ change < gap else (low, middle)
    return np.clip(low * normal, -point, 255 - point)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projections_are_the_smallest_changes(norm):
    rng = np.random.default_rng(0)
    order, number = ORDERS[norm], 60
    points = rng.uniform(0, 255, (number, 8))
    points[10:20] = np.where(points[10:20] > 128, 255, 0)  # corners of the pixel range
    normals = rng.normal(size=(number, 8)) * 10 ** rng.uniform(-3, 3, (number, 1))
    normals[20:30, ::2] = 0
    normals[30:40] *= 10 ** rng.uniform(-3, 0, (10, 8))
    gaps = np.abs(normals).sum(1) * rng.uniform(-40, 40, number)
    gaps[40:50] *= 100  # out of reach
    gaps[50], gaps[51], normals[52] = 0, 1e-3 * gaps[51], 0
    points, normals, gaps = (x.astype(np.float32) for x in (points, normals, gaps))
    changes = geometry.to_hyperplane(
        *(tf.reshape(x, (number, *SHAPE)) for x in (points, normals)), gaps, order
    )
    changes = changes.numpy().reshape(number, 8)
    reached = 0
    for point, normal, gap, change in zip(points, normals, gaps, changes):
        point, normal = point.astype(np.float64), normal.astype(np.float64)
        expected = brute_force(point, normal, float(gap), order)
        assert (point + change).min() >= -1e-4 and (point + change).max() <= 255 + 1e-4
        assert (change[normal == 0] == 0).all()
        if np.ndim(expected):  # out of reach, or L2
            np.testing.assert_allclose(change, expected, atol=2e-2)
        else:
            reached += 1
            np.testing.assert_allclose(np.abs(change).max(), expected, rtol=1e-4)
            tolerance = 1e-5 * abs(gap)
            np.testing.assert_allclose(normal @ change, gap, 0, tolerance + 1e-9)
    assert reached > 30 or norm == "l2"


class Quadratic:
    """Three classes, whose logits are negative squared distances to points."""

    def __init__(self):
        self.centers = np.random.default_rng(5).uniform(0, 255, (3, 8))

    def __call__(self, images):
        flat = tf.reshape(images, (-1, 1, 8))
        return -tf.reduce_sum((flat - self.centers.astype(np.float32)) ** 2, -1) / 1e4

    def logits(self, flat):
        return -((flat - self.centers) ** 2).sum(-1) / 1e4

    def slope(self, flat, label):
        return -2 * (flat - self.centers[label]) / 1e4


def smallest_change(point, normal, gap, order):
    """Like `brute_force`, but always a change, also for L-infinity."""
    result = brute_force(point, normal, gap, order)
    if np.ndim(result):
        return result
    # Of all changes of that size, the one that moves every value as far as possible.
    sign = np.sign(normal) * (1 if gap >= 0 else -1)
    return np.clip(result * sign, -point, 255 - point) * (normal != 0)


def reference(network, clean, label, target, order, steps):
    """Algorithm 1 of Croce & Hein, from the image, for a single image.

    Yields after every step the iterate and the smallest norm of an example so far.
    """
    norm = lambda change: np.linalg.norm(change, order)
    x, smallest_norm = clean.copy(), np.inf
    for _ in range(steps):
        logits, slope = network.logits(x), network.slope(x, label)
        rivals = [target] if target is not None else [k for k in range(3) if k != label]
        dual = {2: 2, np.inf: 1}[order]
        _, rival = min(
            (
                abs(logits[k] - logits[label])
                / np.linalg.norm(network.slope(x, k) - slope, dual),
                k,
            )
            for k in rivals
        )
        normal = network.slope(x, rival) - slope
        gap = logits[label] - logits[rival]
        change = smallest_change(x, normal, gap, order)
        clean_gap = gap + normal @ (x - clean)
        clean_change = smallest_change(clean, normal, clean_gap, order)
        sizes = [max(norm(change), 255e-8), max(norm(clean_change), 255e-8)]
        alpha = min(sizes[0] / sum(sizes), 0.1)
        x = (1 - alpha) * (x + 1.05 * change) + alpha * (clean + 1.05 * clean_change)
        x = np.clip(x, 0, 255)
        if network.logits(x).argmax() != label:
            smallest_norm = min(smallest_norm, norm(x - clean))
            x = clean + 0.9 * (x - clean)
        yield x, smallest_norm


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [True, False])
def test_iterates_match_the_algorithm(targeted, norm):
    network, order = Quadratic(), ORDERS[norm]
    clean = np.random.default_rng(1).uniform(0, 255, (6, 8))
    clean[:2] = np.where(clean[:2] > 128, 255, 0)
    clean = clean.astype(np.float32)
    logits = np.stack([network.logits(image) for image in clean.astype(np.float64)])
    labels, targets = np.argsort(-logits, 1)[:, 0], np.argsort(-logits, 1)[:, 2]
    state = {
        "clean": tf.reshape(clean, (6, *SHAPE)),
        "labels": tf.constant(labels),
        "ids": tf.range(6, dtype=tf.int64),
        "score": tf.fill([6], -np.inf),
    }
    params = RunParams(50.0, 1.0, tf.constant(0, tf.int64), 0, 2, 0, 12)
    fab = FAB(order, targeted)
    state = fab.initialize(network, state, params)
    paths = [
        list(reference(network, x, label, target if targeted else None, order, 12))
        for x, label, target in zip(clean.astype(np.float64), labels, targets)
    ]
    for number in range(12):
        state = fab.step(network, state, number, params)
        expected = np.stack([path[number][0] for path in paths])
        message = f"step {number}"
        images = state["images"].numpy().reshape(6, 8)
        np.testing.assert_allclose(images, expected, atol=0.05, err_msg=message)
        norms = np.array([path[number][1] for path in paths])
        np.testing.assert_allclose(state["smallest_norm"], norms, 1e-3, err_msg=message)
        np.testing.assert_array_equal(state["misclassified"], norms <= 50)
    assert np.isfinite(norms).all() and 0 < (norms <= 50).sum() < 6
    # It returns the closest example within eps, or else the image.
    adversarial = state["adversarial"].numpy().reshape(6, 8)
    distances = np.linalg.norm(adversarial - clean, order, axis=1)
    np.testing.assert_allclose(distances, np.where(norms <= 50, norms, 0), 1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targets", [9, 0])
def test_the_closest_example_of_a_linear_network_is_found(targets, norm, dense, rng):
    """Its distance is the margin over the dual norm, unless the pixel range ends."""
    order = ORDERS[norm]
    weights = rng.normal(size=(8, 3)) / 100
    model = dense(SHAPE, (weights, np.zeros(3)))
    images = rng.uniform(20, 235, (12, 8)).astype(np.float32)
    images[:4] = np.where(images[:4] > 128, 252, 3)
    logits = images.astype(np.float64) @ weights
    labels = logits.argmax(1)

    def distance(image, label, rival):
        difference = weights[:, rival] - weights[:, label]
        gap = -image @ difference
        return np.linalg.norm(smallest_change(image, difference, gap, order), order)

    smallest = np.array(
        [
            min(distance(image, label, rival) for rival in {0, 1, 2} - {label})
            for image, label in zip(images.astype(np.float64), labels)
        ]
    )
    settings = {"steps": 30, "norm": norm, "targets": targets}
    pixels = images.reshape(12, *SHAPE)
    far = attacks.fab(model, pixels, labels, 255.0, **settings)
    distances = np.linalg.norm(far.reshape(12, 8) - images, order, axis=1)
    assert (model(far).numpy().argmax(1) != labels).all()
    assert (distances > smallest * 0.9999).all()
    assert (distances < smallest * 1.051).all()  # it overshoots by 5%
    # With a smaller eps, only the examples within it are returned.
    eps = np.sort(distances)[6] - 1e-3
    near = attacks.fab(model, pixels, labels, eps, **settings)
    within = distances <= eps
    np.testing.assert_array_equal(model(near).numpy().argmax(1) != labels, within)
    np.testing.assert_array_equal(near[~within], pixels[~within])
    np.testing.assert_allclose(near[within], far[within], atol=1e-3)


@pytest.mark.parametrize("order", [np.inf, 2])
def test_later_restarts_start_at_half_the_radius(order):
    network = Quadratic()
    state = {
        "clean": tf.fill((5, *SHAPE), 128.0),
        "labels": tf.zeros(5, tf.int64),
        "ids": tf.range(5, dtype=tf.int64),
    }

    def start(restart, seed=0):
        seed = tf.constant(seed, tf.int64)
        params = RunParams(40.0, 1.0, seed, restart, 1, 0, 9)
        images = FAB(order).initialize(network, state, params)["images"]
        return (images - 128).numpy().reshape(5, 8)

    assert (start(0) == 0).all()
    for change in (start(1), start(2), start(1, seed=3)):
        np.testing.assert_allclose(np.linalg.norm(change, order, axis=1), 20, rtol=1e-5)
        assert np.abs(change[0] - change[1]).max() > 1
    assert np.abs(start(1) - start(2)).max() > 1
    assert np.abs(start(1) - start(1, seed=3)).max() > 1
