import dataclasses
import json

import keras
import numpy as np
import pytest
import sklearn.metrics
from keras import layers

import inres_tf
import zoo
from inres_tf import analysis, corruptions
from inres_tf.analysis import ANALYSES, AnalysisConfig, Chain, compiled
from inres_tf.distribution.classifier import Classifier
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.strategy import make_strategy
from inres_tf.errors import UserError
from inres_tf.models import precision


@pytest.fixture(scope="module")
def damped(trained):
    """The trained network with its three blocks damped."""
    return inres_tf.damp(trained, "in", rate=0.3)


@pytest.fixture
def few(digits):
    return digits.test.images[:5], digits.test.labels[:5]


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# Calibration.


def test_calibration_by_hand():
    # Confidence .55 and right, .65 and wrong, .9 and right, .95 and right.
    given = np.array([0.55, 0.65, 0.9, 0.95])
    logits = np.log(np.stack([given, 1 - given], 1))
    found = analysis.calibration(logits, np.array([0, 1, 0, 0]), bins=5)
    np.testing.assert_array_equal(found.count, [0, 0, 1, 1, 2])
    np.testing.assert_allclose(
        found.confidence_by_bin, [np.nan, np.nan, 0.55, 0.65, 0.925]
    )
    np.testing.assert_allclose(found.accuracy_by_bin, [np.nan, np.nan, 1, 0, 1])
    assert found.ece == pytest.approx((0.45 + 0.65 + 2 * 0.075) / 4)
    assert found.mce == pytest.approx(0.65)
    assert found.accuracy == 0.75 and found.confidence == pytest.approx(3.05 / 4)
    wrong = np.array([0.45, 0.65, 0.1, 0.05])
    assert found.brier == pytest.approx((2 * wrong**2).mean())
    assert found.nll == pytest.approx(-np.log([0.55, 0.35, 0.9, 0.95]).mean())


def test_calibration_puts_an_edge_into_the_lower_bin():
    found = analysis.calibration(np.zeros((3, 2)), np.array([0, 0, 1]), bins=2)
    np.testing.assert_array_equal(found.count, [3, 0])
    assert found.ece == pytest.approx(2 / 3 - 1 / 2)


