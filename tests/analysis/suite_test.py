import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from inres_tf import analysis
from inres_tf.analysis import AnalysisConfig
from inres_tf.errors import UserError


def test_models_that_do_not_fit_are_rejected_before_any_work(digits, tmp_path):
    config = AnalysisConfig(num_examples=3)

    def analyze(model, dataset=digits):
        analysis.analyze(model, dataset, config, tmp_path / "out", progress=False)

    small = dataclasses.replace(digits, test=digits.test.take(slice(2)))
    with pytest.raises(UserError, match="more than the 2 test images"):
        analyze(zoo.ResNet8(input_shape=digits.shape), small)
    with pytest.raises(UserError, match="takes images of 16x16x3"):
        analyze(zoo.ResNet8(input_shape=(16, 16, 3)))
    flatten = [keras.Input(digits.shape), layers.Flatten()]
    with pytest.raises(UserError, match="has no residual block"):
        analyze(keras.Sequential([*flatten, layers.Dense(10)]))
    with pytest.raises(UserError, match="logits of"):
        analyze(keras.Sequential([*flatten, layers.Dense(10, "sigmoid")]))
    assert not (tmp_path / "out").exists()


def small_network(digits):
    inputs = keras.Input(digits.shape)
    x = layers.Conv2D(2, 1, kernel_initializer="zeros")(inputs)
    x = layers.Add()([x, layers.Conv2D(2, 1, kernel_initializer="zeros")(x)])
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="dead")


def test_non_finite_numbers_are_null_in_json(digits, tmp_path):
    """A network that ignores its input has no growth and exponents of -inf."""
    model = small_network(digits)
    config = AnalysisConfig(
        num_examples=3, grid=3, corruptions=(), steps=1, iterations=2
    )
    summary = analysis.analyze(model, digits, config, tmp_path, progress=False)
    written = json.loads((tmp_path / "analysis.json").read_text())
    assert written == json.loads(json.dumps(summary))
    analyses = summary["analyses"]
    assert analyses["lyapunov"]["λ as trained"]["median growth, PGD"] is None
    assert analyses["gradients"]["share of zeros"]["mean"] == 1
    assert analyses["lipschitz"]["logits"]["max"] == 0
    assert analyses["calibration"].keys() == {"clean"}
    assert "| -" in analysis.table(summary)


def test_the_first_test_images_are_used(digits, tmp_path):
    config = AnalysisConfig(
        lyapunov=False,
        landscape=False,
        lipschitz=False,
        calibration=False,
        num_examples=5,
    )
    model = zoo.ResNet8(input_shape=digits.shape)
    analysis.analyze(model, digits, config, tmp_path, progress=False)
    first = analysis.gradient_norms(
        model, digits.test.images[:5], digits.test.labels[:5]
    )
    with np.load(tmp_path / "gradients.npz") as arrays:
        np.testing.assert_allclose(arrays["l1"], first.l1, rtol=1e-5)
    names = {path.name for path in tmp_path.iterdir()}
    page = (tmp_path / "report.html").read_text()
    assert page.count('role="img"') == 4 and "Analysis of resnet8" in page
    others = {"analysis.json", "report.html"}
    assert names == {"gradients.npz", "gradients.png"} | others


def test_a_diverged_network_is_wrong_and_says_so(digits, tmp_path):
    model = small_network(digits)
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    config = AnalysisConfig(
        num_examples=4, grid=3, corruptions=("fog",), steps=1, lipschitz=False
    )
    summary = analysis.analyze(model, digits, config, tmp_path, progress=False)
    text = (tmp_path / "analysis.json").read_text()
    assert "NaN" not in text and json.loads(text) == json.loads(json.dumps(summary))
    rows = summary["analyses"]["calibration"]
    assert rows["clean"]["accuracy"] == rows["fog 5"]["accuracy"] == 0
    assert rows["clean"]["ece"] is rows["clean"]["nll"] is None
    assert summary["analyses"]["landscape"]["clean"]["accuracy"] == 0
    (outputs,) = summary["checks"]
    assert outputs["raised"] and "4 (clean), 4 (fog 1)" in outputs["message"]
    assert "are not finite" in analysis.table(summary)
