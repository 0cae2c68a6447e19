"""Norms of convolutions and matrices, against dense matrices."""

import numpy as np
import pytest
import tensorflow as tf

from inres_tf.layers import operator_norms
from inres_tf.verifier.operators import Convolution, Matrix, distances, norm_bound

# Size of the image, side of the kernel, channels, filters, stride, padding.
CONVOLUTIONS = [
    ((7, 7), 3, 3, 2, 1, "same"),
    ((7, 5), 3, 2, 5, 1, "same"),
    ((4, 6), 5, 2, 2, 1, "same"),
    ((3, 3), 5, 2, 2, 1, "same"),
    ((5, 4), 1, 3, 4, 1, "same"),
    ((7, 7), 3, 2, 3, 1, "valid"),
    ((7, 5), 3, 3, 2, 2, "same"),
    ((6, 6), 3, 3, 2, 2, "same"),
    ((8, 7), 2, 2, 2, 2, "valid"),
    ((7, 8), 4, 2, 3, 3, "same"),
]


def convolution(size, side, channels, filters, stride, padding, rng):
    kernel = rng.normal(size=(side, side, channels, filters))
    return Convolution(kernel, size, stride, padding == "same")


def dense(operator):
    """The matrix of a convolution."""
    shape = (*operator.size, operator.kernel.shape[2])
    images = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return operator(images).reshape(len(images), -1)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_are_those_of_tensorflow(case, rng):
    operator = convolution(*case, rng)
    images = rng.normal(size=(3, *operator.size, operator.kernel.shape[2]))
    expected = tf.nn.conv2d(images, operator.kernel, case[4], case[5].upper())
    np.testing.assert_allclose(operator(images), expected, atol=1e-12)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_bounds_of_convolutions(case, rng):
    operator = convolution(*case, rng)
    exact = np.linalg.norm(dense(operator), 2)
    assert exact <= operator.norm
    # Where the kernel is not smaller than the image, most of it lies on zeros.
    slack = 2 if case[1] >= min(case[0]) else 1.2
    assert operator.norm <= slack * exact


def test_the_bound_approaches_the_norm_of_large_images(rng):
    kernel = rng.normal(size=(3, 3, 2, 2))
    small, large = (Convolution(kernel, (side, side)) for side in (4, 14))
    exact = [np.linalg.norm(dense(operator), 2) for operator in (small, large)]
    assert large.norm / exact[1] < 1.02 < small.norm / exact[0]


def test_a_constant_image_attains_the_norm_of_a_mean():
    assert Convolution(np.full((3, 3, 1, 1), 1 / 9), (9, 9)).norm == pytest.approx(1)


@pytest.mark.parametrize("side", [2, 4])
def test_images_do_not_reach_around_the_torus(side):
    """On a torus of 2 points a pixel's two neighbours are one, and cancel."""
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, :, 0, 0] = 1, 0, -1
    for operator in (
        Convolution(kernel, (side, side)),
        Convolution(kernel.swapaxes(0, 1), (side, side)),
    ):
        exact = np.linalg.norm(dense(operator), 2)
        assert exact == pytest.approx(2 * np.cos(np.pi / (side + 1)))
        assert exact <= operator.norm <= 2 + 1e-6
    # With a stride of 2, it reads the pixel and the zeros after the image.
    strided = Convolution(kernel[1:2], (1, 2), 2)
    assert np.linalg.norm(dense(strided), 2) == 1 <= strided.norm


@pytest.mark.parametrize("case", [case for case in CONVOLUTIONS if case[1] % 2][:5])
def test_transposes(case, rng):
    operator = convolution(*case, rng)
    x = rng.normal(size=(1, *operator.size, operator.kernel.shape[2]))
    y = rng.normal(size=operator(x).shape)
    assert np.vdot(operator(x), y) == pytest.approx(np.vdot(x, operator.transpose(y)))
    matrix = Matrix(rng.normal(size=(4, 3)))
    assert matrix.transpose(np.eye(3)).tolist() == matrix.kernel.T.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (40, 40)])
def test_bounds_of_matrices(shape, rng):
    stack = rng.normal(size=(30, *shape)) + 1j * rng.normal(size=(30, *shape))
    exact = np.linalg.norm(stack, 2, axis=(1, 2)).max()
    assert exact < norm_bound(stack) < exact * (1 + 1e-8)


def test_bounds_of_zeros_and_of_multiples_of_orthogonal_matrices(rng):
    assert norm_bound(np.zeros((2, 3, 3))) == 0
    orthogonal = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    assert 1e-3 < norm_bound([1e-3 * orthogonal]) < 1e-3 * (1 + 1e-8)


def test_a_wrong_eigenvalue_does_not_pass(monkeypatch, rng):
    """The factorisation proves the bound, not the eigenvalue that it starts from."""
    matrix = rng.normal(size=(6, 6))
    exact = np.linalg.norm(matrix, 2)
    too_low = lambda gram: np.array([exact**2 * (1 - 1e-6)])
    monkeypatch.setattr(np.linalg, "eigvalsh", too_low)
    assert exact < norm_bound([matrix]) < exact * (1 + 1e-8)


def test_distances(rng):
    rows = rng.normal(size=(4, 5))
    found = distances(rows)
    assert np.diag(found).tolist() == [0] * 4
    assert found[1, 3] == pytest.approx(np.linalg.norm(rows[1] - rows[3]))


@pytest.mark.parametrize("case", [x for x in CONVOLUTIONS if x[1] % 2], ids=str)
def test_bounds_are_those_of_the_layers(case, rng):
    """Otherwise claims that are sound would be rejected."""
    operator = convolution(*case, rng)
    bound = operator_norms.conv_norm_bound(operator.kernel, case[0], case[4])
    assert operator.norm <= bound * (1 + 1e-6)
