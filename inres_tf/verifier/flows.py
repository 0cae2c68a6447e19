"""Neural ODEs: fixed steps of a solver, and their Lipschitz constants.

With the step size h, the damping λ, and the Lipschitz constant L of f, one step of
dx/dt = f(t, x) - λ x has a Lipschitz constant of at most

- Euler: e = |1 - h λ| + h L. If -f is the gradient of a convex function, its Jacobian
  is symmetric with eigenvalues from -L to 0: e = max(|1 - h λ|, |1 - h λ - h L|);
- exponential Euler: the same, with e^(-h λ) for 1 - h λ and h (1 - e^(-h λ)) / (h λ)
  for h;
- Heun: (1 + e²) / 2, as it is the mean of x and of two Euler steps from x;
- midpoint and RK4: 1 + z + z² / 2 and 1 + z + z² / 2 + z³ / 6 + z⁴ / 24 for
  z = h (L + λ), as each stage adds to the one before it.

Adaptive methods have none: their result jumps where the number of steps changes.

Reference:
    Gottlieb, Shu, Tadmor: Strong Stability-Preserving High-Order Time Discretization
    Methods, SIAM Review 2001, for Heun's method.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from inres_tf.verifier.archive import SavedLayer
from inres_tf.verifier.maps import (
    FLOAT32,
    ORTHOGONAL,
    Map,
    Shape,
    relu,
    scale_of,
    shifted_orthogonal,
)
from inres_tf.verifier.operators import Convolution


class Field(NamedTuple):
    """The right-hand side of a neural ODE, without the damping.

    Attributes:
        apply: the function f(t, x).
        lipschitz: an upper bound of its Lipschitz constant in x.
        convex: whether -f is the gradient of a convex function.
    """

    apply: Callable[[float, np.ndarray], np.ndarray]
    lipschitz: float
    convex: bool


class Equation(NamedTuple):
    """dx/dt = f(t, x) - λ x, with the step size h."""

    field: Field
    rate: float
    h: float

    def slope(self, t: float, x: np.ndarray) -> np.ndarray:
        """The right-hand side."""
        slope = self.field.apply(t, x)
        return slope - self.rate * x if self.rate else slope

    def affine_bound(self, shortcut: float, h: float) -> float:
        """Bounds the Lipschitz constant of shortcut · x + h f(t, x)."""
        reach = h * self.field.lipschitz
        if self.field.convex:
            return max(abs(shortcut), abs(shortcut - reach))
        return abs(shortcut) + reach


def _euler(eq, t, x):
    return x + eq.h * eq.slope(t, x)


def _euler_bound(eq):
    return eq.affine_bound(1 - eq.h * eq.rate, eq.h)


def _exponential_euler(eq, t, x):
    shortcut, h = _exponential_weights(eq)
    return shortcut * x + h * eq.field.apply(t, x)


def _exponential_euler_bound(eq):
    return eq.affine_bound(*_exponential_weights(eq))


def _exponential_weights(eq):
    z = eq.h * eq.rate
    return math.exp(-z), -math.expm1(-z) / eq.rate if z else eq.h


def _heun(eq, t, x):
    first = eq.slope(t, x)
    second = eq.slope(t + eq.h, x + eq.h * first)
    return x + eq.h / 2 * (first + second)


def _heun_bound(eq):
    return (1 + _euler_bound(eq) ** 2) / 2


def _midpoint(eq, t, x):
    half = eq.h / 2
    return x + eq.h * eq.slope(t + half, x + half * eq.slope(t, x))


def _rk4(eq, t, x):
    h, half = eq.h, eq.h / 2
    k1 = eq.slope(t, x)
    k2 = eq.slope(t + half, x + half * k1)
    k3 = eq.slope(t + half, x + half * k2)
    k4 = eq.slope(t + h, x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _taylor_bound(order):
    def bound(eq):
        z = eq.h * (eq.field.lipschitz + eq.rate)
        return sum(z**i / math.factorial(i) for i in range(order + 1))

    return bound


# Of each method, one step from (t, x) and the bound of its Lipschitz constant.
METHODS: dict[str, tuple[Callable, Callable]] = {
    "euler": (_euler, _euler_bound),
    "exponential_euler": (_exponential_euler, _exponential_euler_bound),
    "heun": (_heun, _heun_bound),
    "midpoint": (_midpoint, _taylor_bound(2)),
    "rk4": (_rk4, _taylor_bound(4)),
}


def neural_ode(layer: SavedLayer, shape: Shape) -> Map:
    """The map of a `NeuralODE` layer.

    Args:
        layer: the saved layer.
        shape: shape of its inputs, without the batch.

    Raises:
        UserError: if the method adapts its step size, or the dynamics are not a
            `ConvDynamics`.
    """
    method, steps = (layer.settings["solver"][name] for name in ("method", "steps"))
    if method not in METHODS:
        raise layer.error(
            f"is solved by {method!r}, which adapts its step size and so has no "
            f"Lipschitz constant; only {', '.join(METHODS)} can be verified"
        )
    step, bound = METHODS[method]
    eq = Equation(_field(layer, shape), _rate(layer), layer.settings["t1"] / steps)

    def apply(x):
        for i in range(steps):
            x = step(eq, i * eq.h, x)
        return x

    return Map(apply, (bound(eq) * (1 + FLOAT32)) ** steps, shape)


def _rate(layer: SavedLayer) -> float:
    """λ, which is fixed or relu(1 - k)."""
    damping = layer.settings["damping"]
    counts_failures = layer.settings["on_failure"] == "count"
    if damping != "in":
        return float(damping)
    k, *_ = layer.weights(1 + counts_failures)
    return max(1.0 - float(k), 0.0)


def _field(layer: SavedLayer, shape: Shape) -> Field:
    """The right-hand side of a layer."""
    dynamics = layer.settings["dynamics"]
    settings = dynamics["config"]
    kind = settings.get("kind")
    if dynamics["registered_name"] != "inres_tf>ConvDynamics" or kind not in _FIELDS:
        raise layer.error(
            f"has the dynamics {dynamics['class_name']}({kind or ''}); only "
            f"ConvDynamics of the kinds {', '.join(_FIELDS)} can be verified"
        )
    return _FIELDS[kind](layer, settings, shape)


def _operator(layer, settings, shape, name, power=0.5):
    """A convolution of the dynamics, scaled to their limit."""
    kernel, _, sigma = layer.weights(3, f"dynamics/operators/{name}")
    if name.endswith("skew_conv_operator"):
        kernel = kernel - kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return Convolution(kernel * scale_of(settings, sigma, power), shape[:2])


def _two_layers(layer: SavedLayer, settings: Any, shape: Shape) -> Field:
    """W₂ relu(W₁ x + b + t c)."""
    first = _operator(layer, settings, shape, "conv_operator")
    second = _operator(layer, settings, shape, "conv_operator_1")
    timed = settings["kind"] == "time"
    bias, *slope = layer.weights(1 + timed, "dynamics")

    def apply(t, x):
        hidden = first(x)
        hidden += bias + t * slope[0] if timed else bias
        return second(relu(hidden))

    return Field(apply, first.norm * second.norm * (1 + FLOAT32) ** 2, False)


def _skew(layer: SavedLayer, settings: Any, shape: Shape) -> Field:
    """relu((W - Wᵀ) x + b)."""
    operator = _operator(layer, settings, shape, "__skew_conv_operator", 1.0)
    (bias,) = layer.weights(1, "dynamics")
    lipschitz = operator.norm * (1 + FLOAT32)
    return Field(lambda t, x: relu(operator(x) + bias), lipschitz, False)


def _orthogonal(layer: SavedLayer, settings: Any, shape: Shape) -> Field:
    """The limit times relu(Q S x + b)."""
    (kernel,) = layer.weights(1, "dynamics/mixing")
    (bias,) = layer.weights(1, "dynamics")
    mix, factor = shifted_orthogonal(kernel), settings["limit"] or 1.0
    lipschitz = ORTHOGONAL * factor * (1 + FLOAT32)
    return Field(lambda t, x: factor * relu(mix(x) + bias), lipschitz, False)


def _potential(layer: SavedLayer, settings: Any, shape: Shape) -> Field:
    """-Wᵀ relu(W x + b)."""
    operator = _operator(layer, settings, shape, "conv_operator")
    (bias,) = layer.weights(1, "dynamics")

    def apply(t, x):
        hidden = operator(x)
        hidden += bias
        return -operator.transpose(relu(hidden))

    return Field(apply, (operator.norm * (1 + FLOAT32)) ** 2, True)


_FIELDS: dict[str, Callable[[SavedLayer, Any, Shape], Field]] = {
    "plain": _two_layers,
    "time": _two_layers,
    "skew": _skew,
    "orthogonal": _orthogonal,
    "potential": _potential,
}
