"""Layers with a controlled Lipschitz constant in the L2 norm (pure Keras 3).

Training estimates norms by power iteration, which is cheap and lies below the norm.
`lipschitz_bound` of a layer computes a sound bound in float64 from the weights as they
are: certificates use it alone.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from inres_tf.arguments import positive_integer
from inres_tf.layers import operator_norms

# Norms are kept above it, so that a layer of zeros can be divided by its own.
SMALLEST_NORM = 1e-6


class Operator(keras.layers.Layer):
    """A linear map W with its transpose and an estimate σ of its norm.

    σ is a weight, updated by a power iteration at each training step. At inference it
    stays as it is, so that a saved layer is one fixed function. It is computed in
    float32, also under mixed precision. It depends on the kernel alone, so it is the
    same on all replicas, and each updates its own copy.
    """

    vector: Any
    sigma: Any

    def __init__(self, iterations=1, **kwargs):
        super().__init__(**kwargs)
        self.iterations = positive_integer("iterations", iterations)

    def apply(self, x):
        """W x."""
        raise NotImplementedError

    def transpose(self, y):
        """Wᵀ y."""
        raise NotImplementedError

    def norm_bound(self) -> float:
        """A sound upper bound of the norm of W, in float64."""
        raise NotImplementedError

    def _build_estimate(self, shape):
        self.vector = self.add_weight(
            shape=(1, *shape),
            initializer=keras.initializers.RandomNormal(),
            name="vector",
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        self.sigma = self.add_weight(
            shape=(),
            initializer="ones",
            name="sigma",
            trainable=False,
            dtype="float32",
            autocast=False,
        )

    def estimate(self, training):
        """σ, after a power iteration in training; gradients flow through W."""
        if not training:
            return ops.convert_to_tensor(self.sigma)
        vector = ops.convert_to_tensor(self.vector)
        for _ in range(self.iterations):
            image = self.apply(vector)
            vector = _unit(self.transpose(_unit(image)))
        vector = ops.stop_gradient(vector)
        image = self.apply(vector)
        sigma = ops.maximum(ops.sqrt(ops.sum(image * image)), SMALLEST_NORM)
        self.vector.assign(vector)
        self.sigma.assign(ops.stop_gradient(sigma))
        return sigma

    def tighten(self) -> None:
        """Sets σ to the sound bound, which makes the layer's own bound exact."""
        self.sigma.assign(max(self.norm_bound(), SMALLEST_NORM))

    def get_config(self):
        """Returns all arguments of the constructor."""
        return {**super().get_config(), "iterations": self.iterations}


def _unit(x):
    return x / ops.maximum(ops.sqrt(ops.sum(x * x)), 1e-12)


def transposed_kernel(kernel):
    """The kernel of the transpose of a zero-padded convolution of odd size."""
    return ops.transpose(ops.flip(kernel, axis=(0, 1)), (0, 1, 3, 2))


