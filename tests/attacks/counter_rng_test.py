"""Random numbers: their distributions, and what they depend on."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from inres_tf import attacks
from inres_tf.attacks import counter_rng, geometry


def keys(number, seed=0, *counters):
    ids = tf.range(number, dtype=tf.int64)
    return counter_rng.key(tf.constant(seed, tf.int64), ids, *counters)


def splitmix64(state, number):
    """The generator of Steele, Lea and Flood, on integers of Python."""
    for _ in range(number):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        bits = state
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        yield bits ^ (bits >> 31)


@pytest.mark.parametrize("state", [0, 1, 2**63 + 5, 2**64 - 1])
def test_numbers_match_splitmix64(state):
    key = tf.constant([np.uint64(state).astype(np.int64)], tf.int64)
    bits = list(splitmix64(state, 6))
    expected = np.reshape([(b >> 41) / 2**23 + 2**-24 for b in bits], (3, 2))
    np.testing.assert_array_equal(counter_rng.uniform(key, (3, 2))[0], expected)
    signs = [-1 if b >= 2**63 else 1 for b in bits]
    np.testing.assert_array_equal(counter_rng.signs(key, (6,))[0], signs)


@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_draws_follow_their_distributions(seed):
    uniform = counter_rng.uniform(keys(200, seed), (30, 4)).numpy().ravel()
    assert 0 < uniform.min() and uniform.max() < 1
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 0.01
    normal = counter_rng.normal(keys(200, seed, 7), (30, 4)).numpy().ravel()
    assert scipy.stats.kstest(normal, "norm").pvalue > 0.01
    signs = counter_rng.signs(keys(200, seed, 3), (30, 4)).numpy().ravel()
    assert set(signs) == {-1, 1}
    assert scipy.stats.binomtest(int((signs > 0).sum()), signs.size).pvalue > 0.01


def test_images_steps_and_seeds_draw_independently():
    """Also consecutive ones, whose keys are hashes of consecutive numbers."""
    samples = [
        counter_rng.normal(keys(1, seed, *counters), (4000,)).numpy()[0]
        for seed in (0, 1, 2)
        for counters in ((0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, -1))
    ]
    samples += list(counter_rng.normal(keys(9, 0, 0), (4000,)).numpy()[1:])
    samples.append(samples[0][1:])  # the first, shifted by one
    length = min(map(len, samples))
    matrix = np.corrcoef([sample[:length] for sample in samples])
    correlations = matrix[np.triu_indices(len(samples), 1)]
    # 435 pairs, each with standard deviation 1 / sqrt(4000).
    assert np.abs(correlations).max() < 4.5 / np.sqrt(4000)
    assert scipy.stats.kstest(correlations * np.sqrt(length), "norm").pvalue > 0.01


def test_keys_are_unique():
    all_keys = [
        keys(300, seed, restart, step).numpy()
        for seed in range(3)
        for restart in range(4)
        for step in range(-1, 20)
    ]
    assert len(np.unique(all_keys)) == 300 * 3 * 4 * 21


@pytest.mark.parametrize("order", [np.inf, 2])
def test_points_are_uniform_in_the_ball(order):
    points = geometry.random_in_ball(keys(4000, 3), (2, 1, 3), 5.0, order).numpy()
    points = points.reshape(4000, 6)
    radii = np.linalg.norm(points, order, axis=1) / 5
    assert radii.max() <= 1 + 1e-6
    # The share of the ball within a relative radius is the sixth power of that.
    assert scipy.stats.kstest(radii**6, "uniform").pvalue > 0.01
    deviation = 5 / np.sqrt(3 if order == np.inf else 8)
    np.testing.assert_allclose(points.mean(0), 0, atol=4 * deviation / np.sqrt(4000))
    np.testing.assert_allclose(points.std(0), deviation, rtol=0.05)


# The random attacks, with so few steps that the draws show in the result. FAB is random
# only in later restarts, which its own tests cover.
RANDOM = {
    "pgd": {"norm": "linf", "steps": 1, "restarts": 2, "eps": 25.0},
    "spsa": {"norm": "l2", "steps": 4, "samples": 3, "eps": 60.0},
    "apgd_ce": {"norm": "l2", "steps": 2, "eps": 60.0},
    "apgd_dlr": {"norm": "linf", "steps": 2, "targets": 2, "eps": 15.0},
    "square": {"norm": "l2", "queries": 6, "eps": 100.0},
}


@pytest.mark.parametrize("name", RANDOM)
def test_results_depend_only_on_the_seed_and_the_ids(name, dense):
    rng = np.random.default_rng(2)
    hidden = rng.normal(size=(27, 9)) / 300, rng.normal(size=9)
    model = dense((3, 3, 3), hidden, (rng.normal(size=(9, 5)), np.zeros(5)))
    images = rng.uniform(0, 255, (20, 3, 3, 3)).astype(np.float32)
    labels = model(images).numpy().argmax(-1)

    def run(indices=slice(None), **changes):
        indices = np.arange(20)[indices]
        settings = {"seed": 5, "ids": 100 + indices, "early_stop": False}
        settings |= RANDOM[name] | changes
        attack = getattr(attacks, name)
        return attack(model, images[indices], labels[indices], **settings)

    whole = run()
    np.testing.assert_array_equal(run(), whole)
    np.testing.assert_allclose(run(batch_size=7), whole, atol=1e-2)
    shuffled = rng.permutation(20)
    np.testing.assert_allclose(run(shuffled), whole[shuffled], atol=1e-2)
    np.testing.assert_allclose(run([7]), whole[[7]], atol=1e-2)
    # Other seeds and ids draw other numbers.
    assert np.abs(run(seed=6) - whole).max() > 0.5
    assert np.abs(run(seed=-1) - whole).max() > 0.5
    assert np.abs(run(ids=np.arange(20)) - whole).max() > 0.5
    # Images that leave the batch do not change the draws of the others.
    stopped = run(early_stop=True)
    correct = model(stopped).numpy().argmax(-1) == labels
    assert 0 < correct.sum() < 20
    np.testing.assert_allclose(stopped[correct], whole[correct], atol=1e-2)
