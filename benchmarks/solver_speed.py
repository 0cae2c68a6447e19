r"""How fast the solvers are, compared with their own function evaluations and diffrax.

python benchmarks/solver_speed.py --output=docs/benchmarks_solvers.md

Each contender runs in a process of its own, and they take turns; see `measure` for the
method. JAX and diffrax are measured if they are installed.
"""

import functools
import importlib.util
import os
import statistics
import sys

import contenders
import environment  # noqa: F401
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 64, "States per batch.")
flags.DEFINE_integer("side", 16, "Height and width of the states.")
flags.DEFINE_integer("channels", 32, "Channels of the states.")
flags.DEFINE_integer("steps", 8, "Steps of RK4.")
flags.DEFINE_integer("units", 64, "Dimensions of the problem for JAX.")
flags.DEFINE_integer("rounds", 9, "Rounds of every comparison.")
flags.DEFINE_string("output", None, "Markdown file to write, as well as stdout.")
flags.DEFINE_string("contender", None, "Used by the script to start its contenders.")
# Goals: the largest ratios.
GOALS = {"rk4": 1.05, "dopri5": 1.15, "diffrax": 1.0}
TOLERANCE = {"rtol": 1e-3, "atol": 1e-6}


def convolutional(name: str, gradient: bool):
    """A solver, or its function evaluations alone, on convolutional dynamics."""
    import keras
    import numpy as np
    import tensorflow as tf

    from inres_tf import solvers
    from inres_tf.layers import ConvDynamics

    keras.utils.set_random_seed(0)
    shape = (FLAGS.batch_size, FLAGS.side, FLAGS.side, FLAGS.channels)
    layer = ConvDynamics("plain")
    layer.build(shape)
    f = layer.field()
    x = tf.constant(np.random.default_rng(0).normal(size=shape), "float32")
    method = name.split("_")[0]
    solve = functools.partial(
        solvers.odeint, f, t=(0.0, 1.0), method=method, steps=FLAGS.steps, **TOLERANCE
    )
    if name.endswith("solver"):
        compute = lambda x: solve(x)[0][-1]
    else:
        search, replay = 4 * FLAGS.steps, 0
        if method == "dopri5":
            # The loop goes on until the last sample is done.
            record = solve(x)[1]
            steps = np.asarray(record.accepted + record.rejected).max()
            search, replay = 2 + 6 * int(steps), 1 + 6 * int(max(record.accepted))

        def compute(x):
            if replay:
                y = tf.stop_gradient(x)
                for _ in range(search):
                    y = y + 1e-3 * f(0.0, y)
                x = x + 0.0 * tf.reduce_mean(y)
            for _ in range(replay or search):
                x = x + 1e-3 * f(0.0, x)
            return x

    def run(x):
        if not gradient:
            return compute(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = compute(x)
        return tape.gradient(y, [x, *layer.trainable_weights])[0]

    compiled = tf.function(run)
    return lambda: compiled(x).numpy()


def with_jax(name: str, gradient: bool):
    """The same problem under JAX, by `odeint` or diffrax."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import jax.numpy as jnp
    import numpy as np

    units = FLAGS.units
    rng = np.random.default_rng(0)
    first, second = (
        jnp.asarray(rng.normal(size=(units, units)) / units**0.5, "float32")
        for _ in "12"
    )
    x = jnp.asarray(rng.normal(size=(FLAGS.batch_size, units)), "float32")
    f = lambda t, x, weights: jnp.tanh(x @ weights[0]) @ weights[1] - x

    if name == "jax_solver":
        from inres_tf import solvers

        def solve(x, weights):
            slope = lambda t, x: f(t, x, weights)
            states, _ = solvers.odeint(slope, x, (0.0, 4.0), "dopri5", **TOLERANCE)
            return states[-1]
    else:
        import diffrax

        term, method = diffrax.ODETerm(f), diffrax.Dopri5()
        controller = diffrax.PIDController(**TOLERANCE)

        def one(x, weights):
            solution = diffrax.diffeqsolve(
                term,
                method,
                0.0,
                4.0,
                None,
                x,
                weights,
                stepsize_controller=controller,
                max_steps=256,
            )
            return solution.ys[-1]

        solve = jax.vmap(one, in_axes=(0, None))

    loss = lambda x, weights: (solve(x, weights) ** 2).sum()
    run = jax.jit(jax.grad(loss, argnums=(0, 1)) if gradient else solve)
    weights = (first, second)
    return lambda: jax.block_until_ready(run(x, weights))


def contend(name: str) -> None:
    """Runs one contender."""
    kind, gradient = name.rsplit("_", 1)
    make = with_jax if kind in ("jax_solver", "diffrax") else convolutional
    contenders.answer(make(kind, gradient == "gradient"))


def row(what: str, names: list[str], goal: float) -> list[str]:
    """A row of the table: medians of two contenders and their ratio."""
    import measure

    commands = {name: [*sys.argv, f"--contender={name}"] for name in names}
    seconds = contenders.compare(commands, FLAGS.rounds, what)
    medians = [f"{1e3 * statistics.median(seconds[name]):.1f} ms" for name in names]
    ratio = measure.ratios(*(seconds[name] for name in names))
    return [what, *medians, measure.verdict(ratio, goal)]


def main(_) -> None:
    """Runs a contender, or measures them all."""
    if FLAGS.contender:
        contend(FLAGS.contender)
        return
    import measure

    from inres_tf import markdown

    rows = []
    for method in ("rk4", "dopri5"):
        for mode in ("forward", "gradient"):
            names = [f"{method}_solver_{mode}", f"{method}_calls_{mode}"]
            rows.append(row(f"{method}, {mode}", names, GOALS[method]))
    text = markdown.table(["solver", "`odeint`", "its evaluations", "ratio"], rows)
    if all(importlib.util.find_spec(name) for name in ("jax", "diffrax")):
        rows = [
            row(
                f"dopri5, {mode}",
                [f"jax_solver_{mode}", f"diffrax_{mode}"],
                GOALS["diffrax"],
            )
            for mode in ("forward", "gradient")
        ]
        header = ["solver under JAX", "`odeint`", "diffrax, vmap", "ratio"]
        text += "\n\n" + markdown.table(header, rows)
    else:
        text += "\n\nJAX and diffrax were not installed."
    introduction = measure.METHOD.format(rounds=FLAGS.rounds)
    state = f"{FLAGS.batch_size} states of {FLAGS.side}×{FLAGS.side}×{FLAGS.channels}"
    measure.write(
        f"""# Benchmarks of the solvers

`python benchmarks/solver_speed.py --output=docs/benchmarks_solvers.md`;
{measure.machine()}.

{introduction} Each contender runs in a process of its own.

Above, {state}, right-hand side
`ConvDynamics("plain")`, RK4 with {FLAGS.steps} steps. "Its evaluations" calls the
right-hand side as often, one call after the other in one compiled function; an adaptive
method evaluates it once to find its steps and once more in the replay. Under JAX,
{FLAGS.batch_size} states of {FLAGS.units} dimensions, a network of two layers, both
with a step size of its own for each state.

{text}
""",
        FLAGS.output,
    )


if __name__ == "__main__":
    app.run(main)
