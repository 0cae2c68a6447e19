import keras
import numpy as np
import pytest
import scipy.special
from keras import layers

from inres_tf import analysis, attacks
from inres_tf.analysis import compiled
from inres_tf.analysis._landscape import directions


def test_landscape_of_softmax_regression_is_its_closed_form(
    linear_model, random_data, flat
):
    model, matrix = linear_model()
    images, labels = random_data
    result = analysis.landscape(model, images, labels, 8, grid=5, seed=3)
    np.testing.assert_array_equal(result.steps, [-8, -4, 0, 4, 8])
    probabilities = scipy.special.softmax(flat(images) @ matrix, axis=1)
    gradient = (probabilities - np.eye(4)[labels]) @ matrix.T
    u, v = (flat(x) for x in directions(model, images, labels, 8, "sign", seed=3))
    np.testing.assert_array_equal(u, np.sign(gradient))
    assert set(np.unique(v)) == {-1, 1}
    for i, s in enumerate(result.steps):
        for j, t in enumerate(result.steps):
            scores = (flat(images) + s * u + t * v) @ matrix
            loss = -scipy.special.log_softmax(scores, axis=1)[np.arange(5), labels]
            np.testing.assert_allclose(result.loss[:, i, j], loss, 1e-4, 1e-6)
            correct = scores.argmax(1) == labels
            np.testing.assert_array_equal(result.correct[:, i, j], correct)
            assert result.mean_loss[i, j] == pytest.approx(loss.mean(), rel=1e-4)
            assert result.accuracy[i, j] == correct.mean()


def test_gradient_direction_and_random_one_are_orthogonal_unit_vectors(
    linear_model, random_data, flat
):
    model, matrix = linear_model()
    images, labels = random_data
    u, v = (flat(x) for x in directions(model, images, labels, 8, "gradient"))
    probabilities = scipy.special.softmax(flat(images) @ matrix, axis=1)
    gradient = (probabilities - np.eye(4)[labels]) @ matrix.T
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(u, gradient, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose((u * v).sum(1), 0, atol=1e-6)


def test_pgd_direction_ends_at_the_adversarial_examples(trained, digits, flat):
    images, labels = digits.test.images[:9], digits.test.labels[:9]
    result = analysis.landscape(
        trained, images, labels, 32, grid=3, direction="pgd", steps=5, seed=1
    )
    adversarial = attacks.pgd(
        trained, images, labels, 32, steps=5, step_size=16, seed=1
    )
    loss, correct = compiled.losses(trained, adversarial, labels)
    np.testing.assert_allclose(result.loss[:, -1, 1], loss, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(result.correct[:, -1, 1], correct)
    assert result.mean_loss[-1, 1] > result.mean_loss[1, 1]
    u, v = (flat(x) for x in directions(trained, images, labels, 32, "pgd", 5, 1))
    np.testing.assert_allclose((u * v).sum(1), 0, atol=1e-4)
    norms = [np.linalg.norm(x, axis=1) for x in (u, v)]
    np.testing.assert_allclose(*norms, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 4, "grid": 4}, "odd"),
        ({"eps": 4, "grid": 1}, "grid"),
        ({"eps": 0}, "eps"),
        ({"eps": 4, "direction": "up"}, "'sign', 'gradient'"),
    ],
)
def test_invalid_settings_are_rejected(damped, few, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.landscape(damped, *few, **options)


def test_models_without_logits_are_rejected(few):
    shape = few[0].shape[1:]
    model = keras.Sequential(
        [keras.Input(shape), layers.Flatten(), layers.Dense(10, "sigmoid")]
    )
    with pytest.raises(ValueError, match="logits of"):
        analysis.landscape(model, *few, 1)