def test_calibration_error_of_labels_drawn_as_predicted_vanishes(rng):
    logits = rng.normal(0, 2, (20000, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    found = analysis.calibration(logits, labels)
    assert found.ece < 0.015
    assert found.nll == pytest.approx(sklearn.metrics.log_loss(labels, softmax(logits)))
    confident = analysis.calibration(4 * logits, labels)
    assert confident.ece == pytest.approx(
        confident.confidence - confident.accuracy, abs=0.01
    )
    assert confident.ece > 0.1 and confident.brier > found.brier
    assert confident.accuracy == found.accuracy


def test_huge_logits_have_a_finite_loss():
    found = analysis.calibration([[1e4, 0.0], [0.0, 1e4]], np.array([0, 0]))
    assert found.nll == 5000 and found.brier == 1


def test_calibration_under_corruptions(trained, digits):
    few = digits.test.take(slice(60))
    found = analysis.corrupted_calibration(
        trained, few.images, few.labels, corruptions=("shot_noise",), seed=4
    )
    assert list(found.corrupted) == [("shot_noise", s) for s in range(1, 6)]
    pixels = corruptions.corrupt(few.images, "shot_noise", 5, seed=4)
    by_hand = found.corrupted["shot_noise", 5]
    right = Classifier(trained).correct(pixels, few.labels)
    assert by_hand.accuracy == right.mean()
    confidence = trained.predict(pixels, verbose=0).max(1).mean()
    assert by_hand.confidence == pytest.approx(confidence, rel=1e-4)
    arrays = found.arrays()
    assert list(arrays["sets"][[0, -1]]) == ["clean", "shot_noise 5"]
    assert arrays["ece"][-1] == by_hand.ece and arrays["count"].shape == (6, 15)


# What all have in common.


def test_results_do_not_depend_on_the_batch_size(damped, digits):
    images, labels = digits.test.images[:7], digits.test.labels[:7]
    for function, options in (
        (analysis.gradient_norms, {}),
        (analysis.lipschitz, {"iterations": 30, "tolerance": 0}),
        (analysis.landscape, {"eps": 32, "grid": 3, "direction": "pgd"}),
        (analysis.lyapunov, {"eps": 32, "iterations": 5, "tolerance": 0}),
    ):
        whole, parts = (
            function(damped, images, labels, batch_size=size, **options).arrays()
            for size in (7, 3)
        )
        for name, values in whole.items():
            if np.asarray(values).dtype.kind == "f":
                np.testing.assert_allclose(
                    parts[name], values, rtol=2e-3, atol=1e-6, err_msg=name
                )


def test_replicas_share_the_images(damped, digits):
    images, labels = digits.test.images[:5], digits.test.labels[:5]
    options = {"iterations": 5, "tolerance": 0}
    alone = analysis.lipschitz(damped, images, labels, **options)
    strategy = make_strategy(StrategyConfig(strategy="mirrored"))
    with strategy.scope():
        model = keras.models.clone_model(damped)
        model.set_weights(damped.get_weights())
        shared = analysis.lipschitz(model, images, labels, **options)
    for name in ("network", "margin", "blocks"):
        np.testing.assert_allclose(
            getattr(shared, name), getattr(alone, name), rtol=1e-3
        )


def test_each_function_is_traced_once(few):
    traces = []

    @keras.saving.register_keras_serializable("analysis_test")
    class Counted(layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return 2.0 * inputs

    inputs = keras.Input(few[0].shape[1:])
    x = layers.Add()([inputs, Counted()(inputs)])
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))

    def run(number, size):
        images, labels = few[0][:number], few[1][:number]
        options = {"batch_size": size}
        analysis.gradient_norms(model, images, labels, **options)
        analysis.landscape(model, images, labels, 4, grid=3, **options)
        analysis.lipschitz(model, images, labels, iterations=2, **options)
        analysis.growth(model, images, images / 2, **options)

    run(5, 5)
    first = len(traces)
    run(5, 2)
    run(3, 1)
    assert len(traces) == first


def test_low_precision_is_analysed_in_float32(trained, digits):
    images, labels = digits.test.images[:20], digits.test.labels[:20]
    with_policy = precision._with_policy(trained.get_config(), "mixed_float16")
    half = type(trained).from_config(with_policy)
    half.set_weights(trained.get_weights())
    for function in (analysis.gradient_norms, analysis.corrupted_calibration):
        ours, theirs = (
            function(model, images, labels).arrays() for model in (half, trained)
        )
        for name in set(theirs) - {"sets"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)


def test_missing_rows_are_a_defect(few):
    with pytest.raises(RuntimeError, match="0 rows for 5 images"):
        compiled.in_batches(lambda x: x[:0], [few[0]], 5)


def lines(ax):
    return [line.get_ydata() for line in ax.get_lines()]


def test_plots_show_the_arrays(damped, few):
    model, data = damped, few
    found = analysis.lyapunov(model, *data, 4, rates=(1.0,), steps=1, iterations=5)
    axes = analysis.figures.lyapunov(found).axes
    for ax, growth in zip(axes, (found.growth_random, found.growth_pgd)):
        middle = np.median(growth / growth[..., :1], axis=1)
        np.testing.assert_allclose(lines(ax), middle)
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["λ as trained", "λ = 1"]
    np.testing.assert_allclose(lines(axes[2])[:2], found.exponents.mean(1))
    np.testing.assert_array_equal(lines(axes[3]), found.rates)

    found = analysis.lipschitz(model, *data, iterations=5)
    histogram, by_block = analysis.figures.lipschitz(found).axes
    counts = [sum(bar.get_height() for bar in bars) for bars in histogram.containers]
    assert counts == [5, 5]
    np.testing.assert_allclose(lines(by_block)[0], np.median(found.blocks, axis=0))

    found = analysis.landscape(model, *data, 4, grid=3)
    figure = analysis.figures.landscape(found)
    surface = next(ax for ax in figure.axes if ax.name == "3d")
    assert surface.get_xlabel() == "sign of the gradient (1/255)"
    (mesh,) = surface.collections
    corners = mesh._vec[:3] if hasattr(mesh, "_vec") else mesh._faces.reshape(-1, 3).T
    assert corners[2].max() == pytest.approx(found.mean_loss.max(), rel=1e-4)
    highest = corners[0][corners[2].argmax()]
    place = np.unravel_index(found.mean_loss.argmax(), (3, 3))
    assert highest == pytest.approx(found.steps[place[0]])

    found = analysis.gradient_norms(model, *data)
    axes = analysis.figures.gradients(found).axes
    assert [sum(bar.get_height() for bar in ax.patches) for ax in axes] == [5] * 4
    for ax, norms in zip(axes, (found.l1, found.l2, found.linf)):
        ends = [bar.get_x() for bar in ax.patches]
        assert min(ends) == pytest.approx(norms.min(), rel=1e-4)


def test_reliability_plot_shows_the_bins(trained, digits):
    few = digits.test.take(slice(60))
    found = analysis.corrupted_calibration(
        trained, few.images, few.labels, corruptions=("shot_noise",), severity=3, bins=8
    )
    clean, noisy, by_severity = analysis.figures.calibration(found).axes
    heights = [bar.get_height() for bar in clean.patches]
    np.testing.assert_allclose(heights, found.clean.accuracy_by_bin)
    bins = found.corrupted["shot_noise", 3].accuracy_by_bin
    np.testing.assert_allclose(lines(noisy)[1], bins[~np.isnan(bins)])
    sets = [found.clean, *found.corrupted.values()]
    accuracy, confidence = lines(by_severity)
    np.testing.assert_allclose(accuracy, [100 * c.accuracy for c in sets])
    np.testing.assert_allclose(confidence, [100 * c.confidence for c in sets])


def test_plain_network_has_no_blocks_to_follow(few):
    shape = few[0].shape[1:]
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(10)])
    with pytest.raises(UserError, match=r"has no residual block.*--nolyapunov"):
        analysis.lyapunov(model, *few, 4)
    with pytest.raises(UserError, match="has no residual block"):
        analysis.growth(model, few[0], few[0] / 2)


