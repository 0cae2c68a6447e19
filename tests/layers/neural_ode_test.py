"""Neural ODEs: their limits, their bounds against Jacobians, and their errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from inres_tf import solvers
from inres_tf.layers import ConvDynamics, NeuralODE
from inres_tf.layers.neural_ode import KINDS

SHAPE = (4, 4, 2)


def built(kind="plain", solver="rk4", scale=1.0, **settings):
    """A layer with random kernels and biases."""
    keras.utils.set_random_seed(1)
    own = {k: settings.pop(k) for k in ("limit", "filters") if k in settings}
    layer = NeuralODE(ConvDynamics(kind, **own), solver, **settings)
    layer.build((None, *SHAPE))
    rng = np.random.default_rng(0)
    for weight in layer.dynamics.trainable_weights:
        weight.assign(scale * rng.normal(size=weight.shape) * 0.3)
    return layer


def images(number=3):
    return np.random.default_rng(1).normal(size=(number, *SHAPE)).astype("float32")


def jacobian_norm(layer, x):
    """The largest norm of the layer's Jacobian at some points."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    size = np.prod(SHAPE)
    jacobians = tape.batch_jacobian(y, x).numpy().reshape(-1, size, size)
    return np.linalg.norm(jacobians.astype(np.float64), 2, axis=(1, 2)).max()


@pytest.mark.parametrize("kind", KINDS)
def test_one_euler_step_is_the_damped_residual_block(kind):
    layer = built(kind, {"method": "euler", "steps": 1}, damping=0.3)
    x = images()
    branch = layer.dynamics(x).numpy()
    np.testing.assert_allclose(layer(x), 0.7 * x + branch, atol=1e-5)
    assert np.abs(branch).max() > 0.1


def test_the_parts_of_the_dynamics_are_the_documented_ones():
    x = images()
    conv = lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME")
    plain = built("plain", filters=5).dynamics
    first, second = (operator.kernel.value for operator in plain.operators)
    expected = conv(tf.nn.relu(conv(x, first) + plain.bias.value), second)
    np.testing.assert_allclose(plain(x), expected, atol=1e-5)
    assert first.shape[-1] == 5
    time = built("time").dynamics
    first, second = (operator.kernel.value for operator in time.operators)
    hidden = conv(x, first) + time.bias.value + 0.7 * time.time_weight.value
    np.testing.assert_allclose(
        time(x, t=0.7), conv(tf.nn.relu(hidden), second), atol=1e-5
    )
    potential = built("potential").dynamics
    kernel = potential.operators[0].kernel.value
    with tf.GradientTape() as tape:
        point = tf.constant(x)
        tape.watch(point)
        energy = tf.nn.relu(conv(point, kernel) + potential.bias.value) ** 2 / 2
        energy = tf.reduce_sum(energy)
    np.testing.assert_allclose(potential(x), -tape.gradient(energy, point), atol=1e-5)
    skew = built("skew").dynamics
    y = images(6)[3:]
    operator = skew.operators[0]
    left = tf.reduce_sum(operator.apply(tf.constant(x)) * y)
    right = tf.reduce_sum(operator.apply(tf.constant(y)) * x)
    np.testing.assert_allclose(left, -right, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", solvers.FIXED_STEP)
def test_the_bound_is_never_below_the_jacobian(kind, method):
    for scale, limit, damping in ((0.5, None, 0.0), (2.0, 1.0, 0.4)):
        solver = {"method": method, "steps": 2}
        layer = built(kind, solver, scale, limit=limit, damping=damping)
        for _ in range(3):  # σ is far from the norm
            layer(images(), training=True)
        bound = layer.lipschitz_bound()
        assert jacobian_norm(layer, 3 * images(8)) <= bound * (1 + 1e-5)
        np.testing.assert_allclose(layer.contraction_rate(), -np.log(bound))


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_gradient_flows_do_not_expand_up_to_their_step_limit(method):
    layer = built("potential", {"method": method, "steps": 1})
    lipschitz = layer.dynamics.lipschitz_bound()
    for h, expands in ((1.99 / lipschitz, False), (4.0 / lipschitz, True)):
        step = NeuralODE(layer.dynamics, layer.solver, t1=h)
        step.build((None, *SHAPE))
        assert (step.lipschitz_bound() > 1 + 1e-4) == expands
        assert expands or jacobian_norm(step, 3 * images(8)) <= 1 + 1e-4


def test_damping_contracts_a_gradient_flow():
    layer = built("potential", {"method": "euler", "steps": 10}, 0.2, damping=0.5)
    assert layer.dynamics.lipschitz_bound() < 10
    bound = layer.lipschitz_bound()
    assert bound == pytest.approx(0.95**10, rel=1e-4)
    assert layer.contraction_rate() > 0.5
    x, y = images(2)[:1], images(2)[1:]
    parted = np.linalg.norm(layer(x) - layer(y)) / np.linalg.norm(x - y)
    assert parted <= bound


def test_a_wrong_bound_would_be_noticed():
    """The test above can fail: half of the bound is below the Jacobian."""
    layer = built("plain", {"method": "euler", "steps": 1}, 0.2)
    assert jacobian_norm(layer, images(8)) > layer.lipschitz_bound() / 2


def test_the_limit_is_kept_after_power_iterations():
    layer = built("plain", {"method": "euler", "steps": 1}, 3.0, limit=1.0)
    assert layer.dynamics.lipschitz_bound() > 2  # σ is 1 still
    for _ in range(100):
        layer(images(), training=True)
    # On images of 4x4 the bound of each convolution is up to a tenth too large.
    assert 0.95 < layer.dynamics.lipschitz_bound() < 1.25
    before = [weight.numpy() for weight in layer.weights]
    layer(images())
    for old, weight in zip(before, layer.weights):
        np.testing.assert_array_equal(old, weight.numpy())


@pytest.mark.parametrize(
    ("kind", "limit", "excess"), [("plain", 4.0, [2, 3]), ("skew", 3.0, [4])]
)
def test_a_penalty_stands_in_for_the_limit(kind, limit, excess):
    dynamics = ConvDynamics(kind, kernel_size=1, limit=limit, penalty=0.1)
    dynamics.build((None, *SHAPE))
    first, *second = dynamics.operators
    rotation = np.array([[0.0, 1.0], [-1.0, 0.0]], "float32")
    # Norms 4 and 5; that of W - Wᵀ is 7.
    first.kernel.assign((4.0 if second else 3.5) * rotation[None, None])
    for operator in second:
        operator.kernel.assign(5.0 * rotation[None, None])
    outputs = dynamics(images(), training=True)
    (*losses,) = (float(loss) for loss in dynamics.losses)
    np.testing.assert_allclose(losses, [0.1 * e**2 for e in excess], rtol=1e-4)
    unlimited = ConvDynamics(kind, kernel_size=1)
    unlimited.build((None, *SHAPE))
    unlimited.set_weights(dynamics.get_weights())
    np.testing.assert_allclose(outputs, unlimited(images()), rtol=1e-5)
    dynamics(images())
    assert not dynamics.losses
    assert ConvDynamics.from_config(dynamics.get_config()).penalty == 0.1


def test_trained_damping_has_gradients():
    layer = built("plain", {"method": "euler", "steps": 3}, damping="in")
    assert 0.20 <= float(layer.rate) <= 0.25
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(images()) ** 2)
    gradient = tape.gradient(loss, layer.k.value)
    assert np.isfinite(gradient) and gradient != 0
    layer.k.assign(1.5)
    assert float(layer.rate) == 0


