"""What all analyses have in common."""

import keras
import numpy as np
import pytest
from keras import layers

from inres_tf import analysis
from inres_tf.analysis import compiled
from inres_tf.models import damping


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (analysis.gradient_norms, {}),
        (analysis.lipschitz, {"iterations": 30, "tolerance": 0}),
        (analysis.landscape, {"eps": 32, "grid": 3, "direction": "pgd"}),
        (analysis.lyapunov, {"eps": 32, "iterations": 5, "tolerance": 0}),
    ],
)
def test_results_do_not_depend_on_the_batch_size(damped, digits, function, options):
    images, labels = digits.test.images[:7], digits.test.labels[:7]
    whole, parts = (
        function(damped, images, labels, batch_size=size, **options).arrays()
        for size in (7, 3)
    )
    for name, values in whole.items():
        if np.asarray(values).dtype.kind == "f":
            np.testing.assert_allclose(
                parts[name], values, rtol=2e-3, atol=1e-6, err_msg=name
            )


def test_functions_are_traced_once_per_model(few):
    traces = []

    @keras.saving.register_keras_serializable("compiled_test")
    class Counted(layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return 2.0 * inputs

    inputs = keras.Input(few[0].shape[1:])
    x = layers.Add()([inputs, Counted()(inputs)])
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))

    def run(number, batch_size):
        images, labels = few[0][:number], few[1][:number]
        options = {"batch_size": batch_size}
        analysis.gradient_norms(model, images, labels, **options)
        analysis.landscape(model, images, labels, 4, grid=3, **options)
        analysis.lipschitz(model, images, labels, iterations=2, **options)
        analysis.growth(model, images, images / 2, **options)

    run(5, 5)
    first = len(traces)
    run(5, 2)
    run(3, 1)
    assert len(traces) == first


def test_low_precision_models_are_analysed_in_float32(trained, digits):
    images, labels = digits.test.images[:20], digits.test.labels[:20]
    with_policy = damping._with_policy(trained.get_config(), "mixed_float16")
    half = type(trained).from_config(with_policy)
    half.set_weights(trained.get_weights())
    for function in (analysis.gradient_norms, analysis.corrupted_calibration):
        result, expected = (
            function(model, images, labels).arrays() for model in (half, trained)
        )
        for name in set(expected) - {"sets"}:
            np.testing.assert_allclose(result[name], expected[name], rtol=1e-5)


def test_missing_rows_are_an_error(few):
    with pytest.raises(RuntimeError, match="0 rows for 5 images"):
        compiled.in_batches(lambda x: x[:0], [few[0]], 5)


@pytest.mark.parametrize(
    ("name", "options"), [("gradient_norms", {}), ("landscape", {"eps": 4, "grid": 3})]
)
def test_invalid_images_and_labels_are_rejected(damped, few, name, options):
    function, (images, labels) = getattr(analysis, name), few
    for data, message in (
        ((images[:0], labels[:0]), "at least one image"),
        ((images[0], labels), "height, width, channels"),
        ((images + 200.0, labels), r"pixels in \[0, 255\]"),
        ((images, labels[:3]), "one class per image"),
        ((images, labels + 0.5), "whole number"),
        ((images, labels + 9), "10 classes, 0 to 9"),
        ((images, labels - 9), "its class is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            function(damped, *data, **options)
    with pytest.raises(ValueError, match="batch_size"):
        function(damped, images, labels, batch_size=0, **options)
