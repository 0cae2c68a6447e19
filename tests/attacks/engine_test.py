"""The engine of the attacks: precision, logits, inference mode and checks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf import attacks
from inres_tf.attacks import AttackError, _fab, _pgd, apgd, engine
from inres_tf.distribution import classifier
from inres_tf.models import damping, precision


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(37))


@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd", "mim", "apgd_ce"])
def test_worst_case_of_a_linear_model_is_reached(name, dense):
    """For logits w·x the worst perturbation is -eps sign(w_y - w_other)."""
    # Small, since the cross-entropy of saturated logits has no gradient in float32.
    w = np.array([[1.0, -1.0], [-2.0, 0.5], [0.3, 0.1], [-0.2, 0.4]]) / 100
    model = dense((2, 2, 1), (w, [0.0, 0.0]))
    images = np.full((2, 2, 2, 1), 128, np.uint8)
    labels = np.array([0, 1])
    adversarial = getattr(attacks, name)(model, images, labels, 5.0)
    signs = np.sign(w[:, 0] - w[:, 1]).reshape(2, 2, 1)
    expected = np.stack([128 - 5 * signs, 128 + 5 * signs])
    np.testing.assert_allclose(adversarial, expected, atol=1e-4)


def test_attacks_are_the_same_for_softmax_and_logits(trained, few):
    logits_model = zoo.InResNet8(input_shape=(8, 8, 1), classifier_activation=None)
    logits_model.set_weights(trained.get_weights())
    np.testing.assert_array_equal(
        attacks.fgsm(logits_model, few.images, few.labels, 8),
        attacks.fgsm(trained, few.images, few.labels, 8),
    )


def test_low_precision_models_are_attacked_in_float32(trained, few):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = zoo.InResNet8(input_shape=(8, 8, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(trained.get_weights())
    assert half.get_layer("stem_conv").compute_dtype == "float16"
    np.testing.assert_array_equal(
        attacks.fgsm(half, few.images, few.labels, 8),
        attacks.fgsm(trained, few.images, few.labels, 8),
    )


def test_nested_low_precision_models_are_attacked_in_float32():
    backbone = zoo.InResNet8(input_shape=(8, 8, 1), include_top=False, pooling="avg")
    inputs = keras.Input((8, 8, 1))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = type(backbone).from_config(
            damping._with_policy(backbone.get_config(), "mixed_bfloat16")
        )
        model = keras.Model(inputs, keras.layers.Dense(3)(backbone(inputs)))
        copy = precision.in_float32(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.layers[1].get_layer("stem_conv").compute_dtype == "bfloat16"
    assert copy.layers[1].get_layer("stem_conv").compute_dtype == "float32"
    assert precision.in_float32(copy) is copy
    for a, b in zip(model.get_weights(), copy.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_low_precision_models_are_compiled_once(few):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten(dtype="mixed_bfloat16")(inputs)
    half = keras.Model(inputs, keras.layers.Dense(10, dtype="mixed_bfloat16")(x))
    attacks.pgd(half, few.images, few.labels, 8, steps=2, early_stop=True)
    before = engine._compile.cache_info().misses
    for _ in range(2):
        attacks.pgd(half, few.images, few.labels, 8, steps=2, early_stop=True)
    assert engine._compile.cache_info().misses == before


def test_integer_inputs_are_attacked_through_floats(trained, few):
    """An input layer of integers cuts the gradients and truncates the examples."""
    pixels = keras.Input((8, 8, 1), dtype="uint8")
    model = keras.models.clone_model(trained, input_tensors=pixels)
    model.set_weights(trained.get_weights())
    assert model.input.dtype == "uint8"
    expected = attacks.pgd(trained, few.images, few.labels, 16, steps=4)
    found = attacks.pgd(model, few.images, few.labels, 16, steps=4)
    np.testing.assert_array_equal(found, expected)
    logits = [
        classifier.compiled_classifier(one, 16).logits(found)
        for one in (model, trained)
    ]
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5)


def test_batch_norm_is_in_inference_mode(trained, few):
    """In training mode, an example would depend on the others in its batch."""
    together = attacks.fgsm(trained, few.images, few.labels, 8, batch_size=37)
    alone = attacks.fgsm(trained, few.images, few.labels, 8, batch_size=1)
    assert (together == alone).mean() > 0.99


def test_examples_outside_their_ball_are_errors():
    clean = np.full((1, 2, 2, 1), 250.0, np.float32)
    attacks.check(clean + 4, clean, 4)
    with pytest.raises(AttackError, match=r"lies 4.25/255 .* radius 4/255"):
        attacks.check(clean + 4.25, clean, 4)
    with pytest.raises(AttackError, match=r"outside the pixel range"):
        attacks.check(clean + 6, clean, 8)
    with pytest.raises(AttackError, match="non-finite"):
        attacks.check(clean * np.nan, clean, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -1}, r"`eps` must be in \(0, 255\]. Received: eps=-1"),
        ({"eps": float("nan")}, "Received: eps=nan"),
        ({"labels": np.full((3, 10), 0.1)}, "must be one-hot"),
        ({"labels": [0, 1, -1]}, "Received -1 for image 2"),
        ({"labels": [0, 1, 10]}, "there are 10 classes"),
        ({"labels": np.zeros(2, int)}, "for 3 images"),
        ({"images": np.full((3, 8, 8, 1), 300.0)}, "values from 300 to 300"),
        ({"steps": 0}, "`steps` must be from 1"),
        ({"step_size": -1}, "`step_size` must be positive"),
        ({"center": "mean"}, "'image' or 'start'. Received: center='mean'"),
    ],
)
def test_invalid_arguments(trained, change, message):
    arguments = {
        "images": np.zeros((3, 8, 8, 1), np.uint8),
        "labels": np.zeros(3, int),
        "eps": 8,
    } | change
    with pytest.raises(ValueError, match=message):
        attacks.pgd(trained, **arguments)


@pytest.mark.parametrize("attack", ["pgd", "autoattack", "cleverhans_fgsm"])
def test_labels_may_be_columns_one_hot_or_floats(attack, dense, rng):
    model = dense((2, 2, 1), (rng.normal(size=(4, 3)), np.zeros(3)))
    images, labels = rng.integers(0, 256, (4, 2, 2, 1)), np.array([2, 0, 1, 0])
    settings = {"autoattack": {"version": "custom", "members": ["apgd_ce"]}}

    def run(labels):
        function = getattr(attacks, attack)
        return function(model, images, labels, 8, **settings.get(attack, {}))

    expected = run(labels)
    for form in (labels[:, None], np.eye(3)[labels], labels.astype(float)):
        np.testing.assert_array_equal(run(form), expected)
    for wrong in ([2, 0, 1, -1], [2, 0, 1, 3]):
        with pytest.raises(ValueError, match="Received -?[13] for image 3"):
            run(wrong)


def test_every_result_is_checked(monkeypatch, trained, few):
    """Each batch of every run, with the radius and norm of the attack."""
    calls = []
    monkeypatch.setattr(
        attacks.engine,
        "check",
        lambda adversarial, images, *ball: calls.append((len(adversarial), *ball)),
    )
    settings = {"steps": 1, "batch_size": 20}
    attacks.pgd(trained, few.images, few.labels, 8.0, restarts=2, **settings)
    assert calls == [(20, 8, np.inf), (17, 8, np.inf)] * 2
    calls.clear()
    settings |= {"norm": "l2", "center": "start"}
    attacks.pgd(trained, few.images, few.labels, 8.0, **settings)
    assert calls == [(20, 16, 2), (17, 16, 2)]


def test_every_attack_and_target_starts_at_a_point_of_its_own():
    images, labels = np.full((2, 4, 4, 1), 128, np.float32), np.zeros(2, np.int64)
    state = {
        "clean": tf.constant(images),
        "adversarial": tf.constant(images),
        "labels": tf.constant(labels),
        "ids": tf.range(2, dtype=tf.int64),
        "misclassified": tf.zeros(2, bool),
        "score": tf.zeros(2),
    }

    def model_fn(images):
        flat = tf.reshape(images, (-1, 16))
        return flat[:, :5] / 255

    starts = []
    for attack in (
        apgd.AutoPGD(loss="ce"),
        apgd.AutoPGD(loss="dlr"),
        apgd.AutoPGD(loss="dlr_targeted"),
        _fab.FAB(),
        _pgd.GradientAscent(random=True),
    ):
        for rank in (0, 1, 2):
            for restart in (1, 2):
                seed = tf.constant(3, tf.int64)
                params = engine.RunParams(8.0, 1.0, seed, restart, rank, 0, 1)
                found = attack.initialize(model_fn, state, params)["images"].numpy()
                assert not np.array_equal(found[0], found[1])
                starts.append(np.sign(found - images).tobytes())
    # PGD has no targets.
    assert len(set(starts)) == 4 * 3 * 2 + 2
