"""Neural ODEs against Keras, and their bounds against Jacobians and the layer's own."""

import keras
import pytest

from inres_tf import solvers
from inres_tf.errors import UserError
from inres_tf.layers import ConvDynamics, NeuralODE
from inres_tf.layers.neural_ode import KINDS
from inres_tf.verifier.flows import METHODS

SOLVER = {"method": "heun", "steps": 2}


def check(case):
    assert case.error_of_logits() < 1e-5
    assert case.jacobian_norm() <= case.bound * (1 + 1e-5)
    assert case.bound == pytest.approx(case.layer.lipschitz_bound(), rel=1e-4)


def test_all_fixed_step_methods_are_known():
    assert set(METHODS) == set(solvers.FIXED_STEP)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [None, 0.7])
def test_kinds_of_dynamics(kind, limit, saved_layer):
    dynamics = ConvDynamics(kind, filters=3, limit=limit)
    check(saved_layer(NeuralODE(dynamics, SOLVER, damping="in")))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["time", "potential"])
def test_methods(method, kind, saved_layer):
    solver = {"method": method, "steps": 2}
    dynamics = ConvDynamics(kind, limit=2.0)
    check(saved_layer(NeuralODE(dynamics, solver, t1=1.5, damping=0.4)))


@pytest.mark.parametrize("method", ["euler", "exponential_euler"])
def test_methods_without_damping(method, saved_layer):
    dynamics = ConvDynamics("potential", kernel_size=1, limit=2.0)
    case = saved_layer(NeuralODE(dynamics, method), estimate=1.0)
    check(case)
    assert case.bound == pytest.approx(1.0, rel=1e-4)


def test_counted_failures_are_not_taken_for_k(saved_layer):
    solver = {"method": "euler", "steps": 2}
    dynamics = ConvDynamics("potential", limit=1.0)
    layer = NeuralODE(dynamics, solver, damping="in", on_failure="count")
    case = saved_layer(layer, estimate=1.0, k=0.5)
    check(case)
    assert case.bound == pytest.approx((1 - 0.25) ** 2, rel=1e-4)


def test_rates_are_not_negative(saved_layer):
    dynamics = ConvDynamics("potential", limit=1.0)
    case = saved_layer(NeuralODE(dynamics, SOLVER, damping="in"), estimate=1.0, k=1.5)
    check(case)
    assert case.bound == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("method", solvers.ADAPTIVE)
def test_adaptive_methods_are_refused(method, saved_layer):
    with pytest.raises(UserError, match=rf"'flow' .*'{method}', which adapts its step"):
        saved_layer(NeuralODE(ConvDynamics(), method, name="flow"))


def test_other_dynamics_are_refused(saved_layer):
    dynamics = keras.layers.Conv2D(2, 3, padding="same")
    with pytest.raises(
        UserError, match=r"'flow' .* dynamics Conv2D.*only ConvDynamics"
    ):
        saved_layer(NeuralODE(dynamics, SOLVER, name="flow"))


def test_steps_beyond_the_stable_ones_expand(saved_layer):
    """For h L > 2 a gradient flow's Euler step is not 1-Lipschitz."""
    dynamics = ConvDynamics("potential", limit=5.0)
    solver = {"method": "euler", "steps": 2}
    case = saved_layer(NeuralODE(dynamics, solver, t1=2.0), estimate=1.0)
    check(case)
    norm = dynamics.operators[0].norm_bound()
    assert norm**2 < 5 and case.bound == pytest.approx((norm**2 - 1) ** 2, rel=1e-4)
