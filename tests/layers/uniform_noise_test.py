import numpy as np
import pytest

from inres_tf.layers import UniformNoise


def test_noise_is_uniform_in_training_only():
    x = np.full((64, 100), 5.0, np.float32)
    layer = UniformNoise(0.5, seed=3)
    np.testing.assert_array_equal(layer(x), x)
    noise = np.asarray(layer(x, training=True)) - x
    assert 0 <= noise.min() < 0.01 and 0.49 < noise.max() <= 0.5
    # Kolmogorov's statistic, the largest distance from the distribution function of
    # U(0, 0.5), exceeds 1.95 / sqrt(n) for one seed in a thousand.
    ranks = np.arange(1, noise.size + 1) / noise.size
    distance = np.abs(np.sort(noise.ravel()) / 0.5 - ranks).max()
    assert distance < 1.95 / np.sqrt(noise.size)


def test_seed_makes_the_noise_reproducible():
    x = np.zeros((8, 8), np.float32)
    layer = UniformNoise(0.5, seed=3)
    first, second = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    restored = UniformNoise.from_config(layer.get_config())
    np.testing.assert_array_equal(restored(x, training=True), first)


@pytest.mark.parametrize("high", [0, -1.0, float("inf"), "a"])
def test_invalid_range(high):
    with pytest.raises(ValueError, match="positive finite number. Received: high="):
        UniformNoise(high)
