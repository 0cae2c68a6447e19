import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import inres_tf
import zoo
from inres_tf import class_names
from inres_tf.layers import DampedAdd, NeuralODE, damping_rates
from inres_tf.models import as_neural_ode, logits_fn
from inres_tf.models.residuals import additions

PIXELS = (4, 8, 8, 1)


@pytest.fixture
def pixels(rng):
    return rng.uniform(0, 255, PIXELS).astype(np.float32)


@pytest.fixture
def network(rng):
    """Function that makes a residual network with random statistics and λ = 0.4."""

    def make(damping, name="resnet8"):
        model = zoo.get_model(name, input_shape=PIXELS[1:])
        for weight in model.weights:
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.name in ("beta", "moving_mean"):
                weight.assign(rng.normal(0, 0.3, weight.shape))
        if name == "resnet8":
            model = inres_tf.damp(model, damping)
        inres_tf.layers.set_damping_rates(model, 0.4)
        return model

    return make


def odes(model):
    return [x for x in model._flatten_layers() if isinstance(x, NeuralODE)]


def logits(model, pixels):
    return np.asarray(logits_fn(model)(pixels), np.float64)


def slope(model, pixels, method, counts, reference):
    """The observed order of convergence between numbers of steps."""
    errors = [
        np.linalg.norm(logits(solved(model, method, n), pixels) - reference)
        for n in counts
    ]
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


def solved(model, method, steps):
    return as_neural_ode(model, {"method": method, "steps": steps})


@pytest.mark.parametrize(
    ("damping", "rate", "method"),
    [
        ("none", 0.0, "euler"),
        ("in", 0.4, "euler"),
        ("lambda_in", 0.4, "euler"),
        ("plain", 1.0, "euler"),
        ("exponential", 0.4, "exponential_euler"),
    ],
)
def test_one_step_is_the_network(network, pixels, damping, rate, method):
    model = network(damping)
    expected = logits(model, pixels)
    scale = np.abs(expected).max()
    for ode in (as_neural_ode(model), solved(model, method, 1)):
        # The other two blocks change the shape.
        (layer,) = odes(ode)
        assert layer.name == "stage1_block1_merge"
        assert (layer.solver.method, layer.solver.steps) == (method, 1)
        assert float(layer.rate) == pytest.approx(rate)
        np.testing.assert_allclose(logits(ode, pixels), expected, atol=1e-5 * scale)
    other = logits(solved(model, "rk4", 2), pixels)
    assert np.abs(other - expected).max() > 1e-2 * scale


def test_one_step_is_the_in_resnet20(network, pixels):
    model = network("in", "in_resnet20")
    ode = as_neural_ode(model)
    # The first blocks of stages 2 and 3 change the shape.
    assert [layer.name for layer in odes(ode)] == [
        f"stage{stage}_block{block}_merge"
        for stage, block in [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 2), (3, 3)]
    ]
    assert [float(layer.rate) > 0 for layer in odes(ode)] == [False] + 6 * [True]
    expected = logits(model, pixels)
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(logits(ode, pixels), expected, atol=tolerance)


def test_weights_are_copied(network):
    model = network("in")
    ode = as_neural_ode(model)

    def by_shape(model):
        groups = {}
        for weight in model.weights:
            groups.setdefault(weight.shape, []).append(np.asarray(weight).tolist())
        return {shape: sorted(values) for shape, values in groups.items()}

    assert by_shape(ode) == by_shape(model)
    np.testing.assert_allclose(
        list(damping_rates(ode).values()), list(damping_rates(model).values())
    )
    before = [np.asarray(weight) for weight in model.weights]
    for weight in ode.weights:
        weight.assign(weight + 1)
    for old, weight in zip(before, model.weights):
        np.testing.assert_array_equal(old, weight)


