"""Certified radii against closed forms, float64 and hard attacks; wrong bounds."""

import json

import jsonschema
import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from inres_tf import layers
from inres_tf.data import Dataset
from inres_tf.errors import UserError
from inres_tf.evaluation import (
    CertificateError,
    EvaluationConfig,
    certificates,
    evaluate,
    evaluate_model,
    lipschitz_certificate,
    results,
    smoothed_certificate,
)
from inres_tf.models import in_float64, lipschitz_bound
from inres_tf.reporting import tables

NUMBER = 150
LIPSCHITZ = EvaluationConfig(
    attacks=(), corruptions=(), certify="lipschitz", check_examples=5, batch_size=75
)


@keras.saving.register_keras_serializable(package="tests")
class Liar(keras.layers.Layer):
    """The identity, with a bound that is too small."""

    def call(self, inputs):
        return inputs

    def lipschitz_bound(self):
        return 0.2


def network(*more):
    blocks = (
        *(layers.LipschitzConv2D(8), layers.MaxMin()),
        layers.ConvexPotentialConv2D(8),
        *more,
        keras.layers.Flatten(),
    )
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            *blocks,
            layers.LipschitzDense(10),
        ]
    )


@pytest.fixture(scope="module")
def certified(digits):
    """A network of certifiable layers, trained for a few steps."""
    keras.utils.set_random_seed(0)
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), lambda y, f: loss(y, 10 * f))
    model.fit(
        digits.train.images, digits.train.labels, batch_size=128, epochs=5, verbose=0
    )
    layers.tighten(model)
    return model


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(NUMBER))


@pytest.fixture(scope="module")
def certificate(certified, few):
    return lipschitz_certificate(certified, few.images, few.labels, batch_size=75)


@pytest.fixture(scope="module")
def liar(certified):
    model = network(Liar())
    model.set_weights(certified.get_weights())
    return model


@pytest.fixture(scope="module")
def result(certified, few):
    return evaluate(certified, few, LIPSCHITZ, progress=False)


def test_radii_of_a_linear_classifier_are_its_distances(dense, rng):
    weights, bias = rng.normal(size=(8, 3)), rng.normal(size=3)
    model = dense((2, 4, 1), (weights, bias))
    images = rng.integers(0, 256, (50, 2, 4, 1))
    weights, bias = (np.float64(np.float32(values)) for values in (weights, bias))
    logits = images.reshape(50, 8) @ weights + bias
    labels = logits.argmax(-1)
    labels[:5] = (labels[:5] + 1) % 3
    found = lipschitz_certificate(model, images, labels)
    column = lipschitz_certificate(model, images, labels[:, None])
    np.testing.assert_array_equal(column.radii, found.radii)
    with pytest.raises(ValueError, match="Received -1 for image 0"):
        lipschitz_certificate(model, images[:1], [-1])
    np.testing.assert_array_equal(found.radii[:5], -1)
    np.testing.assert_array_equal(found.predicted, logits.argmax(-1))
    farthest = 255 * np.sqrt(8)
    for image in range(5, 50):
        others = [j for j in range(3) if j != labels[image]]
        distances = [
            (logits[image, labels[image]] - logits[image, j])
            / np.linalg.norm(weights[:, labels[image]] - weights[:, j])
            for j in others
        ]
        distance = min(*distances, farthest)
        assert found.radii[image] <= distance
        assert found.radii[image] == pytest.approx(distance, rel=1e-3, abs=1e-2)
    # The radius itself counts as certified.
    median = np.median(found.radii)
    assert found.accuracy(median) == (found.radii >= median).mean()


def test_a_class_that_never_wins_allows_any_distance(dense):
    model = dense((1, 1, 1), ([[0.01, 0.01]], [1.0, 0.0]))
    images = np.array([[[[0]]], [[[200]]]])
    assert lipschitz_certificate(model, images, [0, 0]).radii.tolist() == [255, 255]
    assert lipschitz_certificate(model, images, [1, 1]).radii.tolist() == [-1, -1]


def test_margins_below_the_rounding_of_float32_are_not_certified(dense):
    """Logits near 1e6 are multiples of 1/16 in float32."""
    pixel = np.arange(0, 40).reshape(-1, 1, 1, 1)
    model = dense((1, 1, 1), ([[0.01, 0.0]], [1e6, 1e6]))
    found = lipschitz_certificate(model, pixel, np.zeros(40, int))
    exact = pixel.ravel()  # the margin is pixel / 100, its slope 1 / 100
    assert (found.radii <= np.where(exact > 0, exact, -1)).all()


