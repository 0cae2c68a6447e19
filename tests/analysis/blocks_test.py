import keras
import numpy as np
import pytest
from keras import layers

import zoo
from inres_tf import analysis
from inres_tf.analysis import Chain
from inres_tf.errors import UserError
from inres_tf.layers import damped_layers, damping_rates


def test_states_of_a_zoo_model_match_those_of_keras(digits):
    """EnResNet adds noise, which inference mode leaves out."""
    model = zoo.get_model("en_resnet20", input_shape=digits.shape)
    images = digits.test.images[:3].astype(np.float32)
    chain = Chain(model)
    merges = [layer for layer in model.layers if layer.name.endswith("_merge")]
    assert [block.name for block in chain.blocks] == [m.name for m in merges]
    expected = keras.Model(model.input, [m.output for m in merges])(images)
    for block, (x, y), value in zip(chain.blocks, chain.states(images), expected):
        np.testing.assert_allclose(y, value, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(block(x), y, rtol=1e-5, atol=1e-5)


def test_blocks_in_nested_models_are_found(linear_blocks, random_data):
    images, _ = random_data
    linear = linear_blocks(top=False)
    model = keras.Sequential(
        [keras.Input(images.shape[1:]), linear.model, layers.Flatten()]
    )
    chain = Chain(model)
    names = [block.name for block in chain.blocks]
    assert names == ["linear_blocks/damped", "linear_blocks/projected"]
    (x0, x1), (again, x2) = chain.states(images)
    np.testing.assert_array_equal(x1, again)
    np.testing.assert_allclose(x0, images @ linear.stem, rtol=1e-4)
    np.testing.assert_allclose(x2, linear.model(images), rtol=1e-4, atol=1e-3)


def test_finding_blocks_does_not_change_the_model(linear_blocks, random_data):
    model = linear_blocks().model
    analysis.lyapunov(model, *random_data, 4, rates=(1.0,), steps=1, iterations=2)
    assert all(len(layer._inbound_nodes) == 1 for layer in model.layers)


def test_rate_is_nan_for_undamped_blocks(linear_blocks):
    model = linear_blocks("lambda_in").model
    damped, projected = Chain(model).blocks
    assert damped.rate == damping_rates(model)["damped"]
    assert np.isnan(projected.rate)


def test_subclassed_models_are_rejected():
    with pytest.raises(ValueError, match="subclassed"):
        Chain(keras.Model())


def test_require_names_the_flag_for_models_without_blocks(few):
    shape = few[0].shape[1:]
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(10)])
    chain = Chain(model)
    assert chain.blocks == []
    with pytest.raises(UserError, match=r"has no residual block.*--nolyapunov"):
        chain.require()


def test_damped_at_restores_the_rates_after_an_error(linear_blocks):
    model = linear_blocks("lambda_in").model
    before = damped_layers(model)[0][1].k.numpy()
    with pytest.raises(RuntimeError), analysis.damped_at(model, 0.7):
        assert damping_rates(model)["damped"] == pytest.approx(0.7)
        raise RuntimeError
    assert damped_layers(model)[0][1].k.numpy() == before
