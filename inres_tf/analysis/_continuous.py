"""A network in continuous time: how its blocks converge with the solver's steps."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf import solvers
from inres_tf.analysis import compiled
from inres_tf.distribution.classifier import is_correct
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.errors import UserError
from inres_tf.models.continuous import as_neural_ode, residual_blocks
from inres_tf.models.logits import logits_fn
from inres_tf.models.solver_swap import neural_odes
from inres_tf.progress import bar

if TYPE_CHECKING:
    import keras

# Relative distances below it may be rounding errors of float32.
ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class Continuous:
    """Logits of n images, by m methods with s numbers of steps per block.

    Attributes:
        methods: names of the methods.
        steps: numbers of steps per block, ascending, (s,).
        logits: logits by method and number of steps, (m, s, n, classes).
        network: logits of the network itself, (n, classes).
        reference: logits of the accurate solution, (n, classes).
        labels: true classes, (n,).
    """

    methods: tuple[str, ...]
    steps: np.ndarray
    logits: np.ndarray
    network: np.ndarray
    reference: np.ndarray
    labels: np.ndarray

    def distance(self, logits: np.ndarray) -> np.ndarray:
        """L2 distance of logits to the reference, relative to its norm.

        Args:
            logits: logits of the images, (..., n, classes).

        Returns:
            Distances, (..., n); nan where the reference is 0.
        """
        reference = self.reference.astype(np.float64)
        differences = np.linalg.norm(logits - reference, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return differences / np.linalg.norm(reference, axis=-1)

    def agreement(self, logits: np.ndarray) -> np.ndarray:
        """Share of images with the reference's class, for logits (..., n, classes)."""
        finite = np.isfinite(self.reference).all(-1)
        return (is_correct(logits, self.reference.argmax(-1)) & finite).mean(-1)

    def accuracy(self, logits: np.ndarray) -> np.ndarray:
        """Share of images with the true class, for logits (..., n, classes)."""
        return is_correct(logits, self.labels).mean(-1)

    @property
    def distances(self) -> np.ndarray:
        """Mean of `distance` over the images, (m, s)."""
        return self.distance(self.logits).mean(-1)

    @property
    def orders(self) -> np.ndarray:
        """Observed orders of convergence, (m, s).

        The order at n steps is log(d / d_n) / log(n / k), where d is the mean distance
        at the next smaller number of steps k. It is nan for the first number, and where
        the distance is below 1e-5, which may be rounding.
        """
        means = self.distances
        means = np.where(means > ROUNDING, means, np.nan)
        orders = np.full_like(means, np.nan)
        orders[:, 1:] = -np.diff(np.log(means)) / np.diff(np.log(self.steps))
        return orders

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        derived = {"distances": self.distances, "orders": self.orders}
        return {**dataclasses.asdict(self), **derived}

    def summary(self) -> dict[str, dict[str, float]]:
        """Distance, agreement and accuracy of the network, each solver and the limit.

        `order` is the observed order of convergence; see `orders`.
        """

        def row(logits, order=np.nan):
            return {
                "mean distance": self.distance(logits).mean(),
                "agreement": self.agreement(logits),
                "accuracy": self.accuracy(logits),
                "order": order,
            }

        rows = {"network": row(self.network)}
        for method, by_steps, orders in zip(self.methods, self.logits, self.orders):
            for steps, logits, order in zip(self.steps, by_steps, orders):
                unit = "step" if steps == 1 else "steps"
                rows[f"{method}, {steps} {unit}"] = row(logits, order)
        return {**rows, "reference": row(self.reference)}


