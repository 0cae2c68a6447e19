import json

import keras
import numpy as np
import PIL.Image
import pytest
from keras import layers

import inres_tf
import zoo
from inres_tf import analysis, solvers
from inres_tf.analysis import compiled, figures
from inres_tf.analysis.config import SOLVERS
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.strategy import make_strategy
from inres_tf.errors import UserError
from inres_tf.layers import ConvDynamics, DampedAdd, NeuralODE

COUNTS = (1, 2, 4, 8)


@pytest.fixture(scope="module")
def result(damped, digits):
    """The analysis of a trained In-ResNet of depth 8."""
    few = digits.test.take(slice(20))
    return analysis.continuous(
        damped, few.images, few.labels, solver_steps=COUNTS, batch_size=7
    )


def test_one_euler_step_is_the_network(result):
    scale = np.abs(result.network).max()
    np.testing.assert_allclose(
        result.logits[0, 0], result.network, rtol=0, atol=1e-5 * scale
    )
    assert result.methods == ("euler", "heun", "rk4")
    assert tuple(result.steps) == COUNTS
    distance = result.distance(result.network)
    np.testing.assert_allclose(result.distances[0, 0], distance.mean(), rtol=1e-3)
    assert distance.min() > 1e-3


def test_logits_are_those_of_the_solved_network(damped, digits, result):
    images = digits.test.images[:20].astype(np.float32)
    for i, (method, steps) in enumerate([("euler", 4), ("heun", 2), ("rk4", 8)]):
        solver = {"method": method, "steps": steps}
        ode = inres_tf.models.as_neural_ode(damped, solver)
        found = result.logits[i, COUNTS.index(steps)]
        np.testing.assert_allclose(
            found, compiled.logits(ode, images), rtol=1e-4, atol=1e-4
        )


def test_a_trained_network_converges(result):
    """Its ReLUs have kinks; Euler's method is of first order all the same."""
    assert (np.diff(result.distances) < 0).all()
    assert result.orders[0, -1] == pytest.approx(1, abs=0.2)
    euler, heun, rk4 = result.distances[:, -1]
    assert rk4 < heun < euler / 5
    assert result.agreement(result.reference) == 1
    assert result.agreement(result.logits)[2, -1] == 1


def test_the_summary_holds_the_numbers_of_each_solver(result):
    summary = result.summary()
    assert list(summary)[:3] == ["network", "euler, 1 step", "euler, 2 steps"]
    assert list(summary)[-1] == "reference" and len(summary) == 3 * len(COUNTS) + 2
    row = summary["heun, 4 steps"]
    reference = np.float64(result.reference)
    difference = np.linalg.norm(result.logits[1, 2] - reference, axis=1)
    distance = difference / np.linalg.norm(reference, axis=1)
    assert row["mean distance"] == pytest.approx(distance.mean())
    ratio = result.distances[1, 1] / result.distances[1, 2]
    assert row["order"] == pytest.approx(np.log2(ratio))
    classes = result.logits[1, 2].argmax(1)
    assert row["accuracy"] == (classes == result.labels).mean()
    assert row["agreement"] == (classes == reference.argmax(1)).mean()
    assert np.isnan(summary["euler, 1 step"]["order"])
    assert summary["reference"]["mean distance"] == 0


def test_orders_below_rounding_are_unknown():
    reference = np.ones((1, 2), np.float32)
    distances = np.array([1e-2, 2.5e-3, 2e-6, 1e-6])
    logits = reference * (1 + distances[None, :, None, None])
    result = analysis.Continuous(
        ("heun",), np.array(COUNTS), logits, reference, reference, np.zeros(1, int)
    )
    np.testing.assert_allclose(result.orders, [[np.nan, 2, np.nan, np.nan]], rtol=1e-3)


def smooth(damping):
    """A small network with tanh instead of ReLUs."""
    keras.utils.set_random_seed(1)

    def convolution(x, activation=None):
        initializer = keras.initializers.RandomNormal(0, 0.2)
        options = {"padding": "same", "kernel_initializer": initializer}
        return layers.Conv2D(4, 3, activation=activation, **options)(x)

    inputs = keras.Input((8, 8, 1))
    x = convolution(layers.Rescaling(1 / 255)(inputs))
    for _ in range(2):
        branch = convolution(convolution(x, "tanh"))
        x = DampedAdd(damping, keras.initializers.Constant(0.6))([x, branch])
    return keras.Model(inputs, layers.Dense(10, "softmax")(layers.Flatten()(x)))


@pytest.mark.parametrize("damping", ["in", "exponential"])
def test_smooth_networks_converge_at_the_order_of_the_method(damping, few):
    options = {"solver_steps": (4, 2, 1), "solvers": ("rk4", "euler", "heun")}
    result = analysis.continuous(smooth(damping), *few, **options)
    assert tuple(result.steps) == (1, 2, 4)
    np.testing.assert_allclose(result.orders[:, 2], [4, 1, 2], rtol=0.2)
    same = np.allclose(result.logits[1, 0], result.network, rtol=1e-4, atol=1e-4)
    assert same == (damping == "in")


