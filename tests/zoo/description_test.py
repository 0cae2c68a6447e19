import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import constructors

PUBLISHED = sorted(
    {
        constructors.BY_MODEL[name].__name__: name
        for name in zoo.list_models()
        if zoo.describe(name)["published_parameters"]
    }.values()
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_match_the_papers(name):
    """Up to rounding, and 0.5 % for the additional layers of pre-activation."""
    facts = zoo.describe(name)
    published = facts["published_parameters"]
    rounding = 0.05e6 if published >= 1e6 else 0.005e6
    tolerance = rounding + 0.005 * published
    assert facts["trainable_parameters"] == pytest.approx(published, abs=tolerance)
    assert facts["source"]


def test_description_of_resnext_29():
    facts = zoo.describe("in_resnext29_8x64d")
    assert facts["published_parameters"] == 34.4e6
    assert facts["damped_blocks"] == 6 and facts["blocks"] == 9
    assert facts["parameters"] == zoo.describe("resnext29_8x64d")["parameters"] + 6
    assert zoo.describe("resnext29_8x64d")["damped_blocks"] == 0
    assert zoo.describe("resnet50v2")["weights"] == ["imagenet"]
    with pytest.raises(ValueError, match="Did you mean .*in_resnext29_8x64d"):
        zoo.describe("inresnext29_8x64d")


@pytest.mark.parametrize(
    "name",
    [
        *("in_resnet20", "resnet56", "resnext11_4x16d", "plain50", "cpl_tiny"),
        "in_airnet",
    ],
)
@pytest.mark.parametrize("side", [32, 45])
def test_flops_match_the_graph_of_tensorflow(name, side):
    """Twice the multiply-adds of its convolutions and matrix products."""
    model = zoo.get_model(name, input_shape=(side, side, 3))
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, side, side, 3))
    )
    expected = 0
    for operation in function.graph.get_operations():
        if operation.type in ("Conv2D", "MatMul"):
            shape = operation.outputs[0].shape.as_list()
            weights = operation.inputs[1].shape.as_list()
            expected += 2 * int(np.prod(shape)) * int(np.prod(weights[:-1]))
    assert zoo.describe(name, input_shape=(side, side, 3))["flops"] == expected


@pytest.mark.parametrize(
    ("flow", "convolutions"), [("node_tiny", 2), ("damped_node_tiny", 2)]
)
def test_flops_of_flows_count_the_evaluations(flow, convolutions):
    """4 evaluations for each of 2 stages, on 16x16x8 and 8x8x16; 10 classes."""
    stages = 16 * 16 * 8**2 + 8 * 8 * 16**2
    expected = 2 * (4 * convolutions * 9 * stages + 8 * 8 * 16 * 10)
    assert zoo.describe(flow)["flops"] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (None, None, 3)}, "known height and width"),
        ({"input_shape": (32, 32)}, "must be .height, width, channels.,"),
        ({"input_shape": (3, 3, 3)}, "at least 4x4"),
        ({"classes": 0}, "Received: classes=0"),
        ({"classes": "x"}, "Received: classes='x'"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.describe("in_resnet20", **arguments)
