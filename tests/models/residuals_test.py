import keras
import pytest
from keras import layers

import inres_tf
import zoo


def chain(x, kernels):
    for _ in range(kernels):
        x = layers.ReLU()(layers.Dense(4)(x))
    return x


@pytest.mark.parametrize(
    ("first", "second", "shortcut"),
    [(0, 1, 0), (1, 0, 1), (1, 2, 0), (3, 1, 1), (1, 1, None), (2, 3, None)],
)
def test_projections_have_at_most_one_kernel(first, second, shortcut):
    x = chain(keras.Input((4,)), 1)
    model = keras.Model(
        x._keras_history.operation._inbound_nodes[0].input_tensors[0],
        layers.Add()([chain(x, first), chain(x, second)]),
    )
    (addition,) = inres_tf.additions(model)
    assert addition.shortcut == (() if shortcut is None else (shortcut,))


def test_shortcut_of_parallel_branches():
    """In (x + f(x)) + g(x) the inner sum is the shortcut, even if g is shorter."""
    x = keras.Input((4,))
    first = layers.Add(name="attention")([x, chain(x, 3)])
    model = keras.Model(x, layers.Add(name="mlp")([chain(x, 1), first]))
    assert [a.shortcut for a in inres_tf.additions(model)] == [(0,), (1,)]


class Half(layers.Add):
    def call(self, inputs):
        return 0.5 * super().call(inputs)


def test_reasons_for_additions_that_are_not_residual():
    x = keras.Input((4,))
    y = Half(name="half")([x, layers.Dense(4)(x)])
    tokens = keras.Input((4,), dtype="int32")
    z = layers.Add(name="tokens")([tokens, keras.ops.cumsum(tokens, -1)])
    model = keras.Model([x, tokens], [y, z])
    assert {a.name: a.reason for a in inres_tf.additions(model)} == {
        "half": "it is a Half, a subclass of Add",
        "tokens": "it adds int32",
    }


def test_deep_models_do_not_exceed_the_recursion_limit():
    x = inputs = keras.Input((2,))
    for _ in range(300):
        x = x + keras.ops.relu(x)
    model = keras.Model(inputs, x)
    assert len(inres_tf.additions(model)) == 300


def test_additions_of_the_zoo():
    model = zoo.ResNet20(input_shape=(8, 8, 3))
    additions = inres_tf.additions(model)
    assert [a.name for a in additions] == [
        f"stage{stage}_block{block}_merge" for stage in (1, 2, 3) for block in (1, 2, 3)
    ]
    assert all(a.reason is None and a.shortcut == (0,) for a in additions)
    # Damped blocks are not additions.
    model = zoo.InResNet20(input_shape=(8, 8, 3))
    assert [a.name for a in inres_tf.additions(model)] == [
        "stage1_block1_merge",
        "stage2_block1_merge",
        "stage3_block1_merge",
    ]


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs + inputs


@pytest.mark.parametrize("model", [Subclassed(name="mine"), "model"])
def test_models_without_a_graph(model):
    with pytest.raises(ValueError, match="is a subclassed model.*Received: "):
        inres_tf.additions(model)
