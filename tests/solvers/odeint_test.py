"""Solvers against closed forms, SciPy, finite differences, and themselves."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.integrate import solve_ivp

from inres_tf import solvers
from inres_tf.solvers import fixed_step
from inres_tf.solvers.tableaus import TABLEAUS

# Right-hand sides by components, with NumPy or keras.ops; initial states; the end.
MU = 0.012277471  # mass of the moon, of the Arenstorf orbit


def arenstorf(m, t, x, y, u, v):
    a = ((x + MU) ** 2 + y**2) ** 1.5
    b = ((x - 1 + MU) ** 2 + y**2) ** 1.5
    return (
        u,
        v,
        x + 2 * v - (1 - MU) * (x + MU) / a - MU * (x - 1 + MU) / b,
        y - 2 * u - (1 - MU) * y / a - MU * y / b,
    )


PROBLEMS = {
    "decay": (lambda m, t, x: (-2 * x,), [[1.0], [-3.0]], 3.0),
    "growth with time": (lambda m, t, x: (m.cos(t) * x,), [[1.0], [0.1]], 6.0),
    "oscillator": (lambda m, t, x, v: (v, -4 * x), [[1.0, 0.0], [0.0, 3.0]], 5.0),
    "logistic": (lambda m, t, x: (3 * x * (1 - x),), [[0.01], [1.5]], 4.0),
    "van der Pol": (
        lambda m, t, x, v: (v, 2 * (1 - x**2) * v - x),
        [[2.0, 0.0], [0.1, 0.1]],
        8.0,
    ),
    "Lotka-Volterra": (
        lambda m, t, x, y: (1.5 * x - x * y, x * y - 3 * y),
        [[10.0, 5.0], [1.0, 1.0]],
        6.0,
    ),
    "Arenstorf": (
        arenstorf,
        [[0.994, 0.0, 0.0, -2.00158510637908252240537862224]],
        17.0652165601579625588917206249,
    ),
    "Lorenz": (
        lambda m, t, x, y, z: (
            10 * (y - x),
            x * (28 - z) - y,
            x * y - 8 / 3 * z,
        ),
        [[1.0, 1.0, 1.0], [-3.0, 2.0, 20.0]],
        2.0,
    ),
    "Brusselator": (
        lambda m, t, x, y: (1 + x**2 * y - 4 * x, 3 * x - x**2 * y),
        [[1.5, 3.0], [1.0, 2.0]],
        8.0,
    ),
    "rigid body": (
        lambda m, t, x, y, z: (y * z, -x * z, -0.51 * x * y),
        [[0.0, 1.0, 1.0], [0.5, 0.5, -1.0]],
        10.0,
    ),
    "pendulum": (
        lambda m, t, x, v: (v, -m.sin(x) - 0.1 * v),
        [[3.0, 0.0], [0.5, 1.0]],
        10.0,
    ),
    "Duffing": (
        lambda m, t, x, v: (v, x - x**3 - 0.3 * v + 0.4 * m.cos(1.2 * t)),
        [[1.0, 0.0], [-1.0, 0.5]],
        6.0,
    ),
    "epidemic": (
        lambda m, t, s, i, r: (-2 * s * i, 2 * s * i - 0.5 * i, 0.5 * i),
        [[0.99, 0.01, 0.0], [0.5, 0.5, 0.0]],
        10.0,
    ),
}


def right_hand_side(components):
    """A problem's function (t, x) of batches."""

    def f(t, x):
        parts = ops.split(x, x.shape[1], axis=1)
        t = ops.reshape(t, (-1, 1)) + 0 * parts[0]
        return ops.concatenate(components(ops, t, *parts), axis=1)

    return f


def reference(components, starts, times):
    """SciPy's solutions at the times, (times, batch, components)."""
    solutions = [
        solve_ivp(
            lambda t, x: components(np, t, *x),
            (times[0], times[-1]),
            start,
            "DOP853",
            times,
            rtol=1e-12,
            atol=1e-12,
        ).y.T
        for start in starts
    ]
    return np.stack(solutions, axis=1)


def solve(f, x0, t, method, **options):
    """A compiled `odeint`: states and record as NumPy arrays."""
    compiled = tf.function(lambda x: solvers.odeint(f, x, t, method, **options))
    states, record = compiled(tf.constant(x0, "float64"))
    return states.numpy(), solvers.Record(*(value.numpy() for value in record))


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_adaptive_solution_is_scipys(name):
    components, starts, end = PROBLEMS[name]
    times = [0.0, 0.3 * end, end]
    expected = reference(components, starts, times)
    # Passing the moon amplifies errors ten million times.
    tolerance, amplified = (1e-11, 1e7) if name == "Arenstorf" else (1e-8, 1e3)
    states, record = solve(
        right_hand_side(components),
        starts,
        times,
        "dopri5",
        rtol=tolerance,
        atol=tolerance,
        max_steps=3000,
    )
    scale = 1 + np.abs(expected).max()
    assert record.success.all()
    assert np.abs(states - expected).max() < amplified * tolerance * scale


