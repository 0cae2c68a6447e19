"""Changes of resolution and width: values, distances, errors."""

import keras
import numpy as np
import pytest

from inres_tf.layers import ResizeChannels, SpaceToDepth


def test_cells_are_ordered_by_row_column_and_channel():
    images = np.arange(2 * 4 * 6 * 3, dtype="float32").reshape(2, 4, 6, 3)
    cells = np.asarray(SpaceToDepth(2)(images))
    assert cells.shape == (2, 2, 3, 12)
    for row in range(2):
        for column in range(2):
            cell = images[:, 2:4][:, :, 2:4][:, row, column]
            first = 3 * (2 * row + column)
            np.testing.assert_array_equal(cells[:, 1, 1, first : first + 3], cell)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_space_to_depth_keeps_distances(size, rng):
    x, y = rng.normal(size=(2, 1, 5, 7, 2)).astype("float32")
    layer = SpaceToDepth(size)
    assert layer(x).shape == layer.compute_output_shape(x.shape)
    before, after = np.linalg.norm(x - y), np.linalg.norm(layer(x) - layer(y))
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert layer.lipschitz_bound() == 1


def test_channels_are_appended_or_cut(rng):
    x = rng.normal(size=(2, 3, 3, 4)).astype("float32")
    wide, narrow = np.asarray(ResizeChannels(6)(x)), ResizeChannels(3)(x)
    np.testing.assert_array_equal(wide[..., :4], x)
    assert not wide[..., 4:].any() and wide.shape[-1] == 6
    np.testing.assert_array_equal(narrow, x[..., :3])
    np.testing.assert_array_equal(ResizeChannels(4)(x), x)
    assert ResizeChannels(6).lipschitz_bound() == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpaceToDepth(0), "`size` must be a positive integer"),
        (lambda: SpaceToDepth(1.5), "`size` must be a positive integer"),
        (lambda: ResizeChannels(True), "`channels` must be a positive integer"),
        (lambda: SpaceToDepth(2)(keras.Input((None, 4, 1))), "known height, width"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
