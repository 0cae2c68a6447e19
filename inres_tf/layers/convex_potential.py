"""Damped convex potential blocks, whose Lipschitz constant is known."""

from typing import Any

import keras
import numpy as np
from keras import ops

from inres_tf.layers import dampings
from inres_tf.layers.lipschitz import (
    SMALLEST_NORM,
    ConvOperator,
    DenseOperator,
    Operator,
)


class _ConvexPotential(Operator):
    """The block a x - c Wᵀ relu(W x + b) with c = 2 a / σ²."""

    damping: str
    bias: Any
    k: Any

    def _build_block(self, units):
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")
        self.k = None
        damping = dampings.get(self.damping)
        if damping.rate is not None:
            self.k = self.add_weight(
                shape=(),
                initializer=keras.initializers.RandomUniform(*damping.init),
                name="k",
                dtype="float32",
                autocast=False,
            )

    @property
    def rate(self):
        """λ >= 0, a float32 scalar tensor. Available once the layer is built."""
        if self.k is None:
            fixed = dampings.get(self.damping).fixed_rate
            return ops.convert_to_tensor(fixed, "float32")
        return dampings.rate_of(self.damping, ops.convert_to_tensor(self.k))

    def call(self, inputs, training=False):
        """Applies the block."""
        sigma = self.estimate(training)
        shortcut = ops.clip(dampings.get(self.damping).shortcut(self.rate), 0.0, 1.0)
        weight = 2.0 * shortcut / (sigma * sigma)
        hidden = self.apply(inputs) + ops.cast(self.bias, inputs.dtype)
        branch = self.transpose(ops.relu(hidden))
        weight, shortcut = (ops.cast(x, inputs.dtype) for x in (weight, shortcut))
        return shortcut * inputs - weight * branch

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def lipschitz_bound(self) -> float:
        """A sound bound of the block's Lipschitz constant, in float64.

        The Jacobian is a I - c Wᵀ D W with 0 <= D <= I, symmetric with eigenvalues in
        [a - c ‖W‖², a]. The bound is a where σ is not below the norm, as after
        `tighten`.
        """
        sigma = max(float(ops.convert_to_numpy(self.sigma)), SMALLEST_NORM)
        rate = float(ops.convert_to_numpy(self.rate))
        a = float(
            ops.convert_to_numpy(
                dampings.get(self.damping).shortcut(ops.convert_to_tensor(rate))
            )
        )
        # Rounding of a and of the weight in float32.
        a = min(max(a, 0.0), 1.0) * (1 + 1e-6)
        return a * max(1.0, 2 * (self.norm_bound() / sigma) ** 2 - 1)

    def contraction_rate(self) -> float:
        """-log of the bound: how fast trajectories approach each other, per block."""
        return float(-np.log(max(self.lipschitz_bound(), 1e-300)))


_DAMPED = ("none", "in", "exponential")


def _check_damping(damping):
    if damping not in _DAMPED:
        raise ValueError(
            f"`damping` must be one of {', '.join(map(repr, _DAMPED))}. Received: "
            f"damping={damping!r}"
        )
    return damping


@keras.saving.register_keras_serializable(package="inres_tf")
class ConvexPotentialConv2D(_ConvexPotential, ConvOperator):
    """The damped convex potential block a(λ) x - c Wᵀ relu(W x + b), W a convolution.

    One Euler step of the damped gradient flow of a convex potential. With
    c = 2 a / ‖W‖² its Lipschitz constant is at most a(λ), whatever W: a damped residual
    block with a proof. Undamped it is the convex potential layer (CPL).

    Args:
        filters: number of filters of W.
        kernel_size: side of the kernel, odd.
        damping: `"none"` (a = 1), `"in"` (a = 1 - λ) or `"exponential"` (a = e^-λ).
        iterations: power iterations at each training step.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, height, width, channels), of known height and width.
        training: whether to update the estimate of the norm.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: if an argument is wrong, or the height and width are not known.

    Reference:
        Meunier, Delattre, Araujo, Allauzen: A Dynamical System Perspective for
        Lipschitz Neural Networks, ICML 2022, theorem 1 and equation 5; here damped.
    """

    def __init__(self, filters, kernel_size=3, damping="in", iterations=1, **kwargs):
        super().__init__(filters, kernel_size, iterations=iterations, **kwargs)
        self.damping = _check_damping(damping)

    def build(self, input_shape):
        """Creates the kernel, bias and k; the height and width must be known."""
        super().build(input_shape)
        self._build_block(self.filters)

    def get_config(self):
        """Returns all arguments of the constructor."""
        return {**super().get_config(), "damping": self.damping}


@keras.saving.register_keras_serializable(package="inres_tf")
class ConvexPotentialDense(_ConvexPotential, DenseOperator):
    """The damped convex potential block a(λ) x - c Wᵀ relu(W x + b), W a matrix.

    See `ConvexPotentialConv2D`.

    Args:
        units: number of rows of W.
        damping: `"none"` (a = 1), `"in"` (a = 1 - λ) or `"exponential"` (a = e^-λ).
        iterations: power iterations at each training step.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, inputs).
        training: whether to update the estimate of the norm.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: if an argument is wrong.

    Reference:
        Meunier, Delattre, Araujo, Allauzen, ICML 2022.
    """

    def __init__(self, units, damping="in", iterations=1, **kwargs):
        super().__init__(units, iterations=iterations, **kwargs)
        self.damping = _check_damping(damping)

    def build(self, input_shape):
        """Creates the kernel, bias and k."""
        super().build(input_shape)
        self._build_block(self.units)

    def get_config(self):
        """Returns all arguments of the constructor."""
        return {**super().get_config(), "damping": self.damping}