def test_images_with_logits_that_are_not_numbers_have_no_certificate(dense):
    model = dense((1, 1, 1), ([[1.0, -1.0]], [0.0, 0.0]))
    images = np.array([[[[5.0]]], [[[np.nan]]]])
    found = lipschitz_certificate(model, images[:1], [0])
    assert found.radii[0] > 0
    bound = lipschitz_bound(model)
    logits = np.array([[5.0, -5.0], [np.nan, 0.0]])
    radii = certificates._radii(bound, logits, np.zeros(2, int), 0.0)
    assert radii[0] > 0 and radii[1] == -1


def test_radii_are_below_those_in_float64(certified, certificate, few):
    """And the rounding of all images is below what was measured on some of them."""
    pixels = few.images.astype(np.float32)
    exact = np.asarray(in_float64(certified)(pixels))
    rounded = certified.predict(pixels, verbose=0)
    assert 0 < np.abs(exact - rounded).max() < certificate.facts["rounding"] < 1e-3
    gaps = exact[np.arange(NUMBER), few.labels][:, None] - exact
    bound = lipschitz_bound(certified).pairwise[few.labels]
    gaps[np.arange(NUMBER), few.labels] = np.inf
    with np.errstate(divide="ignore"):
        best = (gaps / bound).min(-1)
    correct = best > 0
    assert correct.mean() > 0.8
    assert (certificate.radii[correct] < best[correct]).all()
    assert (best[correct] - certificate.radii[correct]).max() < 0.5
    np.testing.assert_array_equal(certificate.radii[~correct], -1)


def attacked(model, data, radii, steps=60, restarts=3):
    """Whether each image is misclassified somewhere within its own radius.

    Gradient ascent on the largest wrong logit minus the right one.
    """
    images = tf.constant(data.images, tf.float32)
    sizes = tf.constant(radii, tf.float32)[:, None, None, None]
    labels = tf.one_hot(data.labels, 10)

    def project(difference):
        norms = tf.norm(tf.reshape(difference, (len(radii), -1)), axis=1)
        difference *= tf.minimum(1.0, sizes / tf.reshape(norms, sizes.shape))
        return tf.clip_by_value(images + difference, 0.0, 255.0)

    @tf.function
    def ascend(x, scale):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = model(x)
            right = tf.reduce_sum(labels * logits, -1)
            margin = tf.reduce_max(logits - 1e9 * labels, -1) - right
        gradient = tape.gradient(margin, x)
        norms = tf.sqrt(tf.reduce_sum(gradient**2, (1, 2, 3), keepdims=True))
        return project(x + scale * sizes * gradient / (norms + 1e-12) - images), margin

    worst = tf.fill((len(radii),), -np.inf)
    rng = np.random.default_rng(1)
    for _ in range(restarts):
        x = project(tf.constant(rng.normal(size=images.shape) * 100, tf.float32))
        for step in range(steps + 1):
            x, margin = ascend(x, tf.constant(0.5 * 0.93**step))
            worst = tf.maximum(worst, margin)
    return worst.numpy() >= 0


def test_no_certified_image_falls_to_a_hard_attack(certified, certificate, few):
    where = certificate.radii > 0
    assert where.mean() > 0.8
    data, radii = few.take(where), certificate.radii[where]
    assert not attacked(certified, data, 0.999 * radii).any()
    # The attack is not blind: beyond the radii it succeeds.
    assert attacked(certified, data, 8 * radii, restarts=1).mean() > 0.7


def test_the_result_of_an_evaluation(result, certificate, few):
    found = result["certificates"]
    radii = results.unpack_radii(found["image_radii"], NUMBER)
    np.testing.assert_allclose(radii, certificate.radii, rtol=1e-6)
    assert (radii <= certificate.radii).all()
    assert found["method"] == "lipschitz" and found["settings"] == {}
    assert list(found["radii"]) == list(found["attacked"]) == ["36", "72", "108"]
    for row in found["attacks"]:
        radius, text = row["eps"], f"{row['eps']:g}"
        assert (row["name"], row["norm"], row["steps"]) == ("pgd", "l2", 20)
        assert row["step_size"] == pytest.approx(2.5 * radius / 20)
        for kind, accuracy in (
            ("certified", found["radii"][text]),
            ("attacked", found["attacked"][text]),
        ):
            packed = result["correct"][results.certificate_key(kind, radius)]
            assert results.unpack(packed, NUMBER).mean() == pytest.approx(accuracy)
        assert found["radii"][text] == (radii >= radius).mean()
        assert found["radii"][text] <= found["attacked"][text] == row["accuracy"]
    points, accuracies = zip(*found["curve"])
    assert points[0] == 0 and points[-1] == 144 and len(points) == 37
    assert list(accuracies) == sorted(accuracies, reverse=True)
    assert dict(zip(points, accuracies))[36.0] == found["radii"]["36"]
    assert accuracies[0] <= result["clean"]["accuracy"]
    low, high = found["bound"]["pairwise"]
    assert 0 < low <= high <= np.sqrt(2) * found["bound"]["logits"] * (1 + 1e-6)


