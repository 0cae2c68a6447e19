"""Neural ODEs: layers that integrate a convolutional right-hand side."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from inres_tf import solvers
from inres_tf.layers import dampings
from inres_tf.layers.lipschitz import (
    SMALLEST_NORM,
    ConvOperator,
    check_limit,
    norm_penalty,
    transposed_kernel,
)
from inres_tf.layers.orthogonal import ShiftedOrthogonal

# As for In-ResNets of moderate depth: λ starts between 0.20 and 0.25.
_K_RANGE = (0.75, 0.80)
KINDS = ("plain", "time", "skew", "orthogonal", "potential")


@keras.saving.register_keras_serializable(package="inres_tf")
class _SkewConvOperator(ConvOperator):
    """The skew-symmetric convolution W - Wᵀ."""

    def operator_kernel(self):
        kernel = ops.convert_to_tensor(self.kernel)
        return kernel - transposed_kernel(kernel)


@keras.saving.register_keras_serializable(package="inres_tf")
class ConvDynamics(keras.layers.Layer):
    """A convolutional right-hand side f(t, x) of a neural ODE.

    | kind          | f(t, x)                     | Lipschitz constant | μ at most   |
    |---------------|-----------------------------|--------------------|-------------|
    | `"plain"`     | W₂ relu(W₁ x + b)           | ‖W₁‖ ‖W₂‖          | ‖W₁‖ ‖W₂‖   |
    | `"time"`      | W₂ relu(W₁ x + b + t c)     | ‖W₁‖ ‖W₂‖          | ‖W₁‖ ‖W₂‖   |
    | `"skew"`      | relu((W - Wᵀ) x + b)        | ‖W - Wᵀ‖           | ‖W - Wᵀ‖    |
    | `"orthogonal"`| relu(Q S x + b)             | 1                  | 1           |
    | `"potential"` | -Wᵀ relu(W x + b)           | ‖W‖²               | 0           |

    μ is the logarithmic norm: two trajectories part at most like e^(μ t). The W are
    zero-padded convolutions; Q S is a `ShiftedOrthogonal`, and f is multiplied by the
    limit. Under `"potential"`, -f is the gradient of a convex function.

    Args:
        kind: one of the names above.
        filters: number of hidden channels; None for that of the input. `"skew"` and
            `"orthogonal"` have none of their own.
        kernel_size: side of the kernels, odd.
        limit: the largest Lipschitz constant in x, as estimated by power iteration;
            None for no limit.
        penalty: None for a hard limit: kernels are scaled down. A number p adds
            p · max(0, σ - c)² of each norm σ to the loss in training instead, where c
            is the norm at which f reaches the limit. `"orthogonal"` takes none.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: state x, (batch, height, width, channels), of known height and width.
        t: time; it broadcasts against x.
        training: whether to update the estimates of the norms.

    Returns:
        f(t, x), like x.

    Raises:
        ValueError: if an argument is wrong, or the height and width are not known.

    Example:
        >>> import keras
        >>> dynamics = inres_tf.layers.ConvDynamics("potential", limit=1.0)
        >>> dynamics(keras.ops.ones((1, 4, 4, 2))).shape[1:]
        TensorShape([4, 4, 2])

    Reference:
        Chen et al.: Neural Ordinary Differential Equations, NeurIPS 2018. Skew: Haber,
        Ruthotto: Stable Architectures for Deep Neural Networks, Inverse Problems 2017.
        Potentials: Meunier et al., ICML 2022.
    """

    def __init__(
        self,
        kind: str = "plain",
        filters: int | None = None,
        kernel_size: int = 3,
        limit: float | None = None,
        penalty: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(
                f"`kind` must be one of {', '.join(map(repr, KINDS))}. Received: "
                f"kind={kind!r}"
            )
        if penalty is not None and kind == "orthogonal":
            raise ValueError(
                "`penalty` needs a kind other than 'orthogonal', whose norm is fixed. "
                f"Received: penalty={penalty!r}"
            )
        self.kind, self.filters, self.kernel_size = kind, filters, kernel_size
        self.limit, self.penalty = check_limit(limit, penalty), penalty
        self.operators: list[ConvOperator] = []
        self.mixing: ShiftedOrthogonal | None = None

    def build(self, input_shape: tuple) -> None:
        """Creates the kernels and biases."""
        channels = input_shape[-1]
        own = self.kind not in ("skew", "orthogonal")
        hidden = (self.filters or channels) if own else channels
        if self.kind == "orthogonal":
            self.mixing = ShiftedOrthogonal(name="mixing")
            self.mixing.build(input_shape)
        else:
            make = _SkewConvOperator if self.kind == "skew" else ConvOperator
            self.operators = [make(hidden, self.kernel_size, name="first")]
        if self.kind in ("plain", "time"):
            second = ConvOperator(channels, self.kernel_size, name="second")
            self.operators.append(second)
        for operator in self.operators:
            operator.build(input_shape)
            input_shape = (*input_shape[:-1], hidden)
        if self.operators:
            self.input_spec = self.operators[0].input_spec
        self.bias = self.add_weight(shape=(hidden,), initializer="zeros", name="bias")
        self.time_weight = None
        if self.kind == "time":
            self.time_weight = self.add_weight(
                shape=(hidden,), initializer="zeros", name="time_weight"
            )

    def field(self, training: bool = False) -> Callable:
        """The function `(t, x) -> f(t, x)`, whose norms are estimated once.

        Args:
            training: whether to update the estimates of the norms.
        """
        if self.mixing is not None:
            return self._orthogonal_field(self.mixing)
        sigmas = [op.estimate(training) for op in self.operators]
        if training and self.penalty is not None and self.limit is not None:
            share = self._share(self.limit)
            for sigma in sigmas:
                self.add_loss(norm_penalty(sigma, share, self.penalty))
        scales = self._scales(sigmas)
        first, last = self.operators[0], self.operators[-1]

        def f(t, x):
            scale, *other = (ops.cast(scale, x.dtype) for scale in scales)
            hidden = scale * first.apply(x) + ops.cast(self.bias, x.dtype)
            if self.time_weight is not None:
                t = ops.cast(t, x.dtype)
                hidden = hidden + t * ops.cast(self.time_weight, x.dtype)
            hidden = ops.relu(hidden)
            if self.kind == "potential":
                return -scale * first.transpose(hidden)
            return other[0] * last.apply(hidden) if other else hidden

        return f

    def _orthogonal_field(self, mixing: ShiftedOrthogonal) -> Callable:
        matrix, limit = mixing.matrix(), self.limit or 1.0

        def f(t, x):
            hidden = mixing.apply(x, ops.cast(matrix, x.dtype))
            return limit * ops.relu(hidden + ops.cast(self.bias, x.dtype))

        return f

    def _share(self, limit: float) -> float:
        """The norm of each operator with which f keeps to a limit."""
        return limit if self.kind == "skew" else limit**0.5

    def _scales(self, sigmas) -> list:
        """The factor of each operator, at most 1, that keeps to the limit."""
        if self.limit is None or self.penalty is not None:
            return [ops.ones_like(sigma) for sigma in sigmas]
        each = self._share(self.limit)
        return [
            ops.minimum(1.0, each / ops.maximum(sigma, SMALLEST_NORM))
            for sigma in sigmas
        ]

    def call(self, inputs: Any, t: Any = 0.0, training: bool = False) -> Any:
        """Returns f(t, x)."""
        return self.field(training)(t, inputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """The shape of the inputs."""
        return input_shape

    def lipschitz_bound(self) -> float:
        """A sound bound of the Lipschitz constant in x, in float64."""
        if self.mixing is not None:
            return self.mixing.lipschitz_bound() * (self.limit or 1.0)
        scales = self._scales([op.sigma for op in self.operators])
        # Rounding of the factors in float32.
        norms = [
            op.norm_bound() * float(ops.convert_to_numpy(scale)) * (1 + 1e-6)
            for op, scale in zip(self.operators, scales)
        ]
        return norms[0] ** 2 if self.kind == "potential" else float(np.prod(norms))

    def get_config(self) -> dict:
        """Returns all arguments of the constructor."""
        return {
            **super().get_config(),
            "kind": self.kind,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "limit": self.limit,
            "penalty": self.penalty,
        }


@keras.saving.register_keras_serializable(package="inres_tf")
class NeuralODE(keras.layers.Layer):
    """Integrates dx/dt = f(t, x) - λ x from time 0 to t1.

    One Euler step to t1 = 1 is the damped residual block (1 - λ) x + f(x).

    Args:
        dynamics: a `ConvDynamics`, or another layer that maps x to f(x), like x, and
            changes no state of its own. Do not share one between two `NeuralODE`s of
            a model, which Keras saves but cannot load: call one `NeuralODE` twice.
        solver: name of a method, an `inres_tf.solvers.Solver`, or a dict of its
            settings.
        t1: final time, positive.
        damping: λ: a number >= 0 that stays fixed, or `"in"`: trained, relu(1 - k) of a
            k that starts uniform in [0.75, 0.80], as in an In-ResNet. Training with a
            fixed-step method keeps λ at most 1 / h, h the length of a step: there, the
            weight 1 - h λ of the shortcut in an Euler step vanishes. A larger λ would
            not damp the steps but make them overshoot.
        on_failure: what happens to a sample for which an adaptive method reaches its
            step limit: `"keep"` the last state; `"count"` also adds to the weight
            `failures`; `"raise"` an ArithmeticError where Keras runs eagerly, while a
            compiled function returns NaN, which training and evaluation report.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: initial state, (batch, ...).
        training: whether the dynamics update their estimates of norms.

    Returns:
        The state at t1, like `inputs`.

    Raises:
        ValueError: if an argument is wrong.

    Example:
        >>> import keras
        >>> dynamics = inres_tf.layers.ConvDynamics("plain")
        >>> layer = inres_tf.layers.NeuralODE(dynamics, "dopri5", damping=0.5)
        >>> layer(keras.ops.ones((2, 4, 4, 3))).shape[1:]
        TensorShape([4, 4, 3])

    Reference:
        Chen et al.: Neural Ordinary Differential Equations, NeurIPS 2018.
    """

    def __init__(
        self,
        dynamics: keras.layers.Layer,
        solver: Any = "rk4",
        t1: float = 1.0,
        damping: float | str = 0.0,
        on_failure: str = "keep",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if on_failure not in ("keep", "count", "raise"):
            raise ValueError(
                "`on_failure` must be 'keep', 'count' or 'raise'. Received: "
                f"on_failure={on_failure!r}"
            )
        if not 0 < t1 < float("inf"):
            raise ValueError(f"`t1` must be positive and finite. Received: t1={t1!r}")
        learned = isinstance(damping, str) and damping == "in"
        number = isinstance(damping, (int, float)) and not isinstance(damping, bool)
        if not learned and not (number and 0 <= float(damping) < float("inf")):
            raise ValueError(
                "`damping` must be a finite number >= 0 or 'in'. Received: "
                f"damping={damping!r}"
            )
        self.dynamics, self.solver = dynamics, solvers.get(solver)
        self.t1, self.damping = float(t1), damping
        self.k: Any = None
        self.on_failure = on_failure
        self.failures: Any = None

    def build(self, input_shape: tuple) -> None:
        """Builds the dynamics, and creates k if λ is trained."""
        if not self.dynamics.built:
            self.dynamics.build(input_shape)
        spec = self.dynamics.input_spec
        if isinstance(spec, keras.layers.InputSpec) and spec.shape:
            self.input_spec = spec
            if tuple(spec.shape[1:]) != tuple(input_shape[1:]):
                raise ValueError(
                    "`dynamics` was built for states of shape "
                    f"{tuple(spec.shape[1:])}, on which its norm depends. Received: "
                    f"input_shape={tuple(input_shape)}"
                )
        if self.on_failure == "count":
            self.failures = self.add_weight(
                shape=(), initializer="zeros", name="failures", trainable=False
            )
        if self.damping == "in":
            self.k = self.add_weight(
                shape=(),
                initializer=keras.initializers.RandomUniform(*_K_RANGE),
                constraint=self._limit_rate,
                name="k",
                dtype="float32",
                autocast=False,
            )

    def _limit_rate(self, k: Any) -> Any:
        """Limits k, so that λ is at most 1 / h, h the length of the fixed steps."""
        if self.solver.is_adaptive:
            return k
        return ops.maximum(k, 1.0 - self.solver.steps / self.t1)

    @property
    def rate(self) -> Any:
        """λ >= 0, a float32 scalar tensor. Available once the layer is built."""
        if self.k is None:
            return ops.convert_to_tensor(float(self.damping), "float32")
        return dampings.rate_of("in", ops.convert_to_tensor(self.k))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Integrates from the inputs."""
        if hasattr(self.dynamics, "field"):
            f = self.dynamics.field(training)
        else:
            f = lambda t, x: ops.cast(self.dynamics(x), x.dtype)
        damping = self.rate if self.damping else 0.0
        states, record = self.solver.solve(f, inputs, (0.0, self.t1), damping)
        if not self.solver.is_adaptive or self.on_failure == "keep":
            return states[-1]
        failed = ops.logical_not(record.success)
        if self.on_failure == "count":
            number = ops.sum(ops.cast(failed, self.failures.dtype))
            self.failures.assign(self.failures + number)
            return states[-1]
        try:
            number = int(ops.convert_to_numpy(ops.sum(ops.cast(failed, "int32"))))
        except Exception:  # a compiled function has no values yet
            number = 0
        if number:
            raise ArithmeticError(
                f"{self.name}: {self.solver.method} reached its limit of "
                f"{self.solver.max_steps} steps for {number} samples; raise max_steps "
                "or the tolerances"
            )
        shape = (-1, *[1] * (len(inputs.shape) - 1))
        failed = ops.reshape(failed, shape)
        return ops.where(failed, ops.full_like(states[-1], float("nan")), states[-1])

    def lipschitz_bound(self) -> float:
        """A sound bound of the numerical solution's Lipschitz constant, in float64.

        With step size h, λ, and the Lipschitz constant L of f, one step is bounded by

        - Euler: |1 - h λ| + h L; if -f is the gradient of a convex function,
          max(|1 - h λ|, |1 - h λ - h L|), which is at most 1 for h (λ + L) <= 2;
        - Heun, which is (x + E(E(x))) / 2 for Euler steps E: (1 + e²) / 2;
        - exponential Euler: as Euler with e^(-h λ) and h (1 - e^(-h λ)) / (h λ);
        - midpoint and RK4: the sum over their stages, which grows with h L.

        Raises:
            ValueError: for an adaptive method, whose result is a discontinuous
                function of the state, or dynamics without a bound.

        Reference:
            Gottlieb, Shu, Tadmor: Strong Stability-Preserving High-Order Time
            Discretization Methods, SIAM Review 2001, for Heun's method as an average of
            Euler steps. The Jacobian of a convex gradient is symmetric, 0 <= H <= L.
        """
        if self.solver.is_adaptive:
            raise ValueError(
                f"{self.solver.method} adapts its step size, which makes its result a "
                "discontinuous function of the state: only fixed-step methods have a "
                f"bound ({', '.join(solvers.FIXED_STEP)})."
            )
        if not hasattr(self.dynamics, "lipschitz_bound"):
            raise ValueError(
                f"{type(self.dynamics).__name__} has no `lipschitz_bound`: use "
                "ConvDynamics, or a layer with such a method."
            )
        rate = float(ops.convert_to_numpy(self.rate))
        convex = getattr(self.dynamics, "kind", None) == "potential"
        h = self.t1 / self.solver.steps
        step = _step_bound(
            self.solver.method, h, rate, self.dynamics.lipschitz_bound(), convex
        )
        # Times, step sizes and λ are rounded to float32.
        return float((step * (1 + 1e-6)) ** self.solver.steps)

    def contraction_rate(self) -> float:
        """-log(bound) / t1: positive if all trajectories approach each other."""
        return float(-np.log(self.lipschitz_bound()) / self.t1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """The shape of the inputs."""
        return input_shape

    def get_config(self) -> dict:
        """Returns all arguments of the constructor."""
        return {
            **super().get_config(),
            "dynamics": keras.saving.serialize_keras_object(self.dynamics),
            "solver": dataclasses.asdict(self.solver),
            "t1": self.t1,
            "damping": self.damping,
            "on_failure": self.on_failure,
        }

    @classmethod
    def from_config(cls, config: dict) -> "NeuralODE":
        """A layer of the arguments that `get_config` returns."""
        dynamics = keras.saving.deserialize_keras_object(config.pop("dynamics"))
        return cls(dynamics, **config)


def _step_bound(method, h, rate, lipschitz, convex) -> float:
    """A bound of the Lipschitz constant of one step; see `NeuralODE`."""
    if method == "exponential_euler":
        z = h * rate
        shortcut, weight = np.exp(-z), h * (-np.expm1(-z) / z if z else 1.0)
        return _affine_bound(shortcut, weight * lipschitz, convex)
    euler = _affine_bound(1 - h * rate, h * lipschitz, convex)
    if method == "euler":
        return euler
    if method == "heun":
        return (1 + euler**2) / 2
    tableau = solvers.TABLEAUS[method]
    total = lipschitz + rate
    stages: list[float] = []
    for row in tableau.matrix:
        inner = sum(abs(a) * stage for a, stage in zip(row, stages))
        stages.append(total * (1 + h * inner))
    return 1 + h * sum(abs(b) * stage for b, stage in zip(tableau.weights, stages))


def _affine_bound(shortcut, weight, convex) -> float:
    """The Lipschitz constant of shortcut · x + f(x), f of the constant `weight`."""
    if convex:
        return max(abs(shortcut), abs(shortcut - weight))
    return abs(shortcut) + weight