@pytest.mark.parametrize("method", ["heun", "dopri5"])
def test_training_keeps_the_damping_below_the_overshoot_of_a_step(method):
    layer = built("potential", {"method": method, "steps": 2}, damping="in")
    # λ grows by 10.
    keras.optimizers.SGD(10.0).apply([tf.ones(())], [layer.k])
    limited = method == "heun"
    assert float(layer.rate) == pytest.approx(2 if limited else 10.2, abs=0.05)


@pytest.mark.parametrize("solver", ["rk4", {"method": "dopri5", "rtol": 1e-4}])
def test_a_network_round_trips(solver, tmp_path):
    inputs = keras.Input(SHAPE)
    x = NeuralODE(ConvDynamics("time", filters=3), solver, 0.7, "in")(inputs)
    x = NeuralODE(keras.layers.Conv2D(2, 3, padding="same"), solver, damping=0.1)(x)
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = images()
    expected = model(x)
    np.testing.assert_allclose(loaded(x), expected, atol=1e-6)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(copy(x), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_failures_are_kept_counted_or_raised():
    solver = {"method": "dopri5", "rtol": 1e-6, "atol": 1e-6, "max_steps": 15}

    class Fast(keras.layers.Layer):
        def call(self, x):
            return 50.0 * keras.ops.sin(20.0 * x)

    x = np.stack([np.zeros(2), np.ones(2)]).astype("float32")
    kept = NeuralODE(Fast(), solver)
    assert np.isfinite(kept(x)).all()
    counting = NeuralODE(Fast(), solver, on_failure="count")
    counting(x), counting(x)
    assert float(counting.failures) == 2
    raising = NeuralODE(Fast(), solver, on_failure="raise")
    with pytest.raises(ArithmeticError, match="limit of 15 steps for 1 samples"):
        raising(x)
    compiled = tf.function(raising)(x).numpy()
    assert np.isnan(compiled[1]).all() and np.isfinite(compiled[0]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConvDynamics("deep"), "`kind` must be one of 'plain'"),
        (lambda: ConvDynamics(limit=0.0), "`limit` must be None or positive"),
        (lambda: ConvDynamics(penalty=1.0), "`penalty` needs a `limit`"),
        (lambda: ConvDynamics("orthogonal", limit=1, penalty=1), "other than 'orth"),
        (lambda: NeuralODE(ConvDynamics(), t1=0), "`t1` must be positive"),
        (lambda: NeuralODE(ConvDynamics(), damping=-1), "`damping` must be a finite"),
        (lambda: NeuralODE(ConvDynamics(), damping="lambda_in"), "or 'in'. Received"),
        (lambda: NeuralODE(ConvDynamics(), "rk5"), "`method` must be one of"),
        (lambda: NeuralODE(ConvDynamics(), {"order": 3}), "`solver` must be the name"),
        (lambda: NeuralODE(ConvDynamics(), on_failure="?"), "`on_failure` must be"),
        (lambda: built(solver="dopri5").lipschitz_bound(), "adapts its step size"),
        (
            lambda: NeuralODE(keras.layers.Dense(2)).lipschitz_bound(),
            "Dense has no `lipschitz_bound`",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_dynamics_of_another_size_are_refused():
    dynamics = ConvDynamics(limit=1.0)
    dynamics(np.zeros((1, 2, 2, 1)))
    message = r"was built for states of shape \(2, 2, 1\).*\(None, 8, 8, 1\)"
    with pytest.raises(ValueError, match=message):
        NeuralODE(dynamics)(keras.Input((8, 8, 1)))
    layer = NeuralODE(dynamics)
    layer(np.zeros((1, 2, 2, 1)))
    with pytest.raises(ValueError, match="incompatible"):
        layer(np.zeros((1, 8, 8, 1)))
