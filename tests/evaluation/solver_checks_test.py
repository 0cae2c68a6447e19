"""The checks of solvers, on networks that mask their gradients and on honest ones.

Whether a network is masked is measured without the check, by examples of the network
that it was made from: they fool a masked one far more often than its own PGD examples.
"""

import dataclasses
import functools
import math

import keras
import numpy as np
import pytest
from keras import ops

from inres_tf import attacks, solvers
from inres_tf.data import Images
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.evaluation import (
    EvaluationConfig,
    _solver_checks,
    checks,
    evaluate,
    results,
)
from inres_tf.layers import ConvDynamics, NeuralODE
from inres_tf.models import with_solver
from inres_tf.solvers import Solver

EPS = 24.0


class Oscillating:
    """Adds to dynamics an oscillation in time and in the state, which averages out."""

    amplitude = 0.0

    def field(self, training=False):
        field = super().field(training)
        if not self.amplitude:
            return field

        def f(t, x):
            wave = ops.sin(200.0 * x) * ops.cos(14 * math.pi * t)
            return field(t, x) + self.amplitude * wave

        return f


class Dense(keras.layers.Dense):
    def field(self, training=False):
        return lambda t, x: self(x)


class OscillatingDense(Oscillating, Dense):
    pass


class OscillatingConv(Oscillating, ConvDynamics):
    pass


class Detached(Solver):
    """Returns the state that the step control found, which has no gradient."""

    def solve(self, f, x0, t, damping=0.0):
        states, record = super().solve(f, x0, t, damping)
        return ops.stop_gradient(states), record


class Leaking(Solver):
    """Adds the gradient of a step size that jumps with the state."""

    def solve(self, f, x0, t, damping=0.0):
        states, record = super().solve(f, x0, t, damping)
        size = 0.1 * ops.sin(1000 * x0)
        return states + size - ops.stop_gradient(size), record


class Snapping(Solver):
    """Rounds the states to multiples of the tolerance."""

    def solve(self, f, x0, t, damping=0.0):
        states, record = super().solve(f, x0, t, damping)
        return ops.round(states / self.atol) * self.atol, record


class RandomRounding(Solver):
    """Rounds the states up or down at random."""

    def solve(self, f, x0, t, damping=0.0):
        states, record = super().solve(f, x0, t, damping)
        noise = keras.random.uniform(ops.shape(states))
        return ops.floor(states / 0.3 + noise) * 0.3, record


class RandomPhase(Solver):
    """Perturbs the state by a fast oscillation of a random phase."""

    def solve(self, f, x0, t, damping=0.0):
        phase = keras.random.uniform(ops.shape(x0), 0, 2 * math.pi)
        x0 = x0 + 0.1 * ops.sin(1000 * x0 + phase)
        return super().solve(f, x0, t, damping)


class RandomTimes(Solver):
    """Draws the times of its steps."""

    def solve(self, f, x0, t, damping=0.0):
        parts = 0.1 + keras.random.uniform((self.steps,))
        times = ops.cumsum(parts) / ops.sum(parts) * t[-1]
        times = ops.concatenate([ops.zeros((1,)), times])
        return solvers.odeint(f, x0, times, self.method, steps=1, damping=damping)