def test_mistakes(damped, few):
    model, data, (images, labels) = damped, few, few
    good = {"gradient_norms": {}, "landscape": {"eps": 4, "grid": 3}}
    for name, options in good.items():
        function = getattr(analysis, name)
        for wrong, message in (
            ((images[:0], labels[:0]), "at least one"),
            ((images[0], labels), "height, width, channels"),
            ((images + 200.0, labels), r"pixels in \[0, 255\]"),
            ((images, labels[:3]), "one integer class an image"),
            ((images, labels + 0.5), "one integer class an image"),
            ((images, labels + 9), "classes from 0 to 9"),
        ):
            with pytest.raises(ValueError, match=message):
                function(model, *wrong, **options)
        with pytest.raises(ValueError, match="batch_size"):
            function(model, *data, batch_size=0, **options)
    for function, options, message in (
        (analysis.landscape, {"eps": 4, "grid": 4}, "odd"),
        (analysis.landscape, {"eps": 4, "grid": 1}, "grid"),
        (analysis.landscape, {"eps": 0}, "eps"),
        (analysis.landscape, {"eps": 4, "direction": "up"}, "'sign', 'gradient'"),
        (analysis.lipschitz, {"iterations": 0}, "iterations"),
        (analysis.lipschitz, {"tolerance": -1}, "tolerance"),
        (analysis.lyapunov, {"eps": 256}, "eps"),
        (analysis.lyapunov, {"eps": 4, "rates": (-1.0,)}, "rate"),
        (analysis.lyapunov, {"eps": 4, "iterations": 0}, "iterations"),
    ):
        with pytest.raises(ValueError, match=message):
            function(model, *data, **options)
    with pytest.raises(ValueError, match="subclassed"):
        Chain(keras.Model())
    dense = layers.Dense(10, "sigmoid")
    sigmoid = keras.Sequential([keras.Input(images.shape[1:]), layers.Flatten(), dense])
    for function, options in (
        (analysis.lipschitz, {}),
        (analysis.landscape, {"eps": 1}),
    ):
        with pytest.raises(ValueError, match="logits of"):
            function(sigmoid, *data, **options)
    with pytest.raises(ValueError, match="shape of `images`"):
        analysis.growth(model, images, images[:2])
    for options, message in (
        ({"severity": 6}, "severity"),
        ({"corruptions": ("snow9",)}, "snow9"),
        ({"bins": 0}, "bins"),
    ):
        with pytest.raises(ValueError, match=message):
            analysis.corrupted_calibration(model, *data, **options)
    with pytest.raises(ValueError, match="a label each"):
        analysis.calibration(np.zeros((3, 2)), np.zeros(2, int))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"eps": 0.0}, "--eps must be from 0.001 to 255; got 0"),
        ({"grid": 10}, "--grid must be odd"),
        ({"bins": 0}, "--bins must be from 1"),
        ({"rates": (0.5, -1.0)}, "--rates must be from 0 to 1.*; got -1"),
        ({"direction": "up"}, "--direction does not know 'up'; known: sign"),
        ({"corruptions": ("no",)}, "--corruptions does not know 'no'"),
        ({"severity": 6}, "--severity must be from 1 to 5; got 6"),
        (dict.fromkeys(ANALYSES, False), "leave on one of --landscape"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        AnalysisConfig(**settings)


def test_model_that_does_not_fit_is_refused_before_any_work(digits, tmp_path):
    config = AnalysisConfig(num_examples=3)
    dataset = dataclasses.replace(digits, test=digits.test.take(slice(2)))
    model = zoo.ResNet8(input_shape=digits.shape)
    with pytest.raises(UserError, match="more than the 2 test images"):
        analysis.analyze(model, dataset, config, tmp_path / "out", progress=False)
    other = zoo.ResNet8(input_shape=(16, 16, 3))
    with pytest.raises(UserError, match="takes images of 16x16x3"):
        analysis.analyze(other, digits, config, tmp_path / "out", False)
    flat_model = keras.Sequential(
        [keras.Input(digits.shape), layers.Flatten(), layers.Dense(10)]
    )
    with pytest.raises(UserError, match="has no residual block"):
        analysis.analyze(flat_model, digits, config, tmp_path / "out", False)
    top = keras.Sequential([keras.Input(digits.shape), layers.Flatten()])
    sigmoid = keras.Sequential([*top.layers, layers.Dense(10, "sigmoid")])
    with pytest.raises(UserError, match="logits of"):
        analysis.analyze(sigmoid, digits, config, tmp_path / "out", False)
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_finite_are_none_in_json(digits, tmp_path):
    """A network that ignores its input: no growth, exponents of -inf."""
    inputs = keras.Input(digits.shape)
    x = layers.Conv2D(2, 1, kernel_initializer="zeros")(inputs)
    x = layers.Add()([x, layers.Conv2D(2, 1, kernel_initializer="zeros")(x)])
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="dead")
    config = AnalysisConfig(
        num_examples=3, grid=3, corruptions=(), steps=1, iterations=2
    )
    summary = analysis.analyze(model, digits, config, tmp_path, progress=False)
    assert json.loads((tmp_path / "analysis.json").read_text()) == json.loads(
        json.dumps(summary)
    )
    rows = summary["analyses"]
    assert rows["lyapunov"]["λ as trained"]["median growth, PGD"] is None
    assert rows["gradients"]["share of zeros"]["mean"] == 1
    assert rows["lipschitz"]["logits"]["max"] == 0
    assert "| -" in analysis.table(summary)
    assert summary["analyses"]["calibration"].keys() == {"clean"}


def test_images_are_taken_from_the_first(digits, tmp_path):
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
    with np.load(tmp_path / "gradients.npz") as found:
        np.testing.assert_allclose(found["l1"], first.l1, rtol=1e-5)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"gradients.npz", "gradients.png", "analysis.json"}