def smooth(damping, blocks=1):
    """A float64 network of damped blocks with tanh, all with λ = 0.3."""
    keras.utils.set_random_seed(0)
    options = {"dtype": "float64"}
    x = inputs = keras.Input((5,), dtype="float64")
    for _ in range(blocks):
        y = layers.Dense(8, "tanh", **options)(x)
        y = layers.Dense(5, **options)(y)
        x = DampedAdd(damping, **options)([x, y])
    model = keras.Model(inputs, layers.Dense(3, **options)(x))
    inres_tf.layers.set_damping_rates(model, 0.3)
    return model


@pytest.mark.parametrize("damping", ["in", "lambda_in", "exponential"])
def test_smooth_networks_converge_at_the_order_of_the_method(rng, damping):
    model, x = smooth(damping), rng.normal(size=(4, 5))
    reference = logits(solved(model, "rk4", 32), x)
    orders = {"euler": 1, "heun": 2, "rk4": 4, "exponential_euler": 1}
    for method, order in orders.items():
        found = slope(model, x, method, (4, 8), reference)
        assert found == pytest.approx(order, abs=0.2), method


def test_the_limit_is_that_of_the_equation(rng):
    """SciPy solves dx/dt = (1 + λ) f(x) - λ x of each block of a λ-In-ResNet."""
    from scipy.integrate import solve_ivp

    model, x = smooth("lambda_in", blocks=2), rng.normal(size=(1, 5))
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    *branches, (w, b) = [layer.get_weights() for layer in dense]
    state = x[0]
    for (w1, b1), (w2, b2) in zip(branches[::2], branches[1::2]):

        def f(t, y, w1=w1, b1=b1, w2=w2, b2=b2):
            return 1.3 * (np.tanh(y @ w1 + b1) @ w2 + b2) - 0.3 * y

        state = solve_ivp(f, (0, 1), state, rtol=1e-10, atol=1e-12).y[:, -1]
    expected = [state @ w + b]
    found = logits(solved(model, "rk4", 16), x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    adaptive = as_neural_ode(model, {"method": "dopri5", "rtol": 1e-4})
    np.testing.assert_allclose(logits(adaptive, x), expected, rtol=1e-3)


def test_networks_with_relu_converge_at_first_order(network, pixels):
    model = network("in")
    reference = logits(solved(model, "rk4", 32), pixels)
    order = slope(model, pixels, "euler", (4, 8), reference)
    assert order == pytest.approx(1, abs=0.15)


def test_the_names_of_the_classes_are_kept(network):
    model = network("in")
    class_names.assign(model, tuple("abcdefghij"))
    assert class_names.of(as_neural_ode(model)) == tuple("abcdefghij")


def test_saved_networks_compute_the_same(network, pixels, tmp_path):
    ode = solved(network("lambda_in"), "heun", 3)
    ode.save(tmp_path / "ode.keras")
    loaded = keras.models.load_model(tmp_path / "ode.keras")
    np.testing.assert_array_equal(ode(pixels), loaded(pixels))
    assert damping_rates(loaded) == damping_rates(ode)


def test_gradients_are_the_same(network, pixels):
    """So that attacks find the same images."""
    model, images = network("in"), tf.constant(pixels)
    gradients = []
    for each in (model, as_neural_ode(model)):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(logits_fn(each)(images)[:, 0])
        gradients.append(tape.gradient(loss, images))
    scale = np.abs(gradients[0]).max()
    np.testing.assert_allclose(*gradients, atol=1e-5 * scale)
    assert scale > 0


def test_training_keeps_the_moving_averages(network, pixels):
    ode = as_neural_ode(network("in"))
    ode.compile("sgd", "sparse_categorical_crossentropy")
    branches = [layer.dynamics for layer in odes(ode)]

    def averages():
        return [np.asarray(w) for b in branches for w in b.non_trainable_weights]

    before, rates = averages(), damping_rates(ode)
    kernels = [np.asarray(b.trainable_weights[0]) for b in branches]
    ode.fit(pixels, np.arange(4), verbose=0)
    for old, new in zip(before, averages(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(damping_rates(ode)[name] != rate for name, rate in rates.items())
    for old, branch in zip(kernels, branches):
        assert not np.array_equal(old, branch.trainable_weights[0])


def test_fixed_rates_stay_fixed(rng):
    inputs = keras.Input((3,))
    initializer = keras.initializers.Constant(0.75)
    merge = DampedAdd("in", initializer, trainable=False, name="merge")
    model = keras.Model(inputs, merge([inputs, layers.Dense(3)(inputs)]))
    (layer,) = odes(as_neural_ode(model))
    assert layer.damping == pytest.approx(0.25) and layer.k is None


def test_blocks_in_nested_models_and_in_either_order(rng):
    """x + f(x) within a nested model, f(x) + x by the operator, and shared layers."""
    inner_inputs = keras.Input((3,))
    dense = layers.Dense(3, "tanh")
    inner = layers.Add(name="inner_merge")([dense(inner_inputs), inner_inputs])
    inner = keras.Model(inner_inputs, inner, name="inner")
    shared, merge = layers.Dense(3, "tanh"), layers.Add(name="twice")
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3), inner, layers.Dense(3)]
    )
    inputs = keras.Input((3,))
    x = model(inputs)
    x = merge([x, shared(x)])
    x = merge([x, shared(x)])
    x = shared(x) + x
    model = keras.Model(inputs, x)
    ode = as_neural_ode(model)
    names = [layer.name for layer in odes(ode)]
    assert names[:3] == ["inner_merge", "twice", "twice_2"] and len(names) == 4
    values = rng.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(ode(values), model(values), atol=1e-6)
    first = odes(ode)[1].dynamics.layers[-1].kernel
    assert first is not odes(ode)[2].dynamics.layers[-1].kernel


