import numpy as np
import scipy.special

from inres_tf import analysis


def test_norms_of_softmax_regression_match_its_matrix(linear_model, random_data, flat):
    model, matrix = linear_model()
    matrix[[2, 5, 7]] = 0  # pixels that no class depends on
    model.layers[-1].set_weights([matrix, np.zeros(4)])
    images, labels = random_data
    result = analysis.gradient_norms(model, images, labels)
    probabilities = scipy.special.softmax(flat(images) @ matrix, axis=1)
    gradient = (probabilities - np.eye(4)[labels]) @ matrix.T
    for name, order in (("l1", 1), ("l2", 2), ("linf", np.inf)):
        expected = np.linalg.norm(gradient, order, axis=1)
        np.testing.assert_allclose(getattr(result, name), expected, 1e-4, 1e-7)
    np.testing.assert_allclose(result.zeros, 3 / 12)


def test_vanishing_gradients_are_counted(linear_model, random_data, flat):
    """At a confidence of exactly 1 the loss has no gradient."""
    model, matrix = linear_model(scale=100.0)
    images, _ = random_data
    labels = (flat(images) @ matrix).argmax(1)
    result = analysis.gradient_norms(model, images, labels)
    np.testing.assert_array_equal(result.zeros, 1)
    np.testing.assert_array_equal(result.l1, 0)
    figure = analysis.figures.gradients(result)
    assert figure.axes[0].get_title() == "exactly 0: 5 of 5"
