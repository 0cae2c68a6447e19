"""Keras layers of the damped residual networks (pure Keras 3, any backend)."""

import keras
from keras import ops

from inres_tf import dampings


@keras.saving.register_keras_serializable(package="inres_tf")
class DampedAdd(keras.layers.Layer):
    """The damped residual update a(λ) · shortcut + b(λ) · branch.

    | damping         | a(λ)  | b(λ)           | λ from the trainable k |
    |-----------------|-------|----------------|------------------------|
    | `"none"`        | 1     | 1              | 0, no k (ResNet)       |
    | `"in"`          | 1 - λ | 1              | relu(1 - k)            |
    | `"lambda_in"`   | 1 - λ | 1 + λ          | relu(k)                |
    | `"exponential"` | e^-λ  | (1 - e^-λ) / λ | relu(k)                |
    | `"plain"`       | 0     | 1              | 1, no k (no shortcut)  |

    λ is computed in float32 whatever the precision of the layer.

    Args:
        damping: one of the five names above.
        initializer: Keras initializer of the scalar k. By default k is uniform over
            the range of the official code for depth <= 110: [0.75, 0.80] for `"in"`,
            [0.20, 0.25] for `"lambda_in"` and `"exponential"`.
        **kwargs: those of `keras.layers.Layer`; `trainable=False` fixes λ.

    Call arguments:
        inputs: list `[shortcut, branch]` of two tensors of the same shape.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: if `damping` is unknown, or if the inputs are not two tensors of
            the same shape.

    Reference:
        Yang, Liu, Bao, Shi: Interpolation between Residual and Non-Residual
        Networks, ICML 2020, equations for In-ResNet and λ-In-ResNet. The exponential
        damping is the exact step of the damped ODE with the branch frozen.
    """

    def __init__(self, damping="in", initializer=None, **kwargs):
        super().__init__(**kwargs)
        self.damping = damping
        self._damping = dampings.get(damping)
        if initializer is None and self._damping.init is not None:
            low, high = self._damping.init
            initializer = keras.initializers.RandomUniform(low, high)
        self.initializer = keras.initializers.get(initializer)
        self.k = None
        self.supports_masking = True

    @property
    def rate(self):
        """λ >= 0, a float32 scalar tensor. Available once the layer is built."""
        if self._damping.rate is None:
            return ops.convert_to_tensor(self._damping.fixed_rate, "float32")
        if self.k is None:
            raise ValueError(
                f"Layer {self.name!r} has no rate before it is built: call it on "
                "[shortcut, branch] first."
            )
        return self._damping.rate(ops.convert_to_tensor(self.k))

    def build(self, input_shape):
        """Makes k, after checking the shapes of `[shortcut, branch]`."""
        self._check(input_shape)
        if self._damping.rate is not None:
            # autocast=False: in bfloat16 the k of λ = 0.23 would be off by 1 %.
            self.k = self.add_weight(
                shape=(),
                initializer=self.initializer,
                name="k",
                dtype="float32",
                autocast=False,
            )

    def call(self, inputs):
        """Merges `[shortcut, branch]`."""
        shortcut, branch = inputs
        if self.damping == "none":
            return ops.add(shortcut, branch)
        if self.damping == "plain":
            return branch
        rate = self.rate
        a = ops.cast(self._damping.shortcut(rate), self.compute_dtype)
        if self.damping == "in":
            return ops.add(a * shortcut, branch)
        b = ops.cast(self._damping.branch(rate), self.compute_dtype)
        return ops.add(a * shortcut, b * branch)

    def compute_mask(self, inputs, mask=None):
        """What either input lets through, as `keras.layers.Add` has it."""
        if mask is None or any(part is None for part in mask):
            return None
        return ops.logical_or(*mask)

    def compute_output_shape(self, input_shape):
        """The shape of both inputs."""
        self._check(input_shape)
        return tuple(input_shape[1])

    def get_config(self):
        """All arguments of the constructor."""
        return {
            **super().get_config(),
            "damping": self.damping,
            "initializer": keras.initializers.serialize(self.initializer),
        }

    def _check(self, input_shape):
        pair = isinstance(input_shape, (list, tuple)) and len(input_shape) == 2
        if not pair or not all(isinstance(s, (list, tuple)) for s in input_shape):
            raise ValueError(
                "DampedAdd takes a list of two tensors, [shortcut, branch]. "
                f"Received: input_shape={input_shape}"
            )
        shortcut, branch = map(tuple, input_shape)
        if len(shortcut) != len(branch) or any(
            None not in (m, n) and m != n for m, n in zip(shortcut, branch)
        ):
            raise ValueError(
                "The shortcut and the branch of DampedAdd must have the same shape. "
                f"Received: shortcut {shortcut}, branch {branch}"
            )


