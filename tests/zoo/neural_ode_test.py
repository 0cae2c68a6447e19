"""Networks of continuous depth: limits, bounds, solvers, weights files, errors."""

import keras
import numpy as np
import pytest

import zoo
from inres_tf import solvers
from inres_tf.layers import (
    ConvexPotentialConv2D,
    NeuralODE,
    ResizeChannels,
    SpaceToDepth,
    set_damping_rates,
)
from zoo import neural_ode, presets

SHAPE = (8, 8, 1)
CERTIFIED = ["lip_node_tiny", "damped_node_tiny", "cpl_tiny", "damped_cpl_tiny"]


def tiny(name, **kwargs):
    keras.utils.set_random_seed(3)
    return zoo.get_model(name, input_shape=SHAPE, **kwargs)


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (6, *SHAPE)).astype(np.uint8)


@pytest.mark.parametrize("name", CERTIFIED)
def test_logits_change_by_at_most_the_product_of_the_bounds(name, pixels, rng):
    model = tiny(name, classifier_activation=None)
    for _ in range(3):  # σ is still far below some norms
        model(pixels, training=True)
    bound = 1 / (255 * np.mean(presets.PIXEL_STD))
    for layer in model.layers:
        bound *= layer.lipschitz_bound() if hasattr(layer, "lipschitz_bound") else 1
    kernel = np.asarray(model.get_layer("predictions").kernel)
    bound *= np.linalg.norm(kernel, 2)
    images = pixels.astype("float32")
    others = images + rng.normal(size=images.shape).astype("float32")
    moved = np.linalg.norm(model(images) - model(others), axis=-1)
    distance = np.linalg.norm((images - others).reshape(6, -1), axis=-1)
    assert (moved <= bound * distance * (1 + 1e-4)).all()
    assert (moved > 1e-4 * bound * distance).all()


@pytest.mark.parametrize(
    ("damped", "undamped"),
    [("damped_cpl_tiny", {}), ("damped_node_tiny", {"damping": "none"})],
)
def test_at_rate_0_a_damped_network_is_the_undamped_one(damped, undamped, pixels):
    undamped = tiny(damped if undamped else "cpl_tiny", **undamped)
    damped = tiny(damped)
    weights = {weight.path: weight.numpy() for weight in undamped.weights}
    for weight in damped.weights:
        if weight.name != "k":
            weight.assign(weights[weight.path])
    assert np.abs(np.asarray(damped(pixels)) - undamped(pixels)).max() > 1e-4
    set_damping_rates(damped, 0.0)
    np.testing.assert_allclose(damped(pixels), undamped(pixels), atol=1e-6)


@pytest.mark.parametrize("name", [*CERTIFIED, "node_tiny"])
def test_training_keeps_the_norm_of_the_classifier(name, pixels):
    """Certified networks cannot enlarge a margin by larger weights."""
    model = tiny(name)
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    model.fit(pixels, np.arange(6), epochs=2, verbose=0)
    norms = np.linalg.norm(np.asarray(model.get_layer("predictions").kernel), axis=0)
    if name == "node_tiny":
        assert np.abs(norms - 1).max() > 0.01
    else:
        np.testing.assert_allclose(norms, 1, atol=1e-4)


@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        ("euler", ("euler", 8)),
        ("heun", ("heun", 4)),
        ("rk4", ("rk4", 2)),
        ("exponential_euler", ("exponential_euler", 8)),
        ("dopri5", ("dopri5", 4)),
        ({"method": "rk4", "steps": 7}, ("rk4", 7)),
        (solvers.Solver("midpoint", 3), ("midpoint", 3)),
    ],
)
def test_solvers_by_name_take_equally_many_evaluations(solver, expected):
    found = neural_ode.solver_of(solver, 4)
    assert (found.method, found.steps) == expected


def test_arguments_reach_the_flows():
    model = zoo.NeuralODENet(
        "tiny",
        input_shape=SHAPE,
        solver="dopri5",
        lipschitz=0.7,
        damping=0.3,
        dynamics="orthogonal",
    )
    flows = layers_of(model, NeuralODE)
    assert len(flows) == 2 and model.name == "node_tiny"
    for flow in flows:
        assert flow.solver.method == "dopri5" and flow.damping == 0.3
        assert (flow.dynamics.kind, flow.dynamics.limit) == ("orthogonal", 0.7)
    small = zoo.ConvexPotentialNet(input_shape=SHAPE, damping="exponential")
    blocks = layers_of(small, ConvexPotentialConv2D)
    assert len(blocks) == 12 and {b.damping for b in blocks} == {"exponential"}