def test_neural_odes_of_the_network_are_solved_too(few):
    """Solvers are swapped within the layer, over its own time, and then restored."""
    ode = NeuralODE(ConvDynamics("time"), {"method": "heun", "steps": 3}, t1=2.0)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 255)(inputs))
    x = layers.Dense(10)(layers.Flatten()(ode(x)))
    model = keras.Model(inputs, x)
    ode.dynamics.time_weight.assign([0.5, -1.0, 1.0, 2.0])
    result = analysis.continuous(model, *few, solvers=("heun",), solver_steps=(3, 6))
    np.testing.assert_allclose(
        result.logits[0, 0], result.network, rtol=1e-4, atol=1e-5
    )
    assert result.distances[0, 1] < result.distances[0, 0]
    assert (ode.solver.method, ode.solver.steps) == ("heun", 3)


def test_replicas_share_the_images(damped, few):
    options = {"solvers": ("heun",), "solver_steps": (1, 2)}
    alone = analysis.continuous(damped, *few, **options)
    with make_strategy(StrategyConfig(strategy="mirrored")).scope():
        model = keras.models.clone_model(damped)
        model.set_weights(damped.get_weights())
        shared = analysis.continuous(model, *few, **options)
    np.testing.assert_allclose(shared.logits, alone.logits, rtol=1e-3, atol=1e-4)


def test_models_without_a_limit_are_rejected(few):
    shape = few[0].shape[1:]
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(10)])
    with pytest.raises(UserError, match=r"has neither a residual.*--continuous"):
        analysis.continuous(model, *few)
    # All of its blocks change the shape.
    with pytest.raises(UserError, match="has neither a residual"):
        analysis.continuous(zoo.ResNeXt11_4x16d(input_shape=shape), *few)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solvers": ("dopri5",)}, "methods with fixed steps.*'dopri5'"),
        ({"solvers": ()}, "methods with fixed steps"),
        ({"solver_steps": (0,)}, "positive integers.*0"),
        ({"solver_steps": (1.5,)}, "positive integers"),
        ({"solver_steps": ()}, "positive integers"),
    ],
)
def test_invalid_arguments_are_rejected(damped, few, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.continuous(damped, *few, **options)


def test_settings_name_the_methods_with_fixed_steps():
    assert SOLVERS == solvers.FIXED_STEP
    with pytest.raises(UserError, match=r"--solvers must be one of .*; got 'dopri5'"):
        analysis.AnalysisConfig(solvers=("dopri5",))
    with pytest.raises(UserError, match=r"--solver_steps must be from 1 .*; got 0"):
        analysis.AnalysisConfig(solver_steps=(1, 0))
    with pytest.raises(UserError, match="--continuous needs at least one"):
        analysis.AnalysisConfig(continuous=True, solver_steps=())


def test_the_figure_shows_distances_and_shares(result):
    left, right = figures.continuous(result).axes
    *curves, network = left.get_lines()
    np.testing.assert_allclose([c.get_ydata() for c in curves], result.distances)
    mean = result.distance(result.network).mean()
    np.testing.assert_allclose(network.get_ydata(), mean)
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels[0] == f"euler, order {result.orders[0, -1]:.1f}"
    assert labels[-1] == "network"
    assert left.get_xscale() == left.get_yscale() == "log"
    shares = [line.get_ydata() for line in right.get_lines()]
    np.testing.assert_allclose(shares[::2], 100 * result.accuracy(result.logits))
    np.testing.assert_allclose(shares[1::2], 100 * result.agreement(result.logits))


def test_train_analyze_writes_numbers_and_figure(binary, saved, tmp_path):
    others = [name for name in analysis.ANALYSES if name != "continuous"]
    code, out, err = binary(
        "analyze",
        f"--checkpoint={saved}",
        "--continuous",
        *(f"--no{name}" for name in others),
        "--num_examples=5",
        "--solvers=euler,midpoint",
        "--solver_steps=1,2",
        f"--output_dir={tmp_path / 'out'}",
    )
    assert code == 0 and err == ""
    assert "\n| euler, 1 step " in out and "\n| reference " in out
    summary = json.loads((tmp_path / "out" / "analysis.json").read_text())
    rows = summary["analyses"]["continuous"]
    assert rows["euler, 1 step"]["order"] is None
    assert set(rows["midpoint, 2 steps"]) == {
        "mean distance",
        "agreement",
        "accuracy",
        "order",
    }
    assert summary["settings"]["solver_steps"] == [1, 2]
    with PIL.Image.open(tmp_path / "out" / "continuous.png") as image:
        assert image.width > 500
    with np.load(tmp_path / "out" / "continuous.npz") as arrays:
        assert arrays["logits"].shape == (2, 2, 5, 10)
        assert arrays["distances"].shape == arrays["orders"].shape == (2, 2)
