import keras
import numpy as np
import pytest
from keras import layers

import inres_tf
import zoo
from inres_tf.layers import damping_rates

SHAPE = (8, 8, 1)
CONSTRUCTORS = {
    "resnet": (zoo.ResNet8, zoo.ResNet20),
    "in": (zoo.InResNet8, zoo.InResNet20),
    "lambda_in": (zoo.LambdaInResNet8, zoo.LambdaInResNet20),
}


def randomized(model, rng):
    """Sets weights so that every branch and every statistic matters."""
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.weights])
    return model


@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_outputs_stay_and_the_further_blocks_learn(kind, rng):
    shallow, deep = (make(input_shape=SHAPE) for make in CONSTRUCTORS[kind])
    randomized(shallow, rng)
    pixels = rng.uniform(0, 255, (4, *SHAPE)).astype(np.float32)
    assert np.abs(deep(pixels) - shallow(pixels)).max() > 1e-3
    inres_tf.deepen(shallow, deep)
    np.testing.assert_allclose(deep(pixels), shallow(pixels), rtol=1e-5, atol=1e-6)
    old = damping_rates(shallow)
    assert damping_rates(deep) == {n: old.get(n, 0.0) for n in damping_rates(deep)}

    further = deep.get_layer("stage2_block3_2_conv")
    assert not np.any(further.kernel)
    deep.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    deep.train_on_batch(pixels, np.arange(4))
    assert np.any(further.kernel)


def network(
    blocks, width=4, shortcut=True, parallel=False, batch_norm=False, side=None
):
    """Dense residual blocks, by layer and by operator, and a classifier."""
    first = keras.Input((width,) if side is None else (side, width))
    x = layers.Normalization(name="normalization")(first)
    for number in range(blocks):
        branch = layers.Dense(width, "tanh", name=f"block{number}")(x)
        if batch_norm:
            branch = layers.BatchNormalization(name=f"bn{number}")(branch)
        branch = layers.ReLU(name=f"relu{number}")(branch)
        if not shortcut:
            x = branch
        elif number % 2:
            x = branch + x
        else:
            x = layers.Add(name=f"add{number}")([x, branch])
    if parallel:
        x = layers.Dense(width, name="parallel")(x)
    outputs = layers.Dense(3, "softmax", name="classifier")(x)
    return keras.Model(first, outputs, name=f"blocks{blocks}")


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("blocks", [1, 2])
def test_any_residual_network(blocks, batch_norm, rng):
    """With the shortcut as either input, and with layers after the last weights.

    The names of additions by `+` are Keras', and differ between the networks.
    """
    shallow = randomized(network(blocks, batch_norm=batch_norm), rng)
    x = rng.normal(3, 2, (5, 4)).astype(np.float32)
    shallow.get_layer("normalization").adapt(x)
    deep = network(4, batch_norm=batch_norm)
    inres_tf.deepen(shallow, deep)
    np.testing.assert_allclose(deep(x), shallow(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "shallow,deep,message",
    [
        (dict(blocks=2), dict(blocks=1), "weights of 'block1' .* do not exist in"),
        (dict(blocks=1), dict(blocks=2, width=5), r"\(4,\).*\(5,\)"),
        (dict(blocks=1), dict(blocks=2, shortcut=False), "shortcut is the identity"),
        (dict(blocks=1), dict(blocks=2, parallel=True), "shortcut is the identity"),
        (dict(blocks=1), dict(blocks=2, side=3), "inputs of the same shape"),
    ],
)
def test_networks_that_do_not_fit_are_refused_and_kept(shallow, deep, message, rng):
    shallow, deep = (randomized(network(**each), rng) for each in (shallow, deep))
    x = rng.normal(3, 2, (5, *deep.input_shape[1:])).astype(np.float32)
    deep.get_layer("normalization").adapt(x)
    before, outputs = deep.get_weights(), deep(x)
    with pytest.raises(ValueError, match=message):
        inres_tf.deepen(shallow, deep)
    for old, new in zip(before, deep.get_weights()):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(deep(x), outputs)


def test_a_saturated_softmax_hides_nothing(rng):
    """The classifier's outputs are 0 and 1 with the further layer and without it."""
    shallow, deep = network(1), network(2, shortcut=False)
    randomized(shallow, rng)
    shallow.get_layer("classifier").bias.assign([1e4, 0, 0])
    with pytest.raises(ValueError, match="shortcut is the identity"):
        inres_tf.deepen(shallow, deep)


def test_a_plain_network_has_no_identity(rng):
    shallow = randomized(zoo.ResNet8(input_shape=SHAPE), rng)
    plain = zoo.ResNet20(input_shape=SHAPE, damping="plain")
    with pytest.raises(ValueError, match="shortcut is the identity"):
        inres_tf.deepen(shallow, plain)


def test_subclassed_models_are_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="subclassed"):
        inres_tf.deepen(network(1), Subclassed())