@pytest.mark.parametrize("method", solvers.ADAPTIVE)
def test_tighter_tolerances_give_smaller_errors_and_more_steps(method):
    components, starts, end = PROBLEMS["pendulum"]
    expected = reference(components, starts, [0.0, end])[-1]
    errors, steps = [], []
    for tolerance in (1e-2, 1e-3, 1e-4):
        states, record = solve(
            right_hand_side(components),
            starts,
            [0.0, end],
            method,
            rtol=tolerance,
            atol=tolerance,
            max_steps=3000,
        )
        errors.append(np.abs(states[-1] - expected).max())
        steps.append(record.accepted.min())
        assert errors[-1] < 300 * tolerance
    assert errors == sorted(errors, reverse=True) and steps == sorted(steps)


def test_robertson_is_too_stiff_and_says_so():
    """The stiff chemical reaction exhausts an explicit method's steps."""

    def robertson(m, t, x, y, z):
        fast = 1e4 * y * z
        slow, square = 0.04 * x, 3e7 * y * y
        return fast - slow, slow - fast - square, square

    f = right_hand_side(robertson)
    starts = [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    states, record = solve(f, starts, [0.0, 1e5], "dopri5", max_steps=100)
    assert record.success.tolist() == [False, True]
    assert record.accepted[0] + record.rejected[0] == 100
    # The last state that it reached, short of the end.
    assert np.isfinite(states).all() and 0.5 < states[-1, 0, 0] < 1
    np.testing.assert_allclose(states[-1, 0].sum(), 1, atol=1e-6)
    np.testing.assert_array_equal(states[-1, 1], 0)


def test_what_remains_of_a_failed_sample_does_not_depend_on_others():
    """Its slope overflows at once; the other sample takes many steps."""
    alone, _ = solve(lambda t, x: x**3, [[1e150]], [0.0, 1.0], "dopri5")
    both, record = solve(lambda t, x: x**3, [[1e150], [0.5]], [0.0, 1.0], "dopri5")
    assert record.success.tolist() == [False, True]
    assert both[-1, 0, 0] == alone[-1, 0, 0] == 1e150
    np.testing.assert_allclose(both[-1, 1], np.sqrt(0.5), rtol=1e-4)


def test_an_infinite_slope_fails_in_the_end():
    states, record = solve(
        lambda t, x: x**2, [[1.0], [0.1]], [0.0, 2.0], "dopri5", max_steps=400
    )
    assert record.success.tolist() == [False, True]
    np.testing.assert_allclose(states[-1, 1], 0.1 / (1 - 0.2), rtol=1e-3)


@pytest.mark.parametrize("method", [*TABLEAUS, "exponential_euler"])
def test_errors_shrink_at_the_order_of_the_method(method):
    """Halving the steps divides the error by 2^order, also for embedded pairs."""
    components, starts, end = PROBLEMS["Duffing"]
    f = right_hand_side(components)
    order, step = 1, fixed_step.exponential_euler_step(f, tf.constant(0.0, "float64"))
    if method in TABLEAUS:
        order = TABLEAUS[method].order
        step = fixed_step.runge_kutta_step(f, TABLEAUS[method])
    expected = reference(components, starts, [0.0, end])[-1]
    times = [tf.constant(t, "float64") for t in (0.0, end)]
    x = tf.constant(starts, "float64")
    # Small enough that the next order does not matter, large enough for rounding.
    base = {1: 800, 2: 200, 3: 100, 4: 120, 5: 40}[order]
    errors = []
    for steps in (base, 2 * base, 4 * base):
        integrate = tf.function(
            lambda x, n=steps: fixed_step.integrate(step, x, times, n)
        )
        (end_state,) = integrate(x)
        errors.append(np.abs(end_state.numpy() - expected).max())
    for coarse, fine in itertools.pairwise(errors):
        assert abs(np.log2(coarse / fine) - order) < 0.25, errors


@pytest.mark.parametrize("name", [n for n, t in TABLEAUS.items() if t.error])
def test_embedded_solutions_are_of_their_order(name):
    """The error estimate of one step shrinks like h^(order of the pair + 1)."""
    tableau = TABLEAUS[name]
    f = right_hand_side(PROBLEMS["Duffing"][0])
    x = tf.constant([[0.3, 0.7]], "float64")
    estimates = []
    for h in (0.02, 0.01):
        h = tf.constant(h, "float64")
        stages = fixed_step.runge_kutta_stages(f, tableau, 0.0 * h, x, h)
        error = fixed_step.combine(tf.zeros_like(x), h, stages, tableau.error)
        estimates.append(np.abs(error.numpy()).max())
    order = np.log2(estimates[0] / estimates[1])
    assert abs(order - (tableau.embedded_order + 1)) < 0.25


@pytest.mark.parametrize("name", TABLEAUS)
def test_tableaus_are_consistent(name):
    tableau = TABLEAUS[name]
    np.testing.assert_allclose(sum(tableau.weights), 1)
    for node, row in zip(tableau.nodes, tableau.matrix):
        np.testing.assert_allclose(sum(row), node, atol=1e-14)
    if tableau.error:
        np.testing.assert_allclose(sum(tableau.error), 0, atol=1e-14)
    assert tableau.first_same_as_last == (name in ("bosh3", "dopri5"))


def test_backwards_in_time_is_the_way_back():
    components, starts, end = PROBLEMS["pendulum"]
    f, options = right_hand_side(components), {"rtol": 1e-9, "atol": 1e-9}
    options["max_steps"] = 2000
    there, _ = solve(f, starts, [0.0, end], "dopri5", **options)
    back, record = solve(f, there[-1], [end, 0.0], "dopri5", **options)
    assert record.success.all()
    np.testing.assert_allclose(back[-1], starts, atol=1e-5)


@pytest.mark.parametrize("method", solvers.METHODS)
def test_damping_is_a_linear_part(method):
    options = {"steps": 400, "rtol": 1e-6, "atol": 1e-6, "max_steps": 2000}
    states, _ = solve(
        lambda t, x: 0 * x + 2.0,
        [[1.0], [5.0]],
        [0.0, 1.5],
        method,
        damping=0.7,
        **options,
    )
    limit = 2 / 0.7
    expected = limit + (np.array([[1.0], [5.0]]) - limit) * np.exp(-0.7 * 1.5)
    # Exponential Euler is exact for a constant f, Euler of order one.
    atol = {"exponential_euler": 1e-12, "euler": 2e-3}.get(method, 1e-5)
    np.testing.assert_allclose(states[-1], expected, atol=atol)


def field(t, x, w):
    """A smooth right-hand side with weights."""
    return tf.tanh(x @ w) - 0.3 * x * ops.sin(t)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("rk4", {"steps": 5}),
        ("midpoint", {"steps": 40}),  # a loop, not unrolled
        ("exponential_euler", {"steps": 3, "damping": 0.4}),
        ("dopri5", {"rtol": 1e-8, "atol": 1e-10}),
        ("bosh3", {"rtol": 1e-8, "atol": 1e-10, "max_steps": 2000}),
    ],
)
@pytest.mark.parametrize("jit", [False, True])
def test_gradients_are_those_of_finite_differences(method, options, jit):
    rng = np.random.default_rng(0)
    w, x, c = (tf.constant(rng.normal(size=s)) for s in ((3, 3), (2, 3), (2, 3)))

    @tf.function(jit_compile=jit)
    def value_and_gradients(w, x):
        with tf.GradientTape() as tape:
            tape.watch([w, x])
            states, _ = solvers.odeint(
                lambda t, x: field(t, x, w), x, [0.0, 0.5, 1.5], method, **options
            )
            loss = tf.reduce_sum(states[1] * c) + tf.reduce_sum(states[2] ** 2)
        return loss, tape.gradient(loss, [w, x])

    _, gradients = value_and_gradients(w, x)
    for number, (point, gradient) in enumerate(zip((w, x), gradients)):
        for index in ((0, 0), (1, 2)):
            move = np.zeros(point.shape)
            move[index] = 1e-5
            ends = []
            for sign in (1, -1):
                moved = [w, x]
                moved[number] = point + sign * move
                ends.append(value_and_gradients(*moved)[0].numpy())
            difference = (ends[0] - ends[1]) / 2e-5
            assert abs(gradient.numpy()[index] - difference) < 1e-6