def dense_network():
    """Small, and quick to compile."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Rescaling(1 / 128, -1),
            keras.layers.Dense(32),
            flow(OscillatingDense(32, "tanh")),
            keras.layers.Dense(10),
        ]
    )


def conv_network(kind, limit=None, damping=0.0):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, -1),
            keras.layers.Conv2D(6, 3, strides=2, padding="same"),
            flow(OscillatingConv(kind, 8, limit=limit), damping),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def flow(dynamics, damping=0.0):
    solver = Solver("heun", steps=2)
    return NeuralODE(dynamics, solver, damping=damping, name="flow")


BASES = {
    "dense": dense_network,
    "time": functools.partial(conv_network, "time", damping="in"),
    "skew": functools.partial(conv_network, "skew", limit=2.0),
    "potential": functools.partial(conv_network, "potential", damping=0.5),
}


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(100))


@pytest.fixture(scope="module")
def base(digits, few):
    """Function from a kind to a trained network and PGD examples of it."""

    @functools.cache
    def make(kind):
        keras.utils.set_random_seed(list(BASES).index(kind))
        model = BASES[kind]()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
        model.fit(
            digits.train.images,
            digits.train.labels,
            epochs=5,
            batch_size=64,
            verbose=0,
        )
        return model, pgd(model, few)

    return make


def pgd(model, data, **settings):
    settings = {"steps": 20, "step_size": EPS / 8} | settings
    return attacks.pgd(model, data.images, data.labels, EPS, **settings)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A trained network with another solver.

    Attributes:
        kind: the trained network.
        solver: its solver.
        amplitude: amplitude of the fast oscillation of its dynamics.
        scale: factor of its logits.
    """

    kind: str
    solver: Solver
    amplitude: float = 0.0
    scale: float = 1.0

    def of(self, model):
        model = with_solver(model, self.solver)
        model.get_layer("flow").dynamics.amplitude = self.amplitude
        head = model.layers[-1]
        head.set_weights([self.scale * weight for weight in head.get_weights()])
        return model

    def __str__(self):
        tolerance = f" {self.solver.rtol:g}" if self.solver.is_adaptive else ""
        name = f"{type(self.solver).__name__} {self.solver.method}{tolerance}"
        return f"{self.kind} {name} {self.solver.steps} {self.amplitude} {self.scale}"


def adaptive(method, tolerance, solver=Solver):
    return solver(method, rtol=tolerance, atol=tolerance)


MASKED = (
    # Tolerances so coarse that the step control does not see an oscillation.
    Variant("dense", adaptive("heun21", 0.3), amplitude=0.1),
    Variant("dense", adaptive("dopri5", 1.0), amplitude=0.1),
    Variant("time", adaptive("heun21", 0.3), amplitude=0.1),
    Variant("time", adaptive("bosh3", 0.3), amplitude=0.1),
    Variant("skew", adaptive("dopri5", 1.0), amplitude=0.1),
    Variant("skew", adaptive("bosh3", 1.0), amplitude=0.1),
    Variant("potential", adaptive("heun21", 1.0), amplitude=0.1),
    Variant("potential", adaptive("dopri5", 0.3), amplitude=0.1),
    # Step control through which no gradient flows, or a wrong one.
    Variant("dense", adaptive("heun21", 0.1, Detached)),
    Variant("time", adaptive("dopri5", 0.1, Detached)),
    Variant("dense", adaptive("bosh3", 0.1, Snapping)),
    Variant("skew", adaptive("dopri5", 0.1, Snapping)),
    Variant("skew", adaptive("heun21", 0.1, Leaking)),
    Variant("potential", adaptive("bosh3", 0.1, Leaking)),
    # Stochastic solvers.
    Variant("dense", RandomRounding("heun", steps=2)),
    Variant("skew", RandomRounding("rk4", steps=2)),
    Variant("time", RandomPhase("heun", steps=2)),
    Variant("potential", RandomPhase("rk4", steps=2)),
    Variant("skew", RandomTimes("heun", steps=3), amplitude=0.1),
    Variant("potential", RandomTimes("midpoint", steps=3), amplitude=0.1),
)
HONEST = (
    Variant("dense", Solver("heun", steps=2)),
    Variant("dense", Solver("euler", steps=1)),
    Variant("dense", Solver("dopri5")),
    # A coarse tolerance alone masks nothing, and the oscillation not with fine steps.
    Variant("dense", adaptive("heun21", 0.1)),
    Variant("dense", Solver("rk4", steps=60), amplitude=0.1),
    Variant("time", Solver("euler", steps=8)),
    Variant("time", Solver("rk4", steps=4)),
    Variant("time", Solver("midpoint", steps=4)),
    Variant("time", Solver("rk4", steps=2)),
    Variant("time", adaptive("bosh3", 1e-4)),
    Variant("skew", Solver("heun", steps=8)),
    Variant("skew", Solver("exponential_euler", steps=8)),
    Variant("skew", Solver("rk4", steps=1)),
    Variant("skew", adaptive("heun21", 1e-3)),
    Variant("skew", adaptive("dopri5", 0.1)),
    Variant("potential", Solver("midpoint", steps=8)),
    Variant("potential", Solver("exponential_euler", steps=4)),
    Variant("potential", adaptive("bosh3", 1e-2)),
    Variant("potential", Solver("midpoint", steps=60), amplitude=0.1),
    # Its cross-entropy has no gradient, but its solver is not to blame.
    Variant("potential", Solver("heun", steps=2), scale=100.0),
)


