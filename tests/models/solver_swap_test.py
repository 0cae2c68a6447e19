"""Copies of models with other solvers compute what those solvers do."""

import keras
import numpy as np
import pytest

from inres_tf import solvers
from inres_tf.layers import ConvDynamics, NeuralODE
from inres_tf.models import neural_odes, with_solver
from inres_tf.solvers import Solver

SHAPE = (4, 4, 2)


def images(number=3):
    return np.random.default_rng(0).normal(size=(number, *SHAPE)).astype("float32")


def flow(solver="heun", name=None, **settings):
    return NeuralODE(ConvDynamics("time", 3), solver, name=name, **settings)


def randomize(model):
    rng = np.random.default_rng(1)
    model.set_weights([0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def functional():
    """Two flows, the second of which is called twice, one of them in a nested model."""
    inputs = keras.Input(SHAPE)
    coarse = Solver("euler", steps=2)
    first, second = flow("bosh3", "first"), flow(coarse, "second", damping="in")
    nested = keras.Sequential([keras.Input(SHAPE), second], name="nested")
    hidden = first(inputs)
    hidden = nested(hidden) + second(hidden)
    outputs = keras.layers.Dense(5)(keras.layers.Flatten()(hidden))
    return randomize(keras.Model(inputs, outputs, name="two_flows"))


def test_the_other_solver_is_used_with_the_same_weights():
    model = randomize(keras.Sequential([keras.Input(SHAPE), flow(damping=0.4)]))
    layer, x = model.layers[0], images()
    swapped = with_solver(model, {"method": "rk4", "steps": 3})
    f = layer.dynamics.field()
    states, _ = solvers.odeint(f, x, (0.0, 1.0), "rk4", steps=3, damping=0.4)
    np.testing.assert_allclose(swapped(x), states[-1], atol=1e-6)
    assert np.abs(swapped(x) - model(x)).max() > 1e-4


def test_all_flows_are_swapped_and_the_model_is_not_modified():
    model, x = functional(), images()
    before = np.array(model(x))
    assert np.isfinite(before).all()
    swapped = with_solver(model, Solver("euler", steps=5))
    assert [layer.solver.method for layer in neural_odes(model)] == ["bosh3", "euler"]
    assert [layer.solver for layer in neural_odes(swapped)] == 2 * [
        Solver("euler", steps=5)
    ]
    assert swapped.name == "two_flows" and not swapped.compiled
    for ours, theirs in zip(swapped.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    swapped.set_weights([0 * weight for weight in swapped.get_weights()])
    np.testing.assert_array_equal(model(x), before)


def test_the_same_solvers_give_the_same_outputs():
    model, x = functional(), images()
    first, second = neural_odes(model)
    second.solver = first.solver
    swapped = with_solver(model, first.solver)
    np.testing.assert_allclose(swapped(x), model(x), atol=1e-6)


def test_solvers_of_the_same_equation_agree():
    """Fixed and adaptive steps, both ways."""
    model, x = functional(), images()
    fixed = with_solver(model, Solver("rk4", steps=10))
    adaptive = with_solver(fixed, Solver("dopri5", rtol=1e-5, atol=1e-5))
    np.testing.assert_allclose(fixed(x), adaptive(x), atol=1e-2)
    assert np.abs(fixed(x) - model(x)).max() > 0.1
    back = with_solver(adaptive, Solver("rk4", steps=10))
    np.testing.assert_allclose(back(x), fixed(x), atol=1e-6)


def test_settings_of_the_layer_are_kept():
    inputs = keras.Input(SHAPE)
    outputs = flow("bosh3", "flow", t1=2.0, on_failure="count", dtype="float64")(inputs)
    layer = with_solver(keras.Model(inputs, outputs), "euler").get_layer("flow")
    assert (layer.t1, layer.on_failure, layer.compute_dtype) == (
        2.0,
        "count",
        "float64",
    )
    assert layer.failures is not None


class Unregistered(keras.layers.Layer):
    """Dynamics that Keras could not load from a file."""

    def __init__(self, rate, **settings):
        super().__init__(**settings)
        self.rate = rate

    def call(self, inputs):
        return self.rate * inputs

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


def test_dynamics_that_are_not_registered_and_solvers_of_ones_own():
    class Twice(Solver):
        def solve(self, f, x0, t, damping=0.0):
            states, record = super().solve(f, x0, t, damping)
            return 2 * states, record

    layers = [keras.Input(SHAPE), NeuralODE(Unregistered(-1.0), "rk4")]
    swapped = with_solver(keras.Sequential(layers), Twice("rk4", steps=8))
    np.testing.assert_allclose(swapped(images()), 2 * np.exp(-1) * images(), rtol=1e-5)


def test_errors():
    plain = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()], name="flat")
    with pytest.raises(ValueError, match=r"NeuralODE.*model=flat without one"):
        with_solver(plain, "rk4")
    model = keras.Sequential([keras.Input(SHAPE), flow()])
    with pytest.raises(ValueError, match="`method` must be one of"):
        with_solver(model, "rk5")

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.flow = flow()

    with pytest.raises(ValueError, match="subclassed"):
        with_solver(Subclassed(), "rk4")