def continuous(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    solvers: Sequence[str] = ("euler", "heun", "rk4"),
    solver_steps: Sequence[int] = (1, 2, 4, 8, 16, 32),
    batch_size: int = 250,
    progress: bool = False,
) -> Continuous:
    """Distance of a network to its continuous limit, by solver and number of steps.

    The residual blocks become neural ODEs with the same weights; see
    `inres_tf.models.as_neural_ode`. Neural ODEs that the network has already are solved
    in the same ways. The reference is RK4 with four times the most steps.

    One Euler step per block is the network itself (one exponential Euler step if the
    damping is exponential). With more steps a method converges at its order where the
    branches are smooth. Those of the zoo are only piecewise smooth: at the kinks of
    their ReLUs a method of high order may converge no faster than at order 2. Distances
    around 1e-6 are rounding errors of float32.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        solvers: names of fixed-step methods; see `inres_tf.solvers.odeint`.
        solver_steps: numbers of steps per block, in any order.
        batch_size: number of images per batch; results do not depend on it.
        progress: whether to show a progress bar.

    Returns:
        A `Continuous`.

    Raises:
        UserError: if the model has neither a residual block with an identity shortcut
            nor a `NeuralODE`.
        ValueError: if the logits cannot be found or an argument is invalid.

    Example:
        >>> import keras
        >>> from inres_tf import analysis, data, layers
        >>> inputs = keras.Input((8, 8, 1))
        >>> x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
        >>> branch = keras.layers.Conv2D(4, 3, padding="same")(x)
        >>> x = keras.layers.Flatten()(layers.DampedAdd("in")([x, branch]))
        >>> model = keras.Model(inputs, keras.layers.Dense(10)(x))
        >>> test = data.load("digits").test.take(slice(2))
        >>> result = analysis.continuous(
        ...     model, test.images, test.labels, solvers=["euler"], solver_steps=[1, 8])
        >>> bool(result.distances[0, 0] > 4 * result.distances[0, 1])
        True

    Reference:
        Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, section
        II.3, and II.6 for kinks. The interpolation: Yang et al., Interpolation between
        Residual and Non-Residual Networks, ICML 2020, section 3.
    """
    _check(solvers, solver_steps)
    model, images, labels = compiled.prepare(model, images, labels)
    require_limit(model)
    ode = as_neural_ode(model) if residual_blocks(model) else model
    compiled_for = functools.cache(functools.partial(_compile, ode))
    counts = np.unique(np.asarray(solver_steps, int))
    settings = [(method, steps) for method in solvers for steps in counts]
    settings.append(("rk4", 4 * counts[-1]))
    logits = [
        compiled.in_batches(compiled_for(method), [images], batch_size, steps)
        for method, steps in bar(settings, "continuous", "solver", disable=not progress)
    ]
    *by_setting, reference = logits
    shape = (len(solvers), len(counts), *reference.shape)
    return Continuous(
        methods=tuple(solvers),
        steps=counts,
        logits=np.reshape(by_setting, shape),
        network=compiled.logits(model, images, batch_size),
        reference=reference,
        labels=labels,
    )


def require_limit(model: keras.Model) -> None:
    """Raises UserError if nothing in the model can be solved by other solvers."""
    if not residual_blocks(model) and not neural_odes(model):
        raise UserError(
            f"model {model.name} has neither a residual block with an identity "
            "shortcut nor a NeuralODE, so it has no continuous limit; leave out "
            "--continuous"
        )


def _check(methods, counts):
    """Raises ValueError if the solvers or the numbers of steps are invalid."""
    if not methods or not set(methods) <= set(solvers.FIXED_STEP):
        raise ValueError(
            "`solvers` must be methods with fixed steps, from "
            f"{', '.join(map(repr, solvers.FIXED_STEP))}. Received: solvers="
            f"{list(methods)}"
        )
    if not len(counts) or any(n != int(n) or n < 1 for n in counts):
        raise ValueError(
            "`solver_steps` must be positive integers. Received: solver_steps="
            f"{list(counts)}"
        )


def _compile(ode, method) -> Callable:
    """Compiles the logits of a model as a function of images and a number of steps."""
    scores = logits_fn(ode)

    def logits(images, steps):
        with _solved_by(ode, _CountedSteps(method, steps)):
            return scores(images, training=False)

    images = tf.TensorSpec((None, *ode.input_shape[1:]))
    return compile_per_example(logits, [images, tf.TensorSpec((), tf.int32)])


@contextlib.contextmanager
def _solved_by(model, solver) -> Iterator[None]:
    """Replaces the solvers of all neural ODEs of a model, then restores them."""
    layers = neural_odes(model)
    before = [layer.solver for layer in layers]
    try:
        for layer in layers:
            layer.solver = solver
        yield
    finally:
        for layer, own in zip(layers, before):
            layer.solver = own


@dataclasses.dataclass(frozen=True)
class _CountedSteps:
    """A fixed-step solver whose number of steps is a tensor.

    Attributes:
        method: name of the method.
        steps: number of steps, an int32 scalar.
    """

    method: str
    steps: tf.Tensor
    is_adaptive = False

    def solve(
        self, f: Callable, x0: Any, t: Sequence[float], damping: Any = 0.0
    ) -> tuple[list, None]:
        """The last state; see `inres_tf.solvers.Solver.solve`."""
        size = (t[1] - t[0]) / tf.cast(self.steps, x0.dtype)

        def step(i, x):
            times = t[0] + size * tf.cast(tf.stack([i, i + 1]), x.dtype)
            states, _ = solvers.odeint(
                f, x, times, self.method, steps=1, damping=damping
            )
            return i + 1, states[-1]

        _, x = tf.while_loop(lambda i, x: i < self.steps, step, (0, x0))
        return [x], None
