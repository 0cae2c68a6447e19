import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from inres_tf import analysis
from inres_tf.analysis import Chain, compiled
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.strategy import make_strategy
from inres_tf.layers import damping_rates


def test_constants_of_softmax_regression_match_its_matrix(
    linear_model, random_data, flat
):
    model, matrix = linear_model()
    images, labels = random_data
    result = analysis.lipschitz(model, images, labels, iterations=2000, tolerance=1e-8)
    np.testing.assert_allclose(result.network, np.linalg.norm(matrix, 2), rtol=1e-4)
    scores = flat(images) @ matrix
    scores[np.arange(5), labels] = -np.inf
    gradients = matrix[:, scores.argmax(1)] - matrix[:, labels]
    margin = np.linalg.norm(gradients, axis=0)
    np.testing.assert_allclose(result.margin, margin, rtol=1e-5)
    assert result.blocks.shape == (5, 0) and result.names == ()


def test_constants_of_linear_blocks_match_their_matrices(linear_blocks, random_data):
    linear = linear_blocks()
    result = analysis.lipschitz(
        linear.model, *random_data, iterations=500, tolerance=1e-7
    )
    blocks = linear.blocks(damping_rates(linear.model)["damped"])
    expected = [np.linalg.norm(block, 2) for block in blocks]
    np.testing.assert_allclose(result.blocks, [expected] * 5, rtol=1e-3)
    np.testing.assert_allclose(result.product, np.prod(expected), rtol=2e-3)


def test_constants_of_a_network_match_its_jacobians(trained, digits, flat):
    """Through fused batch normalisation, ReLU, strides and pooling."""

    def outputs_and_jacobian(function, points):
        """Outputs (n, m) of a function, and its Jacobians (n, m, d)."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(points)
            outputs = tf.reshape(function(points), [len(points), -1])
            columns = tf.unstack(outputs, axis=1)
        rows = [flat(tape.gradient(column, points)) for column in columns]
        return outputs.numpy(), np.stack(rows, axis=1)

    images, labels = digits.test.images[:2], digits.test.labels[:2]
    result = analysis.lipschitz(trained, images, labels, iterations=100, tolerance=0)
    pixels = tf.constant(images, tf.float32)
    scores, jacobians = outputs_and_jacobian(compiled.logits_fn(trained), pixels)
    expected = [np.linalg.norm(jacobian, 2) for jacobian in jacobians]
    np.testing.assert_allclose(result.network, expected, rtol=1e-3)
    for i, label in enumerate(labels):
        others = np.delete(np.arange(10), label)
        runner_up = others[scores[i, others].argmax()]
        norm = np.linalg.norm(jacobians[i, runner_up] - jacobians[i, label])
        assert result.margin[i] == pytest.approx(norm, rel=1e-4)
    chain = Chain(trained)
    block, (x, _) = chain.blocks[-1], chain.states(pixels)[-1]
    _, jacobians = outputs_and_jacobian(block, x)
    expected = [np.linalg.norm(jacobian, 2) for jacobian in jacobians]
    np.testing.assert_allclose(result.blocks[:, -1], expected, rtol=1e-3)


def test_power_iteration_grows_to_its_limit_and_reports_convergence(
    linear_model, random_data
):
    model, matrix = linear_model()
    values = []
    for iterations in (1, 2, 4, 8):
        result = analysis.lipschitz(
            model, *random_data, iterations=iterations, tolerance=0
        )
        values.append(result.network)
        assert (result.iterations == iterations).all() and not result.converged.any()
    assert (np.diff(values, axis=0) > 0).all()
    assert (values[-1] <= np.linalg.norm(matrix, 2) * (1 + 1e-5)).all()
    result = analysis.lipschitz(model, *random_data, iterations=1000, tolerance=1e-3)
    assert result.converged.all() and (result.iterations < 1000).all()


def test_replicas_share_the_images(damped, few):
    options = {"iterations": 5, "tolerance": 0}
    alone = analysis.lipschitz(damped, *few, **options)
    with make_strategy(StrategyConfig(strategy="mirrored")).scope():
        model = keras.models.clone_model(damped)
        model.set_weights(damped.get_weights())
        shared = analysis.lipschitz(model, *few, **options)
    for name in ("network", "margin", "blocks"):
        np.testing.assert_allclose(
            getattr(shared, name), getattr(alone, name), rtol=1e-3
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"iterations": 0}, "iterations"), ({"tolerance": -1}, "tolerance")],
)
def test_settings_out_of_range_are_rejected(damped, few, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.lipschitz(damped, *few, **options)


def test_models_without_logits_are_rejected(few):
    shape = few[0].shape[1:]
    model = keras.Sequential(
        [keras.Input(shape), layers.Flatten(), layers.Dense(10, "sigmoid")]
    )
    with pytest.raises(ValueError, match="logits of"):
        analysis.lipschitz(model, *few)
