import numpy as np
import tensorflow as tf

from inres_tf import analysis


def test_rows_converge_independently():
    """The Jacobian of x² / 2 is diag(x), where a small spectral gap is slow."""
    points = tf.constant([[3.0, 0.1, 0.1], [3.0, 2.9, 2.8], [1.0, 0.5, 0.2]])

    def largest(rows):
        return analysis.largest_singular_value(lambda x: x**2 / 2, rows, 500, 1e-5)

    together = largest(points).numpy()
    alone = np.concatenate([largest(points[i : i + 1]) for i in range(3)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(together[:, 0], [3, 3, 1], rtol=1e-3)
    assert together[1, 1] > 2 * together[0, 1] and (together[:, 2] == 1).all()


def test_a_constant_function_has_the_value_zero():
    result = analysis.largest_singular_value(tf.zeros_like, tf.ones((2, 3)), 5, 1e-3)
    np.testing.assert_array_equal(result, [[0, 1, 1]] * 2)