def test_blocks_without_a_limit_are_kept(rng):
    """Projections, branches that use other tensors, and branches that others use."""
    inputs = keras.Input((3,))
    x = layers.Dense(3)(inputs)
    projected = layers.Add(name="projected")([layers.Dense(3)(x), x])
    hidden = layers.Dense(3)(projected)
    other = layers.Add(name="other")([hidden, inputs])
    tapped = layers.Add(name="tapped")([projected, hidden])
    block = layers.Add(name="block")([tapped, layers.Dense(3)(tapped)])
    model = keras.Model(inputs, layers.Concatenate()([block, other]))
    assert {a.name for a in additions(model) if not a.reason} >= {"tapped", "block"}
    ode = as_neural_ode(model)
    assert {"projected", "block"} == {layer.name for layer in odes(ode)}
    assert isinstance(ode.get_layer("tapped"), layers.Add)
    values = rng.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(ode(values), model(values), atol=1e-6)


def test_half_precision_survives_a_float32_copy(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = zoo.ResNet8(input_shape=PIXELS[1:])
    finally:
        keras.config.set_dtype_policy("float32")
    pixels = rng.uniform(0, 255, PIXELS).astype(np.float32)
    ode = as_neural_ode(model)
    assert odes(ode)[0].compute_dtype == "bfloat16"
    expected = logits(inres_tf.models.in_float32(model), pixels)
    found = logits(inres_tf.models.in_float32(ode), pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_networks_without_blocks_are_rejected():
    inputs = keras.Input((3,))
    dense = keras.Model(inputs, layers.Dense(3)(inputs), name="dense")
    with pytest.raises(ValueError, match="must have a residual block.*dense without"):
        as_neural_ode(dense)
    x = layers.Dense(3)(inputs)
    y = layers.Add()([x, layers.Dense(3)(layers.Dense(3)(inputs))])
    with pytest.raises(ValueError, match="must have a residual block"):
        as_neural_ode(keras.Model(inputs, y))

    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="subclassed model"):
        as_neural_ode(Subclassed())


def test_unknown_solvers_are_rejected(network):
    with pytest.raises(ValueError, match="`method` must be one of"):
        as_neural_ode(network("in"), "leapfrog")