def test_the_table_of_an_evaluation(result):
    text = tables.evaluation(
        json.loads(json.dumps({"model": "m", "dataset": "digits", **result}))
    )
    found = result["certificates"]
    line = next(line for line in text.splitlines() if line.startswith("| 72/255"))
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    expected = [found[key]["72"] for key in ("radii", "attacked")]
    assert cells == [f"{100 * accuracy:.1f}" for accuracy in expected]
    assert "certified by a Lipschitz constant of" in text and "| under pgd |" in text


def test_nothing_is_certified_by_default(certified, few):
    config = EvaluationConfig(attacks=(), corruptions=(), check_examples=5)
    assert "certificates" not in evaluate(certified, few, config, progress=False)


def test_a_wrong_bound_is_an_error_that_names_the_images(liar, few):
    saved = []
    with pytest.raises(CertificateError) as caught:
        evaluate(liar, few, LIPSCHITZ, progress=False, save=saved.append)
    message = str(caught.value)
    assert message.startswith("pgd at the L2 radius 36/255 fools the model on ")
    assert f"of {NUMBER} images that are certified (indices " in message
    assert "% are certified, and " in message and "under the attack" in message
    # What is kept for another attempt holds no certificate.
    assert "certificates" not in saved[-1]
    assert not any("certified" in key for key in saved[-1]["correct"])


def test_any_attack_of_an_evaluation_can_refute_a_certificate(liar, few):
    """Examples of 64 pixels at the L∞ radius 12 lie within the L2 radius 96."""
    config = EvaluationConfig(
        attacks=("ifgsm",),
        eps=(12.0,),
        step_size=3.0,
        corruptions=(),
        certify="lipschitz",
        certify_radii=(1.0,),
        check_examples=5,
    )
    with pytest.raises(
        CertificateError, match="ifgsm at the L∞ radius 12/255 .* 96.01/"
    ):
        evaluate(liar, few, config, progress=False)


def test_an_interrupted_certification_is_resumed(certified, few, result, monkeypatch):
    saved = []
    evaluate(certified, few, LIPSCHITZ, progress=False, save=saved.append)
    parts = [part for part in saved if "certificates" in part]
    assert [len(p["certificates"].get("attacks", [])) for p in parts] == [0, 1, 2, 3]
    monkeypatch.setattr(certificates, "lipschitz_certificate", None)
    resumed = evaluate(
        certified, few, LIPSCHITZ, progress=False, done=json.loads(json.dumps(parts[2]))
    )
    assert resumed["certificates"] == result["certificates"]
    assert resumed["correct"] == result["correct"]