class ConvOperator(Operator):
    """A zero-padded convolution of stride 1."""

    def __init__(self, filters, kernel_size=3, **kwargs):
        super().__init__(**kwargs)
        self.filters = positive_integer("filters", filters)
        self.kernel_size = positive_integer("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(
                f"`kernel_size` must be odd. Received: kernel_size={kernel_size}"
            )

    def build(self, input_shape):
        """Creates the kernel; the height and width must be known."""
        height, width, channels = input_shape[1:]
        if None in (height, width, channels):
            raise ValueError(
                f"{type(self).__name__} needs a known height and width, on which its "
                f"norm depends. Received: input_shape={tuple(input_shape)}"
            )
        self.size = (int(height), int(width))
        # On a larger image the norm is larger.
        self.input_spec = keras.layers.InputSpec(
            shape=(None, *self.size, int(channels))
        )
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, channels, self.filters),
            initializer="orthogonal",
            name="kernel",
            autocast=False,
        )
        self._build_estimate((height, width, channels))

    def operator_kernel(self):
        """The kernel of the convolution that the layer computes."""
        return ops.convert_to_tensor(self.kernel)

    def apply(self, x):
        """The convolution of x."""
        kernel = ops.cast(self.operator_kernel(), x.dtype)
        return ops.conv(x, kernel, 1, "same", data_format="channels_last")

    def transpose(self, y):
        """The transposed convolution of y."""
        kernel = transposed_kernel(ops.cast(self.operator_kernel(), y.dtype))
        return ops.conv(y, kernel, 1, "same", data_format="channels_last")

    def norm_bound(self):
        """A sound upper bound of the convolution's norm, in float64."""
        kernel = ops.convert_to_numpy(self.operator_kernel()).astype(np.float64)
        return operator_norms.conv_norm_bound(kernel, self.size)

    def get_config(self):
        """Returns all arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
        }


class DenseOperator(Operator):
    """A matrix."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)

    def build(self, input_shape):
        """Creates the kernel."""
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units),
            initializer="orthogonal",
            name="kernel",
            autocast=False,
        )
        self._build_estimate((input_shape[-1],))

    def apply(self, x):
        """Returns x @ kernel."""
        return ops.matmul(x, ops.cast(self.kernel, x.dtype))

    def transpose(self, y):
        """Returns y @ kernelᵀ."""
        return ops.matmul(y, ops.transpose(ops.cast(self.kernel, y.dtype)))

    def norm_bound(self):
        """The kernel's spectral norm, rounded up, in float64."""
        kernel = ops.convert_to_numpy(self.kernel).astype(np.float64)
        return operator_norms.dense_norm_bound(kernel)

    def get_config(self):
        """Returns all arguments of the constructor."""
        return {**super().get_config(), "units": self.units}


def norm_penalty(sigma, limit: float, penalty: float):
    """Penalty · max(0, σ - limit)², a loss for a layer to add."""
    return penalty * ops.square(ops.relu(sigma - limit))


class _Limited(Operator):
    """A linear layer with a limit on its norm.

    It computes W min(1, limit / σ) x + b; with a penalty, W x + b.
    """

    limit: float | None
    penalty: float | None
    use_bias: bool
    bias: Any

    def _set(self, limit, use_bias, penalty):
        self.limit, self.use_bias = check_limit(limit, penalty), use_bias
        self.penalty = penalty

    def _add_bias(self, units):
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(units,), initializer="zeros", name="bias"
            )

    def call(self, inputs, training=False):
        """Applies the limited map."""
        outputs = self.apply(inputs)
        if self.penalty is not None:
            if training:
                sigma = self.estimate(training)
                self.add_loss(norm_penalty(sigma, self.limit, self.penalty))
        elif self.limit is not None:
            sigma = self.estimate(training)
            scale = ops.minimum(1.0, self.limit / ops.maximum(sigma, SMALLEST_NORM))
            outputs = outputs * ops.cast(scale, outputs.dtype)
        if self.bias is not None:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        return outputs

    def lipschitz_bound(self) -> float:
        """A sound bound of the layer's Lipschitz constant, in float64."""
        bound = self.norm_bound()
        if self.limit is not None and self.penalty is None:
            sigma = max(float(ops.convert_to_numpy(self.sigma)), SMALLEST_NORM)
            bound *= min(1.0, self.limit / sigma)
        return bound

    def get_config(self):
        """Returns all arguments of the constructor."""
        own = {
            "limit": self.limit,
            "use_bias": self.use_bias,
            "penalty": self.penalty,
        }
        return {**super().get_config(), **own}