QUICK = (MASKED[0], MASKED[8], MASKED[14], HONEST[0], HONEST[1], HONEST[3])


def cases(variants):
    return [
        pytest.param(
            variant,
            id=str(variant),
            marks=() if variant in QUICK else pytest.mark.long,
        )
        for variant in variants
    ]


def measure(variant, base, few):
    """The check's findings, and how many more images are robust to its own PGD."""
    trained, examples = base(variant.kind)
    model = variant.of(trained)
    classifier = compiled_classifier(model, 100)
    clean = classifier.correct(few.images, few.labels)
    own = classifier.correct(pgd(model, few, early_stop=True), few.labels) & clean
    transferred = classifier.correct(examples, few.labels) & clean
    assert clean.mean() > 0.8
    correct = {"clean": clean, results.attack_key(pgd_row(EPS)): own}
    findings = of_solver(model, few, [pgd_row(EPS)], correct)
    return findings, int(own.sum()) - int(transferred.sum())


def pgd_row(eps):
    return {"name": "pgd", "norm": "linf", "eps": eps}


def of_solver(model, data, rows=(), correct=None):
    return checks.of_solver(model, data, rows, correct or {}, EvaluationConfig())


@pytest.mark.parametrize("variant", cases(MASKED))
def test_masked_networks_are_flagged(variant, base, few):
    (_, masking), gap = measure(variant, base, few)
    assert gap >= 20  # of 100
    assert masking["raised"], masking


@pytest.mark.parametrize("variant", cases(HONEST))
def test_honest_networks_are_not_flagged(variant, base, few):
    (_, masking), gap = measure(variant, base, few)
    assert gap <= 5 or variant.scale > 1
    assert not masking["raised"], masking


def test_twenty_of_each():
    assert len(set(MASKED)) == len(set(HONEST)) == 20


def test_the_finding_says_which_tests_fired_and_what_to_do(base, few, monkeypatch):
    """With the numbers of images that two attacks alone fool given."""
    model = base("dense")[0]
    counts = {"transfer": 12, "square": 7}
    monkeypatch.setattr(_solver_checks, "_missed", lambda *_: counts)
    correct = {"clean": np.ones(100, bool)}
    correct[results.attack_key(pgd_row(8.0))] = np.arange(100) < 60
    _, masking = of_solver(model, few, [pgd_row(8.0)], correct)
    assert masking["value"] == {"randomness": 0.0, "transfer": 0.12, "square": 0.07}
    assert "12 of 100 images" in masking["message"] and "ε = 8" in masking["message"]
    assert "PGD on the network solved by 20 steps of rk4" in masking["message"]
    assert "with_solver" in masking["message"] and "Square" not in masking["message"]
    counts |= {"transfer": 7}
    assert not of_solver(model, few, [pgd_row(8.0)], correct)[1]["raised"]


def test_the_radius_that_fools_about_half_of_the_images_is_checked(
    base, few, monkeypatch
):
    chosen = []
    monkeypatch.setattr(
        _solver_checks, "_missed", lambda *given: chosen.append(given[3]) or {}
    )
    correct = {"clean": np.arange(100) < 90}
    radii = {2.0: 85, 4.0: 60, 8.0: 40, 16.0: 5}
    for eps, number in radii.items():
        correct[results.attack_key(pgd_row(eps))] = np.arange(100) < number
    rows = [pgd_row(eps) for eps in radii] + [pgd_row(12.0) | {"norm": "l2"}]
    correct[results.attack_key(rows[-1])] = np.arange(100) < 45
    of_solver(base("dense")[0], few, rows, correct)
    assert chosen == [8.0]


