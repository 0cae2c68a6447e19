"""Shifted orthogonal maps: orthogonality, shifts and norms."""

import keras
import numpy as np
import pytest

from inres_tf.layers import ShiftedOrthogonal


def built(channels, scale=1.0):
    layer = ShiftedOrthogonal()
    layer.build((None, 4, 4, channels))
    rng = np.random.default_rng(0)
    layer.kernel.assign(scale * rng.normal(size=(channels, channels)))
    return layer


@pytest.mark.parametrize("channels", [1, 3, 5, 12])
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_matrix_is_orthogonal(channels, scale):
    layer = built(channels, scale)
    matrix = np.asarray(layer.matrix())
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(channels), atol=1e-4)
    exact = np.linalg.norm(matrix.astype(np.float64), 2)
    assert exact <= layer.lipschitz_bound() <= 1 + 1e-3


def test_channels_are_shifted_and_mixed(rng):
    layer = built(5)
    x = rng.normal(size=(1, 4, 4, 5)).astype("float32")
    shifted = np.zeros_like(x)
    shifted[..., 0] = x[..., 0]
    shifted[:, :, :-1, 1] = x[:, :, 1:, 1]
    shifted[:, :, 1:, 2] = x[:, :, :-1, 2]
    shifted[:, :-1, :, 3] = x[:, 1:, :, 3]
    shifted[:, 1:, :, 4] = x[:, :-1, :, 4]
    expected = shifted @ np.asarray(layer.matrix())
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_the_norm_is_at_most_1_and_is_reached_away_from_the_border():
    layer = built(4)
    x = np.zeros((1, 5, 5, 4), "float32")
    x[0, 2, 2] = 1.0
    np.testing.assert_allclose(np.linalg.norm(layer(x)), 2.0, rtol=1e-4)
    x[...] = 1.0
    assert np.linalg.norm(layer(x)) < np.linalg.norm(x)


def test_round_trip(tmp_path, rng):
    inputs = keras.Input((4, 4, 6))
    model = keras.Model(inputs, ShiftedOrthogonal()(inputs))
    model.save(tmp_path / "m.keras")
    x = rng.normal(size=(2, 4, 4, 6)).astype("float32")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