def check_limit(limit: float | None, penalty: float | None = None) -> float | None:
    """Returns the limit of a norm.

    Raises:
        ValueError: if it or the penalty is neither None nor positive and finite, or
            there is a penalty without a limit.
    """
    for name, value in (("limit", limit), ("penalty", penalty)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(
                f"`{name}` must be None or positive and finite. Received: "
                f"{name}={value!r}"
            )
    if penalty is not None and limit is None:
        raise ValueError(
            f"`penalty` needs a `limit`. Received: penalty={penalty!r}, limit=None"
        )
    return limit


@keras.saving.register_keras_serializable(package="inres_tf")
class LipschitzConv2D(_Limited, ConvOperator):
    """A zero-padded convolution of stride 1 with a limited L2 operator norm.

    The kernel is scaled down where its norm exceeds the limit. The norm is estimated by
    power iteration on the convolution itself, not on the reshaped kernel.

    Args:
        filters: number of filters.
        kernel_size: side of the kernel, odd.
        limit: the largest norm; None for no limit.
        use_bias: whether to add a bias.
        iterations: power iterations at each training step.
        penalty: None to scale the kernel down to the limit. A number p, in place of
            this, adds the loss p · max(0, σ - limit)² in training, σ being the
            estimated norm: the norm can then exceed the limit.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, height, width, channels), of known height and width.
        training: whether to update the estimate of the norm.

    Returns:
        (batch, height, width, filters).

    Raises:
        ValueError: if an argument is wrong, or the height and width are not known.

    Reference:
        Miyato et al.: Spectral Normalization for Generative Adversarial Networks, ICLR
        2018; for convolutions Farnia et al.: Generalizable Adversarial Training via
        Spectral Normalization, ICLR 2019.
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        limit=1.0,
        use_bias=True,
        iterations=1,
        penalty=None,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, iterations=iterations, **kwargs)
        self._set(limit, use_bias, penalty)

    def build(self, input_shape):
        """Creates the kernel and bias; the height and width must be known."""
        super().build(input_shape)
        self._add_bias(self.filters)

    def compute_output_shape(self, input_shape):
        """The input's shape with `filters` channels."""
        return (*input_shape[:-1], self.filters)


@keras.saving.register_keras_serializable(package="inres_tf")
class LipschitzDense(_Limited, DenseOperator):
    """A dense layer with a limited spectral norm.

    Args:
        units: number of outputs.
        limit: the largest norm; None for no limit.
        use_bias: whether to add a bias.
        iterations: power iterations at each training step.
        penalty: weight of a loss in place of the limit, as in `LipschitzConv2D`.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, inputs).
        training: whether to update the estimate of the norm.

    Returns:
        (batch, units).

    Raises:
        ValueError: if an argument is wrong.

    Reference:
        Miyato et al., ICLR 2018.
    """

    def __init__(
        self, units, limit=1.0, use_bias=True, iterations=1, penalty=None, **kwargs
    ):
        super().__init__(units, iterations=iterations, **kwargs)
        self._set(limit, use_bias, penalty)

    def build(self, input_shape):
        """Creates the kernel and bias."""
        super().build(input_shape)
        self._add_bias(self.units)

    def compute_output_shape(self, input_shape):
        """(batch, units)."""
        return (*input_shape[:-1], self.units)


@keras.saving.register_keras_serializable(package="inres_tf")
class MaxMin(keras.layers.Layer):
    """Sorts pairs of channels: a 1-Lipschitz activation that keeps gradient norms.

    Args:
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, ..., channels), an even number of channels.

    Returns:
        A tensor of the same shape: the larger one of each pair of channels (i, i + n/2)
        in the first half, the smaller one in the second.

    Raises:
        ValueError: if the number of channels is odd.

    Example:
        >>> import keras
        >>> layer = inres_tf.layers.MaxMin()
        >>> x = keras.ops.convert_to_tensor([[1.0, 5.0, 3.0, 2.0]])
        >>> keras.ops.convert_to_numpy(layer(x)).tolist()
        [[3.0, 5.0, 1.0, 2.0]]

    Reference:
        Anil, Lucas, Grosse: Sorting Out Lipschitz Function Approximation, ICML 2019.
    """

    def build(self, input_shape):
        """Checks the number of channels."""
        if input_shape[-1] is None or input_shape[-1] % 2:
            raise ValueError(
                "MaxMin needs an even number of channels. Received: input_shape="
                f"{tuple(input_shape)}"
            )

    def call(self, inputs):
        """Sorts each pair of channels."""
        first, second = ops.split(inputs, 2, axis=-1)
        pair = [ops.maximum(first, second), ops.minimum(first, second)]
        return ops.concatenate(pair, axis=-1)

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def lipschitz_bound(self) -> float:
        """1."""
        return 1.0
