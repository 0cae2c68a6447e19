"""Bounds of operator norms against dense matrices, in float64."""

import numpy as np
import pytest
import tensorflow as tf

from inres_tf.layers import operator_norms


def dense_matrix(kernel, size, strides, padding):
    """The convolution's matrix, by its values on all unit images."""
    height, width = size
    channels = kernel.shape[2]
    units = np.eye(height * width * channels).reshape(-1, height, width, channels)
    outputs = tf.nn.conv2d(units, kernel, strides, padding).numpy()
    return outputs.reshape(len(units), -1).T


def exact_norm(*arguments):
    return np.linalg.norm(dense_matrix(*arguments), 2)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 8), (9, 7)])
@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_the_bound_is_never_below_the_norm(size, taps, strides):
    rng = np.random.default_rng(size[0] * 100 + taps * 10 + strides)
    for channels, filters in ((1, 1), (3, 2), (2, 5)):
        kernel = rng.normal(size=(taps, taps, channels, filters))
        bound = operator_norms.conv_norm_bound(kernel, size, strides)
        reach = taps // 2
        pads = [[0, 0], [reach, reach], [reach, reach], [0, 0]]
        for padding in ("SAME", "VALID", pads):
            if padding == "VALID" and min(size) < taps:
                continue
            exact = exact_norm(kernel, size, strides, padding)
            assert bound >= exact * (1 - 1e-12), (channels, filters, padding)


@pytest.mark.parametrize("strides", [1, 2])
def test_the_bound_of_3x3_kernels_is_tight(strides):
    rng = np.random.default_rng(0)
    for _ in range(10):
        kernel = rng.normal(size=(3, 3, 4, 4))
        exact = exact_norm(kernel, (16, 16), strides, "SAME")
        bound = operator_norms.conv_norm_bound(kernel, (16, 16), strides)
        assert exact <= bound <= 1.05 * exact


def test_the_circular_norm_on_the_grid_of_the_image_is_no_bound():
    """Why the grid must be larger than the image: a smooth kernel on a small one."""
    worst = 0.0
    rng = np.random.default_rng(0)
    for _ in range(200):
        kernel = rng.normal(size=(5, 5, 1, 1))
        symbol = np.fft.fft2(kernel, s=(6, 6), axes=(0, 1))
        circular = np.abs(symbol).max()
        exact = exact_norm(kernel, (6, 6), 1, "SAME")
        worst = max(worst, exact / circular)
        assert operator_norms.conv_norm_bound(kernel, (6, 6)) >= exact * (1 - 1e-12)
    assert worst > 1.001


def test_wide_layers_are_bounded_by_gram_iteration(monkeypatch):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 12, 12))
    exact = operator_norms.conv_norm_bound(kernel, (8, 8))
    monkeypatch.setattr(operator_norms, "_EXACT_CHANNELS", 4)
    bound = operator_norms.conv_norm_bound(kernel, (8, 8))
    assert exact * (1 - 1e-12) <= bound <= 1.02 * exact


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (7, 4)])
def test_gram_iteration_bounds_from_above(shape):
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(20, *shape)) + 1j * rng.normal(size=(20, *shape))
    exact = np.linalg.norm(matrices, 2, axis=(1, 2))
    bounds = [operator_norms.gram_bound(matrices, t) for t in (0, 1, 3, 8)]
    for iterations, bound in zip((0, 1, 3, 8), bounds):
        assert (bound >= exact * (1 - 1e-12)).all()
        rank = min(shape)
        assert (bound <= exact * rank ** (1 / 2 ** (iterations + 2)) * 1.001).all()
    assert operator_norms.gram_bound(np.zeros((1, 2, 2))) == 0
    huge = operator_norms.gram_bound(1e150 * np.eye(2)[None])
    np.testing.assert_allclose(huge, 1e150, rtol=0.01)


def test_a_matrix_has_its_spectral_norm():
    matrix = np.random.default_rng(0).normal(size=(6, 3))
    exact = np.linalg.norm(matrix, 2)
    bound = operator_norms.dense_norm_bound(matrix)
    assert exact <= bound <= exact * (1 + 1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: operator_norms.dense_norm_bound([1.0]), "must be a finite matrix"),
        (lambda: operator_norms.dense_norm_bound([[np.nan]]), "must be a finite"),
        (
            lambda: operator_norms.conv_norm_bound(np.ones((3, 3)), (4, 4)),
            r"must be finite, \(height, .* Received: kernel of shape \(3, 3\)",
        ),
        (
            lambda: operator_norms.conv_norm_bound(np.ones((3, 3, 1, 1)), (4, 0)),
            "must be a positive height and width",
        ),
        (
            lambda: operator_norms.conv_norm_bound(np.ones((3, 3, 1, 1)), (4, 4), 0),
            "`strides` positive",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