@pytest.mark.parametrize("method", solvers.METHODS)
def test_a_sample_does_not_depend_on_its_batch(method):
    """One that needs hundreds of steps beside one that needs few."""
    components, _, _ = PROBLEMS["van der Pol"]
    f = right_hand_side(components)
    starts = np.array([[0.01, 0.0], [4.0, 8.0], [2.0, -2.0]], "float32")

    def end(x):
        states, record = solvers.odeint(
            f, x, [0.0, 1.0], method, steps=50, rtol=1e-4, atol=1e-4, max_steps=2000
        )
        return states[-1].numpy(), [np.asarray(value) for value in record]

    together, record = end(starts)
    for i in range(3):
        alone, record_alone = end(starts[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], rtol=0, atol=1e-6)
        assert [value[i] for value in record] == [value[0] for value in record_alone]


def test_the_record_counts_what_f_is_asked():
    calls = []

    def f(t, x):
        calls.append(1)
        return -x

    x = np.ones((2, 3))
    for method, stages in (("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)):
        calls.clear()
        _, record = solvers.odeint(f, x, [0.0, 1.0, 2.0], method, steps=3)
        assert record.evaluations.numpy().tolist() == [6 * stages] * 2
        assert len(calls) == 6 * stages
        assert record.accepted.numpy().tolist() == [6, 6]
    for method in solvers.ADAPTIVE:
        calls.clear()
        x = np.ones((1, 3))
        _, record = solvers.odeint(f, x, [0.0, 1.0], method)
        stages = TABLEAUS[method].stages
        again = stages - TABLEAUS[method].first_same_as_last
        replayed = 1 + int(record.accepted[0]) * again
        assert len(calls) == int(record.evaluations[0]) + replayed


def test_states_of_any_shape_and_type():
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    for method in ("rk4", "dopri5"):
        states, _ = solvers.odeint(lambda t, x: -x * t, images, [0.0, 1.0, 2.0], method)
        assert states.shape == (3, 2, 4, 4, 3) and states.dtype == tf.float32
        np.testing.assert_array_equal(states[0], images)
        np.testing.assert_allclose(states[2], images * np.exp(-2), atol=2e-3)
    whole, _ = solvers.odeint(lambda t, x: -x, np.array([2, 4]), [0.0, 1.0])
    assert keras.backend.standardize_dtype(whole.dtype) == keras.config.floatx()
    np.testing.assert_allclose(whole[1], np.array([2, 4]) * np.exp(-1), rtol=1e-4)


def test_a_saved_model_answers_the_same(tmp_path):
    w = tf.Variable(np.random.default_rng(0).normal(size=(3, 3)).astype("float32"))
    module = tf.Module()
    module.w = w

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def serve(x):
        f = lambda t, x: field(t, x, w)
        states, record = solvers.odeint(f, x, [0.0, 1.0], "dopri5")
        return states[-1], record.success

    module.serve = serve
    tf.saved_model.save(module, tmp_path)
    x = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    loaded = tf.saved_model.load(tmp_path)
    for ours, theirs in zip(serve(x), loaded.serve(x)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "rk5"}, "`method` must be one of 'euler', .* Received: .*'rk5'"),
        ({"steps": 0}, "`steps` must be a positive integer. Received: steps=0"),
        ({"max_steps": 1.5}, "`max_steps` must be a positive integer"),
        ({"rtol": -1.0}, "`rtol` must be finite and at least 0. Received: rtol=-1.0"),
        ({"atol": float("nan")}, "`atol` must be finite"),
        ({"rtol": 0.0, "atol": 0.0}, "must not both be 0"),
        ({"t": [1.0]}, r"at least two times. Received: t of shape \(1,\)"),
        ({"t": 1.0}, r"at least two times. Received: t of shape \(\)"),
        ({"t": [0.0, 0.0, 1.0]}, "`t` must be strictly increasing or decreasing"),
        ({"t": [0.0, 1.0, 0.5]}, "`t` must be strictly increasing or decreasing"),
        ({"steps": None}, "`steps` must be a positive integer. Received: steps=None"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {"x0": np.ones((1, 1)), "t": [0.0, 1.0], "method": "dopri5"} | change
    with pytest.raises(ValueError, match=message):
        solvers.odeint(lambda t, x: -x, **arguments)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("method", "steps"), [("euler", 1000.0), ("heun", 100), ("dopri5", 1)]
)
def test_half_precision_is_integrated_in_float32(method, steps, dtype):
    """In which small steps would vanish; the right-hand side stays in its precision."""
    seen = set()

    def f(t, x):
        seen.update({keras.backend.standardize_dtype(value.dtype) for value in (t, x)})
        return -x

    x0 = ops.ones((2, 1), dtype)
    states, record = solvers.odeint(f, x0, [0.0, 1.0], method, steps=steps)
    assert keras.backend.standardize_dtype(states.dtype) == dtype and seen == {dtype}
    ends = ops.convert_to_numpy(ops.cast(states[-1], "float32"))
    np.testing.assert_allclose(ends, np.exp(-1), rtol=1e-2)
    assert ops.convert_to_numpy(record.success).all()


@pytest.mark.parametrize("damped", [False, True])
def test_numbers_are_not_rounded_to_float32_first(damped):
    """Neither times nor λ, of which 0.1 is not a float32."""
    f, damping = (lambda t, x: 0 * x, 0.1) if damped else (lambda t, x: -x, 0.0)
    times = [0.0, 1.0] if damped else [0.0, 0.1]
    x0 = np.ones((1, 1))
    states, _ = solvers.odeint(f, x0, times, "rk4", steps=200, damping=damping)
    assert float(states[-1, 0, 0]) == pytest.approx(np.exp(-0.1), abs=1e-13)
