"""Functions of images on several devices: every row once, in order."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf import attacks, evaluation, protocols, strategies
from inres_tf.sharding import compile_rows


@pytest.fixture(scope="module")
def mirrored():
    strategy = strategies.make(strategies.StrategyConfig(strategy="mirrored"))
    assert strategy.num_replicas_in_sync == 2
    return strategy


def test_rows_come_back_in_order_from_one_trace(mirrored):
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
        rows = compile_rows(function, signature)
    rng = np.random.default_rng(0)
    for number in (8, 7, 1, 2, 8):
        images = rng.normal(size=(number, 3)).astype(np.float32)
        labels = np.arange(number)
        expected = 2 * images.sum(-1) + labels
        np.testing.assert_allclose(rows(images, labels, 2.0), expected, rtol=1e-5)
    assert traces == [(4, 3)] * mirrored.num_replicas_in_sync


@pytest.fixture(scope="module")
def copy(mirrored, trained):
    """The trained network on both devices."""
    with mirrored.scope():
        model = zoo.InResNet8(input_shape=(8, 8, 1))
    model.set_weights(trained.get_weights())
    return model


# Of each attack: its radius, and settings that make it short.
SHORT = {
    "fgsm": (8, {}),
    "ifgsm": (8, {"steps": 4}),
    "pgd": (8, {"steps": 2, "restarts": 2}),
    "mim": (8, {"steps": 4}),
    "cw_l2": (2000, {"steps": 8, "searches": 2, "learning_rate": 0.3}),
    "spsa": (8, {"steps": 2, "samples": 3}),
    "apgd_ce": (8, {"steps": 6}),
    "apgd_dlr": (8, {"steps": 4, "targets": 2}),
    "fab": (250, {"steps": 3, "targets": 1}),
    "square": (8, {"queries": 12}),
    "autoattack": (8, {"version": "custom", "members": ("square",), "queries": 5}),
}


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_attacks_find_on_two_devices_what_they_find_on_one(
    name, mirrored, copy, trained, digits
):
    part = digits.test.take(slice(13))
    eps, settings = SHORT[name]
    attack, settings = attacks.ATTACKS[name].function, settings | {"batch_size": 5}
    expected = attack(trained, part.images, part.labels, eps, **settings)
    with mirrored.scope():
        found = attack(copy, part.images, part.labels, eps, **settings)
    assert (expected != part.images).mean() > 0.5
    # Where a gradient is zero to rounding, its sign may differ.
    assert (np.abs(found - expected) < 1e-3).mean() > 0.99


def test_evaluation_on_two_devices_is_that_on_one(mirrored, copy, trained, digits):
    settings = protocols.EvaluationConfig(
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
    expected = evaluation.evaluate(trained, digits.test, settings, progress=False)
    with mirrored.scope():
        found = evaluation.evaluate(copy, digits.test, settings, progress=False)
    # What the checks measure differs in its last bits, and not in what they find.
    for result in (expected, found):
        result["checks"] = [(c["name"], c["raised"]) for c in result["checks"]]
        result["samples"] = [s["index"] for s in result["samples"]]
    assert found == expected


def test_a_copy_in_float32_is_made_on_all_devices(mirrored, digits):
    with mirrored.scope():
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = zoo.InResNet8(input_shape=(8, 8, 1))
        finally:
            keras.config.set_dtype_policy(policy)
        part = digits.test.take(slice(4))
        found = attacks.fgsm(model, part.images, part.labels, 8)
    assert np.abs(found - part.images).max() == pytest.approx(8, abs=1e-3)
