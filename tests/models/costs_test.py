import keras
import pytest

import zoo
from inres_tf import models


@pytest.mark.parametrize(
    "name", ["in_resnet20", "plain20", "resnext11_4x16d", "cpl_tiny", "node_tiny"]
)
def test_costs_are_those_of_the_zoo(name):
    model = zoo.get_model(name, input_shape=(16, 16, 3))
    facts, known = models.model_facts(model), zoo.describe(name, (16, 16, 3))
    for key in ("parameters", "trainable_parameters", "flops"):
        assert facts[key] == known[key], key
    dampings = {"in_resnet20": ["in"], "plain20": ["plain"]}
    assert facts["dampings"] == dampings.get(name, [])


@pytest.mark.parametrize("name", ["in_resnet20", "plain20"])
def test_facts_of_a_nested_model_are_its_own(name):
    model = zoo.get_model(name, input_shape=(8, 8, 3))
    nested = models.with_preprocessing(model, "symmetric")
    inside, facts = models.model_facts(model), models.model_facts(nested)
    assert facts["flops"] == inside["flops"]
    assert facts["dampings"] == inside["dampings"]


def test_costs_of_any_model_count_its_products():
    inputs = keras.Input((8, 6, 4), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
    x = keras.layers.Conv2D(5, 3, strides=2, groups=1, use_bias=False)(x)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    facts = models.model_facts(keras.Model(inputs, outputs))
    depthwise, convolution = 6 * 4 * 8 * 9, 2 * 1 * 5 * 9 * 8
    assert facts["flops"] == 2 * (depthwise + convolution + 10 * 3)
    assert facts["parameters"] == 4 * 2 * 9 + 9 * 8 * 5 + 10 * 3 + 3


def test_products_of_attention_and_transposed_convolutions_count():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2DTranspose(6, 3, strides=2)(inputs)
    transposed = models.model_facts(keras.Model(inputs, x))["flops"]
    assert transposed == 2 * 8 * 8 * 4 * 9 * 6
    sequence = keras.Input((64, 4))
    x = keras.layers.MultiHeadAttention(2, 4)(sequence, sequence)
    projections, scores = 4 * 64 * 4 * 8, 2 * 64 * 64 * 4
    facts = models.model_facts(keras.Model(sequence, x))
    assert facts["flops"] == 2 * (projections + 2 * scores)
    volume = keras.Input((4, 4, 4, 2))
    facts = models.model_facts(keras.Model(volume, keras.layers.Conv3D(5, 3)(volume)))
    assert facts["flops"] == 2 * 2**3 * 5 * 27 * 2


def test_steps_of_unknown_number_are_not_counted():
    model = zoo.get_model("node_tiny", input_shape=(8, 8, 1), solver="dopri5")
    facts = models.model_facts(model)
    assert facts["flops"] is None
    known = zoo.describe("node_tiny", (8, 8, 1))
    assert facts["trainable_parameters"] == known["trainable_parameters"]
