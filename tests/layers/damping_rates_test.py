import keras
import pytest

import zoo
from inres_tf.layers import (
    DampedAdd,
    damped_layers,
    damping_rates,
    dead_blocks,
    set_damping_rates,
)


def nested_model():
    """Two trainable rates, one of them in a nested model, and a plain block."""
    inputs = keras.Input((4,))
    x = DampedAdd("in", keras.initializers.Constant(0.9), name="b")([inputs, inputs])
    x = DampedAdd("plain", name="p")([x, x])
    inner_inputs = keras.Input((4,))
    inner_outputs = DampedAdd("lambda_in", keras.initializers.Constant(0.3), name="a")(
        [inner_inputs, inner_inputs]
    )
    inner = keras.Model(inner_inputs, inner_outputs, name="inner")
    return keras.Model(inputs, inner(x))


def test_rates_are_in_network_order():
    rates = damping_rates(nested_model())
    assert list(rates) == ["b", "inner/a"]
    assert list(rates.values()) == pytest.approx([0.1, 0.3])


def test_damped_layers_are_those_with_a_rate():
    model = nested_model()
    layers = damped_layers(model)
    assert [name for name, _ in layers] == list(damping_rates(model))
    assert [layer.damping for _, layer in layers] == ["in", "lambda_in"]


def test_a_layer_called_twice_is_listed_once():
    inputs = keras.Input((4,))
    merge = DampedAdd("in", name="merge")
    model = keras.Model(inputs, merge([inputs, merge([inputs, inputs])]))
    assert list(damping_rates(model)) == ["merge"]


def test_set_damping_rates():
    model = nested_model()
    set_damping_rates(model, 0.5)
    assert damping_rates(model) == {"b": 0.5, "inner/a": 0.5}
    with pytest.raises(ValueError, match="finite number >= 0.*Received: rate=-1"):
        set_damping_rates(model, -1)


def test_dead_blocks_have_rate_0():
    model = zoo.ExponentialResNet20(input_shape=(8, 8, 1))
    assert dead_blocks(damping_rates(model)) == 0
    _, layer = damped_layers(model)[2]
    layer.k.assign(-0.1)
    assert dead_blocks(damping_rates(model)) == 1
    assert dead_blocks({}) == 0