def test_trained_gradient_flows_hardly_expand(rng):
    """Whatever training does to the kernels and to λ."""
    keras.utils.set_random_seed(3)
    model = zoo.DampedNODETiny(input_shape=(28, 28, 1))
    flows = layers_of(model, NeuralODE)
    for flow in flows:
        # λ grows by 10.
        keras.optimizers.SGD(10.0).apply([keras.ops.ones(())], [flow.k])
        for kernel in flow.dynamics.trainable_weights:
            kernel.assign(10 * kernel)
    pixels = rng.integers(0, 256, (1, 28, 28, 1)).astype(np.uint8)
    for _ in range(60):
        model(pixels, training=True)
    # Not 1, as power iteration has not converged.
    assert all(flow.lipschitz_bound() <= 1.3 for flow in flows)


def test_xs_has_the_published_number_of_parameters():
    facts = zoo.describe("cpl_xs")
    ratio = facts["trainable_parameters"] / facts["published_parameters"]
    assert ratio == pytest.approx(1, abs=0.01)


def test_images_of_other_sizes_and_values(rng):
    model = zoo.CPLTiny(
        input_shape=(7, 9, 3), include_preprocessing=False, include_top=False
    )
    cells = [layer.output.shape[1:] for layer in layers_of(model, SpaceToDepth)]
    assert cells == [(4, 5, 12), (2, 3, 32)]
    assert [x.channels for x in layers_of(model, ResizeChannels)] == [8, 16]
    assert np.isfinite(model(rng.normal(size=(2, 7, 9, 3)))).all()
    assert "normalization" not in {layer.name for layer in model.layers}


def test_weights_with_and_without_the_top(pixels, tmp_path):
    model = tiny("damped_cpl_tiny", classes=4)
    path = tmp_path / "damped.weights.h5"
    model.save_weights(path)
    same = zoo.DampedCPLTiny(path, input_shape=SHAPE, classes=4)
    np.testing.assert_array_equal(same(pixels), model(pixels))
    inputs = keras.Input(SHAPE)
    on_tensor = zoo.DampedCPLTiny(path, input_tensor=inputs, classes=4)
    np.testing.assert_allclose(on_tensor(pixels), model(pixels), atol=1e-6)
    trunk = zoo.DampedCPLTiny(path, include_top=False, input_shape=SHAPE)
    maps = keras.Model(model.inputs[0], model.get_layer("flatten").input)
    np.testing.assert_allclose(trunk(pixels), maps(pixels), atol=1e-6)
    for kwargs, message in (
        ({"classes": 5}, "are for classes=4"),
        ({"classes": 4, "damping": "none"}, "do not fit"),
        ({"classes": 4, "input_shape": (9, 9, 1)}, "do not fit"),
        ({"classes": 4, "classifier_activation": "relu"}, "must be None or 'softmax'"),
    ):
        with pytest.raises(ValueError, match=message):
            zoo.DampedCPLTiny(path, **{"input_shape": SHAPE, **kwargs})


def test_shipped_weights_are_of_one_flow():
    settings = {"weights": "mnist", "input_shape": (28, 28, 1)}
    for name, value in (("lipschitz", 5.0), ("dynamics", "skew")):
        message = f"for {name}=.*Received: {name}={value!r}"
        with pytest.raises(ValueError, match=message):
            zoo.LipNODETiny(**settings, **{name: value})
    # The solver is free: it only follows the flow more or less closely.
    model = zoo.LipNODETiny(**settings, solver="heun")
    assert model.get_layer("stage1_flow").solver.method == "heun"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.NODETiny(input_shape=(None, None, 3)), "known height and width"),
        (lambda: zoo.NODETiny(input_shape=(8, 8)), "`input_shape` must be"),
        (lambda: zoo.NODETiny(solver="rk5"), "`method` must be one of"),
        (lambda: zoo.NODETiny(lipschitz=-1.0), "`limit` must be None or positive"),
        (lambda: zoo.NODETiny(damping="plain"), "`damping` must be a finite number"),
        (lambda: zoo.NODETiny(dynamics="deep"), "`kind` must be one of"),
        (lambda: zoo.NODETiny(classes=0), "`classes` must be a positive"),
        (lambda: zoo.NODETiny(weights="none.h5"), "`weights` must be None"),
        (lambda: zoo.CPLTiny(damping="plain"), "`damping` must be one of"),
        (lambda: zoo.NeuralODENet("huge"), "`size` must be one of 'tiny'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_solver_is_no_argument_of_convex_potential_networks():
    with pytest.raises(TypeError, match="solver"):
        zoo.CPLTiny(solver="rk4")
