import numpy as np
import pytest
from keras import ops

from inres_tf.layers import DampedAdd, dampings
from inres_tf.layers.dampings import DAMPINGS

TRAINABLE = ["in", "lambda_in", "exponential"]


@pytest.mark.parametrize("damping", TRAINABLE)
@pytest.mark.parametrize("depth", [20, 110, 164])
def test_initial_range_of_the_scalar(damping, depth):
    low, high = {
        ("in", False): (0.75, 0.80),
        ("in", True): (0.8, 0.9),
        ("lambda_in", False): (0.20, 0.25),
        ("lambda_in", True): (0.1, 0.2),
        ("exponential", False): (0.20, 0.25),
        ("exponential", True): (0.1, 0.2),
    }[damping, depth == 164]
    assert dampings.scalar_range(damping, depth) == (low, high)
    if depth != 164:
        layers = [DampedAdd(damping) for _ in range(20)]
        for layer in layers:
            layer.build([(1, 2), (1, 2)])
        drawn = [float(layer.k) for layer in layers]
        assert low <= min(drawn) < max(drawn) <= high


@pytest.mark.parametrize("damping", TRAINABLE)
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5, 1.0, 3.0])
def test_scalar_is_the_inverse_of_the_rate(damping, rate):
    k = ops.convert_to_tensor(dampings.scalar_of(damping, rate), "float32")
    assert float(DAMPINGS[damping].rate(k)) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("damping", TRAINABLE)
def test_rate_is_never_negative(damping):
    k = ops.convert_to_tensor(np.linspace(-2, 3, 11), "float32")
    assert float(ops.min(DAMPINGS[damping].rate(k))) == 0.0


def test_dampings_without_a_scalar():
    for damping, rate in (("none", 0.0), ("plain", 1.0)):
        assert DAMPINGS[damping].fixed_rate == rate
        assert dampings.scalar_of(damping, 0) is None
        assert dampings.scalar_range(damping, 20) is None


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf"), "0", True, None])
def test_invalid_rates(rate):
    with pytest.raises(ValueError, match="finite number >= 0 .*Received: rate="):
        dampings.scalar_of("in", rate)


def test_errors_name_the_accepted_values():
    with pytest.raises(ValueError, match="must be 0 under damping='plain'"):
        dampings.scalar_of("plain", 0.5)
    for name in ("out", None, ["in"]):
        with pytest.raises(ValueError, match="'none', 'in', .*Received: damping="):
            dampings.get(name)


@pytest.mark.parametrize("damping", TRAINABLE)
def test_the_rate_is_the_inverse_of_the_scalar(damping):
    k = ops.convert_to_tensor(dampings.scalar_of(damping, 0.3), "float32")
    np.testing.assert_allclose(dampings.rate_of(damping, k), 0.3, rtol=1e-6)
    with pytest.raises(ValueError, match="damping='none' has a fixed λ"):
        dampings.rate_of("none", k)
