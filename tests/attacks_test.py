import keras
import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

import zoo
from inres_tf import attacks
from inres_tf.logits import logits_fn


def linear_model(weights, bias):
    """Two classes on flattened pixels, logits w·x + b."""
    shape = (2, 2, 1)
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.layers[-1].set_weights([np.asarray(weights), np.asarray(bias)])
    return model


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(37))


@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd"])
def test_worst_case_of_a_linear_model_is_reached(name):
    """For logits w·x the worst perturbation is -eps sign(w_y - w_other), known."""
    # Small, since the cross-entropy of saturated logits has no gradient in float32.
    w = np.array([[1.0, -1.0], [-2.0, 0.5], [0.3, 0.1], [-0.2, 0.4]]) / 100
    model = linear_model(w, [0.0, 0.0])
    images = np.full((2, 2, 2, 1), 128, np.uint8)
    labels = np.array([0, 1])
    found = getattr(attacks, name)(model, images, labels, 5.0)
    difference = np.sign(w[:, 0] - w[:, 1]).reshape(2, 2, 1)
    expected = np.stack([128 - 5 * difference, 128 + 5 * difference])
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("eps", [0.5, 8.0])
def test_ifgsm_is_cleverhans_bit_for_bit(trained, few, eps):
    images = few.images.astype(np.float32)
    logits = logits_fn(trained)
    expected = projected_gradient_descent(
        logits,
        tf.constant(images),
        eps,
        eps / 10,
        7,
        np.inf,
        clip_min=0.0,
        clip_max=255.0,
        y=tf.constant(few.labels),
        sanity_checks=False,
    )
    found = attacks.ifgsm(
        trained, few.images, few.labels, eps, steps=7, step_size=eps / 10
    )
    np.testing.assert_array_equal(found, expected)


def official_pgd(model, x, y, eps, start, steps, size):
    """The official script's PGD, on pixels, in NumPy: projected around the start."""
    logits = logits_fn(model)
    center, adversarial = start.copy(), start.copy()
    for _ in range(steps):
        variable = tf.constant(adversarial)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits(variable))
        adversarial = adversarial + size * np.sign(
            tape.gradient(loss, variable).numpy()
        )
        adversarial = np.clip(adversarial, center - eps, center + eps)
        adversarial = np.clip(adversarial, 0, 255)
    return adversarial


def test_paper_pgd_is_the_official_script(trained, few):
    eps = 8.0
    noise = np.random.default_rng(5).uniform(-eps, eps, few.images.shape)
    start = few.images + noise.astype(np.float32)
    expected = official_pgd(trained, few.images, few.labels, eps, start, 20, 1.0)
    found = attacks.pgd(trained, few.images, few.labels, eps, center="start", seed=5)
    # Gradients within rounding of zero may take either sign.
    assert (np.abs(found - expected) < 1e-3).mean() > 0.99
    reach = np.abs(found - few.images).max()
    assert eps + 1 < reach <= 2 * eps + 1e-3


@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd"])
def test_examples_lie_in_the_ball_and_fool_the_network(trained, few, name):
    weights = trained.get_weights()
    attack = getattr(attacks, name)
    clean = trained.predict(few.images, verbose=0).argmax(-1) == few.labels
    accuracy = [clean.mean()]
    for eps in (4.0, 24.0, 64.0):
        options = {} if name == "fgsm" else {"step_size": eps / 8}
        found = attack(trained, few.images, few.labels, eps, **options)
        assert found.shape == few.images.shape and found.dtype == np.float32
        assert np.abs(found - few.images).max() <= eps + 1e-3
        assert 0 <= found.min() and found.max() <= 255
        accuracy.append((trained(found).numpy().argmax(-1) == few.labels).mean())
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] > 0.8 and accuracy[-1] < 0.2
    for a, b in zip(weights, trained.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_iterating_is_stronger_than_one_step(trained, few):
    def loss(images):
        logits = logits_fn(trained)(tf.constant(images, tf.float32))
        return tf.nn.sparse_softmax_cross_entropy_with_logits(few.labels, logits)

    one = attacks.fgsm(trained, few.images, few.labels, 32)
    many = attacks.ifgsm(trained, few.images, few.labels, 32, step_size=4)
    assert np.mean(loss(many)) > np.mean(loss(one)) > np.mean(loss(few.images))


def test_random_start_depends_on_the_seed_and_the_image_alone(trained, few):
    def run(count, **options):
        return attacks.pgd(
            trained, few.images[:count], few.labels[:count], 8, steps=1, **options
        )

    whole = run(37, seed=1, batch_size=37)
    np.testing.assert_allclose(run(37, seed=1, batch_size=5), whole, atol=1e-3)
    np.testing.assert_allclose(run(9, seed=1), whole[:9], atol=1e-3)
    assert np.abs(run(37, seed=2) - whole).max() > 1


def test_softmax_and_logits_models_are_attacked_alike(trained, few):
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
            attacks.precision._with_policy(backbone.get_config(), "mixed_bfloat16")
        )
        model = keras.Model(inputs, keras.layers.Dense(3)(backbone(inputs)))
        copy = attacks.in_float32(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.layers[1].get_layer("stem_conv").compute_dtype == "bfloat16"
    assert copy.layers[1].get_layer("stem_conv").compute_dtype == "float32"
    assert attacks.in_float32(copy) is copy
    for a, b in zip(model.get_weights(), copy.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_batch_norm_is_in_evaluation_mode(trained, few):
    """In training mode an example would depend on its neighbours in the batch."""
    together = attacks.fgsm(trained, few.images, few.labels, 8, batch_size=37)
    alone = attacks.fgsm(trained, few.images, few.labels, 8, batch_size=1)
    assert (together == alone).mean() > 0.99


def test_breaches_are_errors():
    clean = np.full((1, 2, 2, 1), 250.0, np.float32)
    attacks.check(clean + 4, clean, 4)
    with pytest.raises(attacks.AttackError, match=r"lies 4.25/255 .* radius 4/255"):
        attacks.check(clean + 4.25, clean, 4)
    with pytest.raises(attacks.AttackError, match=r"outside the pixel range"):
        attacks.check(clean + 6, clean, 8)
    with pytest.raises(attacks.AttackError, match="not finite"):
        attacks.check(clean * np.nan, clean, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -1}, r"`eps` must be in \(0, 255\]. Received: eps=-1"),
        ({"eps": float("nan")}, "Received: eps=nan"),
        ({"labels": np.eye(10)[:3]}, "not one-hot"),
        ({"labels": np.zeros(2, int)}, "for 3 images"),
        ({"images": np.full((3, 8, 8, 1), 300.0)}, "values from 300 to 300"),
        ({"steps": 0}, "`steps` must be from 1"),
        ({"step_size": -1}, "`step_size` must be positive"),
        ({"center": "mean"}, "'image' or 'start'. Received: center='mean'"),
    ],
)
def test_wrong_arguments(trained, change, message):
    arguments = {
        "images": np.zeros((3, 8, 8, 1), np.uint8),
        "labels": np.zeros(3, int),
        "eps": 8,
    } | change
    with pytest.raises(ValueError, match=message):
        attacks.pgd(trained, **arguments)