@keras.saving.register_keras_serializable(package="inres_tf")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose groups do not need XLA under TensorFlow.

    The same arguments, weights and results. Under TensorFlow, Keras compiles a grouped
    convolution with XLA: on a CPU that is slower by two orders of magnitude, and a
    SavedModel then needs XLA to be served. This layer takes TensorFlow's own operation
    where it and its gradients run (GPU; CPU with oneDNN), else one convolution a group.

    Args:
        filters: number of filters, a multiple of `groups`.
        kernel_size: side of the kernel, or (height, width).
        groups: into how many groups the channels are split.
        **kwargs: those of `keras.layers.Conv2D`.

    Reference:
        Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR
        2017, figure 3c.
    """

    def convolution_op(self, inputs, kernel):
        """Convolves with a kernel of (height, width, channels / groups, filters)."""
        plain = self.groups == 1 or self.data_format != "channels_last"
        if plain or keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        from inres_tf import native

        outputs = native.grouped_conv(
            inputs, kernel, self.strides, self.padding, self.dilation_rate
        )
        if outputs is not None:
            return outputs
        return ops.concatenate(
            [
                super(GroupedConv2D, self).convolution_op(part, weights)
                for part, weights in zip(
                    ops.split(inputs, self.groups, axis=-1),
                    ops.split(kernel, self.groups, axis=-1),
                )
            ],
            axis=-1,
        )


@keras.saving.register_keras_serializable(package="inres_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` in one operation under TensorFlow.

    The same arguments, weights and results; files of weights fit both, since Keras
    names the groups in them after the class. Keras' own is composed of operations that
    each read the activations anew, in float32 whatever the layer's precision.
    TensorFlow's fused one reads and writes them in that precision, and computes the
    statistics in float32 as well.

    What the fused operation does not do is left to Keras: masks, statistics
    synchronised over replicas, renormalisation, an axis other than the last of four,
    a layer without scale or offset, float64.

    Args:
        **kwargs: those of `keras.layers.BatchNormalization`.

    Reference:
        Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by
        Reducing Internal Covariate Shift, ICML 2015.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalises (batch, height, width, channels) over all but the channels."""
        training = bool(training) and self.trainable
        if not self._fuses(inputs, training, mask):
            return super().call(inputs, training=training, mask=mask)
        from inres_tf import native

        gamma, beta, moving_mean, moving_variance = (
            ops.cast(weight, "float32")
            for weight in (
                self.gamma,
                self.beta,
                self.moving_mean,
                self.moving_variance,
            )
        )
        if not training:
            return native.normalize(
                inputs, moving_mean, moving_variance, gamma, beta, self.epsilon
            )
        outputs, mean, variance = native.batch_normalize(
            inputs, gamma, beta, self.epsilon
        )
        part = 1.0 - self.momentum
        self.moving_mean.assign(moving_mean * self.momentum + mean * part)
        self.moving_variance.assign(moving_variance * self.momentum + variance * part)
        return outputs

    def _fuses(self, inputs, training, mask) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not getattr(self, "renorm", False)  # which older versions do not have
            and not (training and (self.synchronized or mask is not None))
            and keras.backend.standardize_dtype(inputs.dtype) != "float64"
        )


@keras.saving.register_keras_serializable(package="inres_tf")
class UniformNoise(keras.layers.Layer):
    """Adds noise from U(0, high) in training, and nothing otherwise.

    `keras.layers.GaussianNoise` is its companion.

    Args:
        high: upper end of the noise's range, a finite number > 0.
        seed: integer that makes the noise repeatable.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        ValueError: if `high` is not such a number.

    Reference:
        The noise-injected network of the official code of Yang et al., ICML 2020; after
        Wang et al., ResNets Ensemble via the Feynman-Kac Formalism, NeurIPS 2019.
    """

    def __init__(self, high, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(high, (int, float)) or not 0 < high < float("inf"):
            raise ValueError(
                f"`high` must be a positive finite number. Received: high={high!r}"
            )
        self.high = high
        self.supports_masking = True
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        """Adds the noise if `training`."""
        if not training:
            return inputs
        return inputs + keras.random.uniform(
            ops.shape(inputs), 0.0, self.high, self.compute_dtype, self.seed_generator
        )

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def get_config(self):
        """All arguments of the constructor."""
        return {**super().get_config(), "high": self.high, "seed": self.seed}


def dead_blocks(rates: dict[str, float]) -> int:
    """How many damped blocks have λ = 0, below which k has no gradient but decay's.

    Args:
        rates: what `damping_rates` gives.
    """
    return sum(rate == 0.0 for rate in rates.values())


def damping_rates(model) -> dict[str, float]:
    """λ of every damped block of a model.

    Args:
        model: any Keras model; nested models are searched as well.

    Returns:
        Dict from layer name (`"nested/name"` within a nested model) to λ, in the order
        of the network. Blocks whose damping has no trainable k (`"none"`, `"plain"`)
        are left out.
    """
    return {
        name: float(ops.convert_to_numpy(layer.rate))
        for name, layer in damped_layers(model)
    }


def set_damping_rates(model, rate: float) -> None:
    """Sets λ of every damped block of a model.

    Args:
        model: as in `damping_rates`.
        rate: λ >= 0.
    """
    for _, layer in damped_layers(model):
        layer.k.assign(dampings.scalar_of(layer.damping, rate))


def damped_layers(model) -> list[tuple[str, DampedAdd]]:
    """The damped blocks of a model with a trainable k, named as in `damping_rates`."""
    return [pair for pair in _merges(model, "", set()) if pair[1].k is not None]


def random_states(model) -> list:
    """The states of a model's random layers: variables of it that are no weights."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _merges(model, prefix, seen):
    """(name, layer) of every `DampedAdd` in a model or layer, each once."""
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if id(layer) not in seen:
            seen.add(id(layer))
            if isinstance(layer, DampedAdd):
                yield prefix + layer.name, layer
            yield from _merges(layer, f"{prefix}{layer.name}/", seen)
