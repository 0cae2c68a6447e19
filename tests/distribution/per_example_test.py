import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf import attacks
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.distribution.strategy import make_strategy
from inres_tf.evaluation import evaluator
from inres_tf.evaluation.config import EvaluationConfig


@pytest.fixture(scope="module")
def mirrored():
    strategy = make_strategy(StrategyConfig(strategy="mirrored"))
    assert strategy.num_replicas_in_sync == 2
    return strategy


def test_rows_are_returned_in_order_with_one_trace(mirrored):
    traces = []

    def function(images, labels, factor):
        traces.append(images.shape)
        return factor * tf.reduce_sum(images, -1) + tf.cast(labels, tf.float32)

    signature = [
        tf.TensorSpec((None, 3)),
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec(()),
    ]
    with mirrored.scope():
        compiled = compile_per_example(function, signature)
    rng = np.random.default_rng(0)
    for number in (8, 7, 1, 2, 8):
        images = rng.normal(size=(number, 3)).astype(np.float32)
        labels = np.arange(number)
        expected = 2 * images.sum(-1) + labels
        np.testing.assert_allclose(compiled(images, labels, 2.0), expected, rtol=1e-5)
    assert traces == [(4, 3)] * mirrored.num_replicas_in_sync


def test_tuples_of_rows_are_returned_as_tuples(mirrored):
    def function(images, factor):
        sums = tf.reduce_sum(images, -1)
        return images * factor, (sums, tf.cast(sums > 0, tf.int64))

    signature = [tf.TensorSpec((None, 3)), tf.TensorSpec(())]
    single = compile_per_example(function, signature)
    with mirrored.scope():
        distributed = compile_per_example(function, signature)
    rng = np.random.default_rng(0)
    for number in (5, 1, 0, 8, 0, 3):
        images = rng.normal(size=(number, 3)).astype(np.float32)
        for compiled in (single, distributed):
            scaled, (sums, positive) = compiled(images, 3.0)
            assert positive.dtype == np.int64
            np.testing.assert_array_equal(scaled, images * np.float32(3))
            np.testing.assert_allclose(sums, images.sum(-1), atol=1e-6)
            np.testing.assert_array_equal(positive, sums > 0)


@pytest.fixture(scope="module")
def copy(mirrored, trained):
    """The trained network on both devices."""
    with mirrored.scope():
        model = zoo.InResNet8(input_shape=(8, 8, 1))
    model.set_weights(trained.get_weights())
    return model


# Attacks that draw random numbers in different ways, and one that runs others.
ATTACKS = {
    "pgd": {"steps": 3, "step_size": 4.0, "restarts": 2},
    "spsa": {"steps": 2, "samples": 4},
    "square": {"queries": 20, "norm": "l2", "eps": 100},
    "autoattack": {
        "version": "custom",
        "members": ("apgd_ce", "square"),
        "steps": 2,
        "queries": 5,
    },
}


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_two_devices_equal_those_on_one(
    name, early_stop, mirrored, copy, trained, digits
):
    data = digits.test.take(slice(13))
    settings = {"eps": 16, "batch_size": 5, "early_stop": early_stop} | ATTACKS[name]
    attack = getattr(attacks, name)
    expected = attack(trained, data.images, data.labels, **settings)
    with mirrored.scope():
        adversarial = attack(copy, data.images, data.labels, **settings)
    assert (expected != data.images).mean() > 0.3
    # Gradients that are zero up to rounding may differ in sign.
    assert (np.abs(adversarial - expected) < 1e-2).mean() > 0.99


def test_attacks_on_two_devices_accept_misclassified_images_only(
    mirrored, copy, digits
):
    data = digits.test.take(slice(3))
    labels = (data.labels + 1) % 10  # all images are misclassified
    settings = ATTACKS["autoattack"]
    with mirrored.scope():
        adversarial = attacks.autoattack(copy, data.images, labels, 1, **settings)
    np.testing.assert_array_equal(adversarial, data.images)


def test_evaluation_on_two_devices_equals_that_on_one(mirrored, copy, trained, digits):
    settings = EvaluationConfig(
        attacks=("pgd", "autoattack"),
        eps=(16.0,),
        steps=3,
        autoattack=("apgd_ce", "square"),
        apgd_steps=5,
        queries=20,
        corruptions=("shot_noise", "contrast"),
        num_examples=33,
        check_examples=9,
        batch_size=7,
    )
    expected = evaluator.evaluate(trained, digits.test, settings, progress=False)
    with mirrored.scope():
        result = evaluator.evaluate(copy, digits.test, settings, progress=False)
    # The values of checks and samples may differ in their last bits.
    for each in (expected, result):
        each["checks"] = [(c["name"], c["raised"]) for c in each["checks"]]
        each["samples"] = [s["index"] for s in each["samples"]]
    assert result == expected


def test_half_precision_models_are_copied_to_float32_on_all_devices(mirrored, digits):
    with mirrored.scope():
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = zoo.InResNet8(input_shape=(8, 8, 1))
        finally:
            keras.config.set_dtype_policy(policy)
        data = digits.test.take(slice(4))
        adversarial = attacks.fgsm(model, data.images, data.labels, 8)
    assert np.abs(adversarial - data.images).max() == pytest.approx(8, abs=1e-3)