def test_models_that_cannot_be_certified_are_refused_before_anything_runs(digits):
    flow = layers.NeuralODE(layers.ConvDynamics(), "dopri5", name="flow")
    model = network(flow)
    dataset = Dataset("digits", digits.train, digits.test, digits.class_names)
    saved = []
    with pytest.raises(UserError, match="layer 'flow': dopri5 adapts its step size"):
        evaluate_model(model, dataset, LIPSCHITZ, progress=False, save=saved.append)
    assert not saved
    config = EvaluationConfig(
        attacks=(), corruptions=(), certify="lipschitz", certify_attack="autoattack"
    )
    three = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    with pytest.raises(UserError, match="autoattack needs at least 4 classes"):
        evaluate(three, digits.test.take(digits.test.labels < 3), config)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_lower_bounds_are_those_of_clopper_and_pearson(alpha):
    successes = np.array([0, 1, 37, 99, 100])
    expected = [
        scipy.stats.binomtest(k, 100, alternative="greater")
        .proportion_ci(1 - alpha, "exact")
        .low
        for k in successes.tolist()
    ]
    found = certificates.clopper_pearson(successes, 100, alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert found[-1] == pytest.approx(alpha**0.01)


@pytest.fixture
def halves(dense):
    """Two classes that a hyperplane divides, and images at known distances from it."""
    direction = np.array([1.0, -2.0, 2.0, 0.0]) / 3
    model = dense((2, 2, 1), (direction[:, None] * [1, -1], [-30.0, 30.0]))
    distances = np.array([-60.0, 0.0, 15.0, 30.0, 60.0, 1000.0])
    images = (30 + distances)[:, None] * direction
    return model, images.reshape(-1, 2, 2, 1), distances


def test_smoothing_a_linear_classifier_certifies_its_distances(halves):
    """The noise crosses the hyperplane with the probability Φ(-distance / σ)."""
    model, images, distances = halves
    sigma, samples, alpha = 30.0, 20000, 0.001
    labels = np.zeros(len(images), int)
    settings = {"samples": samples, "alpha": alpha, "batch_size": 5000}
    found = smoothed_certificate(model, images, labels[:, None], sigma, **settings)
    np.testing.assert_array_equal(found.predicted[2:], 0)
    assert found.radii[0] == -1 and found.predicted[0] == 1
    np.testing.assert_allclose(found.radii[2:5], distances[2:5], rtol=0.1)
    # Each is too large with the probability alpha.
    assert (found.radii[2:5] <= distances[2:5]).all()
    most = sigma * scipy.stats.norm.ppf(alpha ** (1 / samples))
    assert found.radii[5] == pytest.approx(most)


def test_smoothing_abstains_where_no_class_is_frequent_enough(halves):
    model, images, _ = halves
    found = smoothed_certificate(model, images, np.zeros(6, int), 30.0, samples=200)
    assert found.predicted[1] == -1 and found.radii[1] == -1
    assert found.facts["abstained"] >= 1 / 6
    one = smoothed_certificate(model, images, np.zeros(6, int), 30.0, samples=1)
    # One sample bounds the probability by alpha at most.
    assert one.facts["abstained"] == 1.0 and (one.radii == -1).all()


def test_the_class_is_selected_by_samples_of_its_own(halves):
    """Both classes are equally likely, so that every certificate is wrong.

    A class certifies with 11 of 20 samples, which one that is selected before has in
    41% of the cases, and the more frequent one of the same samples in 82%.
    """
    model, images, _ = halves
    settings = {"samples": 20, "selection": 1, "alpha": 0.5, "batch_size": 5000}
    found = smoothed_certificate(
        model, np.repeat(images[1:2], 300, 0), np.zeros(300, int), 30.0, **settings
    )
    low = certificates.clopper_pearson([10, 11], 20, 0.5)
    assert low[0] < 0.5 < low[1]
    assert 0.3 < (found.predicted >= 0).mean() < 0.5


def test_noise_depends_on_the_seed_and_the_image_alone(certified, few):
    def run(where=slice(6), **settings):
        data = few.take(where)
        ids = np.arange(NUMBER)[where]
        return smoothed_certificate(
            certified, data.images, data.labels, 60.0, samples=60, ids=ids, **settings
        ).radii

    radii = run()
    np.testing.assert_array_equal(run(batch_size=7), radii)
    np.testing.assert_array_equal(run(np.array([5, 2])), radii[[5, 2]])
    assert not np.array_equal(run(seed=1), radii)


def test_smoothing_in_an_evaluation(certified, few, result):
    config = EvaluationConfig(
        attacks=(),
        corruptions=(),
        certify="smoothing",
        certify_radii=(20.0, 60.0),
        smoothing_sigma=25.0,
        smoothing_samples=100,
        num_examples=40,
        check_examples=5,
    )
    whole = evaluate(certified, few, config, progress=False)
    found = whole["certificates"]
    schema = json.loads(results.SCHEMA.read_text(encoding="utf-8"))
    jsonschema.validate(found, schema["properties"]["certificates"])
    assert found["settings"] == {
        "sigma": 25.0,
        "samples": 100,
        "selection": 100,
        "alpha": 0.001,
    }
    assert list(found["radii"]) == ["20", "60"] and "attacked" not in found
    direct = smoothed_certificate(
        certified, few.images[:40], few.labels[:40], 25.0, samples=100
    )
    assert found["radii"]["20"] == direct.accuracy(20.0) > 0.5
    assert found["abstained"] == direct.facts["abstained"]
    assert found["radii"]["60"] == 0  # 100 samples prove at most 37
    text = tables.evaluation({"model": "m", "dataset": "digits", **whole})
    assert "noise of 25/255, 100 samples; abstained on" in text
    assert "| 20/255" in text and "under" not in text.split("abstained")[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "`sigma` must be positive and finite. Received: sigma=0.0"),
        ({"sigma": np.inf}, "sigma=inf"),
        ({"sigma": 1.0, "samples": 0}, "`samples` and `selection` must be positive"),
        ({"sigma": 1.0, "selection": 0}, "selection=0"),
        ({"sigma": 1.0, "alpha": 0.0}, r"`alpha` must be in \(0, 1\)"),
    ],
)
def test_wrong_numbers_are_refused(halves, settings, message):
    model, images, _ = halves
    with pytest.raises(ValueError, match=message):
        smoothed_certificate(model, images, np.zeros(6, int), **settings)
