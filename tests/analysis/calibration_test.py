import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from inres_tf import analysis, corruptions
from inres_tf.distribution.classifier import Classifier


def test_calibration_by_hand():
    # Confidence 0.55 and correct, 0.65 and misclassified, 0.9 and 0.95 and correct.
    confidence = np.array([0.55, 0.65, 0.9, 0.95])
    logits = np.log(np.stack([confidence, 1 - confidence], 1))
    result = analysis.calibration(logits, np.array([0, 1, 0, 0]), bins=5)
    np.testing.assert_array_equal(result.count, [0, 0, 1, 1, 2])
    np.testing.assert_allclose(
        result.confidence_by_bin, [np.nan, np.nan, 0.55, 0.65, 0.925]
    )
    np.testing.assert_allclose(result.accuracy_by_bin, [np.nan, np.nan, 1, 0, 1])
    assert result.ece == pytest.approx((0.45 + 0.65 + 2 * 0.075) / 4)
    assert result.mce == pytest.approx(0.65)
    assert result.accuracy == 0.75 and result.confidence == pytest.approx(3.05 / 4)
    errors = np.array([0.45, 0.65, 0.1, 0.05])
    assert result.brier == pytest.approx((2 * errors**2).mean())
    assert result.nll == pytest.approx(-np.log([0.55, 0.35, 0.9, 0.95]).mean())


def test_a_confidence_at_an_edge_is_in_the_lower_bin():
    result = analysis.calibration(np.zeros((3, 2)), np.array([0, 0, 1]), bins=2)
    np.testing.assert_array_equal(result.count, [3, 0])
    assert result.ece == pytest.approx(2 / 3 - 1 / 2)


def test_calibration_error_vanishes_if_labels_are_drawn_as_predicted(rng):
    logits = rng.normal(0, 2, (20000, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    result = analysis.calibration(logits, labels)
    assert result.ece < 0.015
    probabilities = scipy.special.softmax(logits, axis=1)
    assert result.nll == pytest.approx(sklearn.metrics.log_loss(labels, probabilities))
    overconfident = analysis.calibration(4 * logits, labels)
    assert overconfident.ece == pytest.approx(
        overconfident.confidence - overconfident.accuracy, abs=0.01
    )
    assert overconfident.ece > 0.1 and overconfident.brier > result.brier
    assert overconfident.accuracy == result.accuracy


def test_huge_logits_have_a_finite_loss():
    result = analysis.calibration([[1e4, 0.0], [0.0, 1e4]], np.array([0, 0]))
    assert result.nll == 5000 and result.brier == 1


def test_shapes_must_match():
    with pytest.raises(ValueError, match="2 labels for 3 images"):
        analysis.calibration(np.zeros((3, 2)), np.zeros(2, int))


def test_labels_may_be_columns_but_not_unknown():
    logits, labels = [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], np.array([0, 1, 1])
    column = analysis.calibration(logits, labels[:, None])
    assert column.accuracy == analysis.calibration(logits, labels).accuracy == 2 / 3
    with pytest.raises(ValueError, match="Received -1 for image 2"):
        analysis.calibration(logits, [0, 1, -1])


def test_calibration_under_corruptions(trained, digits):
    few = digits.test.take(slice(60))
    result = analysis.corrupted_calibration(
        trained, few.images, few.labels, corruptions=("shot_noise",), seed=4
    )
    assert list(result.corrupted) == [("shot_noise", s) for s in range(1, 6)]
    pixels = corruptions.corrupt(few.images, "shot_noise", 5, seed=4)
    severe = result.corrupted["shot_noise", 5]
    correct = Classifier(trained).correct(pixels, few.labels)
    assert severe.accuracy == correct.mean()
    confidence = trained.predict(pixels, verbose=0).max(1).mean()
    assert severe.confidence == pytest.approx(confidence, rel=1e-4)
    arrays = result.arrays()
    assert list(arrays["sets"][[0, -1]]) == ["clean", "shot_noise 5"]
    assert arrays["ece"][-1] == severe.ece and arrays["count"].shape == (6, 15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"severity": 6}, "severity"),
        ({"corruptions": ("snow9",)}, "snow9"),
        ({"bins": 0}, "bins"),
    ],
)
def test_invalid_settings_are_rejected(trained, few, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.corrupted_calibration(trained, *few, **options)


def test_calibration_of_numbers_that_are_not_finite_is_undefined():
    labels = np.arange(100) % 10
    logits = np.full((100, 10), np.nan)
    result = analysis.calibration(logits, labels)
    assert result.accuracy == 0 and result.non_finite == 100
    assert result.count.sum() == 0
    undefined = ("confidence", "ece", "mce", "brier", "nll")
    assert all(np.isnan(getattr(result, name)) for name in undefined)
    # One image is enough, and is misclassified whatever its other logits say.
    logits = np.eye(10)[labels] * 9
    logits[3, 3], logits[4, 0] = np.inf, -np.inf
    result = analysis.calibration(logits, labels)
    assert result.accuracy == 0.98 and result.non_finite == 2
    assert result.count.sum() == 98 and np.isnan(result.ece)