def test_weak_attacks_alone_do_not_mean_masked_gradients(base, few):
    """Many images that no attack fooled fall to transferred examples, and to APGD."""
    model = base("dense")[0]
    correct = {"clean": compiled_classifier(model, 100).correct(few.images, few.labels)}
    correct[results.attack_key(pgd_row(EPS))] = correct["clean"]
    _, masking = of_solver(model, few, [pgd_row(EPS)], correct)
    assert not masking["raised"]
    assert masking["value"]["transfer"] + masking["value"]["square"] <= 0.02


@pytest.mark.parametrize(
    ("number", "least"), [(1, 2), (2, 2), (20, 4), (100, 8), (1000, 36)]
)
def test_how_many_images_are_beyond_chance(number, least):
    counts = range(number + 2)
    beyond = [_solver_checks.beyond_chance(count, number) for count in counts]
    assert beyond == [count >= least for count in counts]
    tail = [
        math.comb(number, k) * 0.02**k * 0.98 ** (number - k) for k in range(number + 1)
    ]
    assert sum(tail[least:]) < 1e-3 <= sum(tail[least - 1 :]) or number == 1


def test_networks_without_neural_odes_are_not_concerned(trained, few):
    assert of_solver(trained, few) == []


def test_without_attacks_only_passes_and_solvers_are_compared(base, few):
    swap, masking = of_solver(base("dense")[0], few)
    assert (swap["name"], masking["name"]) == ("solver_swap", "solver_masking")
    assert swap["value"] <= 0.02 and not swap["raised"]
    assert masking["value"] == {"randomness": 0.0} and not masking["raised"]


def turning(solver, angle=math.pi):
    """A network of one pixel x, whose equation turns (x, 0) by an angle."""
    turn = keras.layers.Dense(2, use_bias=False)
    layers = [
        keras.layers.Rescaling(1 / 128, -1),
        keras.layers.Dense(2, use_bias=False),
        NeuralODE(turn, solver),
        keras.layers.Flatten(),
        keras.layers.Dense(2, use_bias=False),
    ]
    model = keras.Sequential([keras.Input((1, 1, 1)), *layers])
    turn = [[0.0, angle], [-angle, 0.0]]
    weights = [[[1.0, 0.0]], turn, [[1.0, -1.0], [0.0, 0.0]]]
    model.set_weights([np.array(weight) for weight in weights])
    return model


@pytest.mark.parametrize(
    ("solver", "angle", "changed"),
    [
        (Solver("rk4", steps=8), math.pi, False),
        (Solver("dopri5"), 2 * math.pi, False),
        # x + h f(x), f(x) orthogonal to x, stays on the side of x.
        (Solver("euler", steps=1), math.pi, True),
        # A step of Heun multiplies x by 1 - (angle of the step)² / 2.
        (Solver("heun", steps=1), 2 * math.pi, True),
    ],
)
def test_steps_that_are_too_coarse_for_the_equation(solver, angle, changed):
    """The equation moves all x to the other side, or all to where they were."""
    pixels = np.linspace(0, 255, 40).reshape(40, 1, 1, 1)
    data = Images(pixels, np.zeros(40, np.int64))
    swap, _ = of_solver(turning(solver, angle), data)
    assert swap["value"] == changed == swap["raised"]
    if changed:
        assert "40 of 40 predictions change" in swap["message"]
        assert solver.method in swap["message"]


def test_a_network_that_has_diverged():
    """Another check reports it."""
    model = turning("rk4")
    model.set_weights([np.nan * weight for weight in model.get_weights()])
    data = Images(np.zeros((4, 1, 1, 1)), np.zeros(4, np.int64))
    assert of_solver(model, data) == []


def test_evaluations_include_the_checks(base, few):
    config = EvaluationConfig(attacks=(), corruptions=(), check_examples=20)
    result = evaluate(base("dense")[0], few, config, progress=False)
    names = [finding["name"] for finding in result["checks"]]
    assert {"solver_swap", "solver_masking"} < set(names)
    assert len(names) == len(set(names))
