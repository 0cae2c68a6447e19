"""Compiled functions of models whose layers change."""

import keras
import numpy as np
import pytest

from inres_tf import analysis, attacks
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.models.compile_cache import cache_per_model


def classifier(policy):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Rescaling(1 / 255, dtype=policy),
            keras.layers.Conv2D(4, 3, activation="relu", dtype=policy, name="conv"),
            keras.layers.Flatten(dtype=policy),
            keras.layers.Dense(3, dtype=policy, name="logits"),
        ]
    )


def low_rank(model):
    layer = model.get_layer("logits")
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, [-9.0, 0.0, 9.0]))
    layer.lora_kernel_a.assign(np.linspace(-1, 1, 32).reshape(16, 2))


def activation(model):
    model.get_layer("conv").activation = keras.activations.softplus


def quantized(model):
    model.get_layer("logits").kernel.assign(np.linspace(-1, 1, 48).reshape(16, 3))
    model.get_layer("logits").quantize("int8")


@pytest.mark.parametrize(
    ("change", "policy"),
    [
        (low_rank, "float32"),
        (low_rank, "mixed_bfloat16"),
        (activation, "float32"),
        (activation, "mixed_bfloat16"),
        (quantized, "float32"),
    ],
)
def test_changed_layers_are_traced_again(change, policy, rng):
    """Evaluations, attacks and analyses are of the network as it is now."""
    model = classifier(policy)
    images = rng.integers(0, 256, (20, 4, 4, 1)).astype(np.uint8)
    labels = rng.integers(0, 3, 20)

    def measure():
        logits = compiled_classifier(model, 20).logits(images)
        attacked = attacks.fgsm(model, images, labels, eps=8.0)
        return logits, attacked, analysis.gradient_norms(model, images, labels).l1

    before = measure()
    change(model)
    logits, attacked, gradients = measure()
    expected = np.asarray(model(images.astype(np.float32)), np.float32)
    np.testing.assert_allclose(logits, expected, rtol=0.05, atol=0.05)
    assert np.abs(logits - before[0]).max() > 0.1
    assert not np.array_equal(attacked, before[1])
    assert not np.allclose(gradients, before[2], rtol=1e-3)


def test_new_weights_need_no_new_trace():
    calls = []
    cached = cache_per_model(maxsize=2)(lambda model: calls.append(model))
    model = classifier("float32")
    for _ in range(2):
        cached(model)
        model.get_layer("logits").bias.assign([1.0, 2.0, 3.0])
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(np.zeros((2, 4, 4, 1)), np.zeros(2), verbose=0)
    assert len(calls) == 1
    model.get_layer("logits").activation = keras.activations.softmax
    cached(model)
    assert len(calls) == 2
