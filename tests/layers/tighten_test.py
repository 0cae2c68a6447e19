import keras
import numpy as np
import pytest

from inres_tf import layers


def model_with_norms():
    """A network with every kind of layer that estimates a norm, one in a submodel."""
    inputs = keras.Input((6, 6, 2))
    x = layers.LipschitzConv2D(4, limit=0.5, name="limited")(inputs)
    inner = keras.Input((6, 6, 4))
    block = layers.ConvexPotentialConv2D(5, damping="none", name="block")
    x = keras.Model(inner, block(inner), name="inner")(x)
    flow = layers.ConvDynamics("skew", limit=0.7, name="dynamics")
    x = layers.NeuralODE(flow, "euler", name="flow")(x)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    x = layers.ConvexPotentialDense(7, damping="none", name="head_block")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def test_all_bounds_become_those_that_the_layers_are_made_for():
    model = model_with_norms()
    for variable in model.trainable_variables:
        if variable.name == "kernel":
            variable.assign(3.0 * variable)
    bounds = {
        model.get_layer("limited"): 0.5,
        model.get_layer("inner").get_layer("block"): 1.0,
        model.get_layer("flow").dynamics: 0.7,
        model.get_layer("head_block"): 1.0,
    }
    for layer, bound in bounds.items():
        assert layer.lipschitz_bound() > 1.1 * bound
    before = {v.path: v.numpy() for v in model.variables}
    layers.tighten(model)
    for layer, bound in bounds.items():
        assert layer.lipschitz_bound() == pytest.approx(bound, rel=1e-5)
    changed = {v.path for v in model.variables if not np.array_equal(before[v.path], v)}
    assert len(changed) == 4 and all(path.endswith("sigma") for path in changed)


def test_a_layer_is_tightened_like_a_model():
    layer = layers.LipschitzDense(3)
    layer.build((None, 5))
    layer.kernel.assign(2.0 * layer.kernel)
    layers.tighten(layer)
    assert float(layer.sigma) == pytest.approx(2.0)
