"""The layer that merges the shortcut and the branch of a damped residual block."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from inres_tf.layers import dampings


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

    λ is computed in float32 whatever the layer's precision.

    Args:
        damping: one of the five names above.
        initializer: Keras initializer of the scalar k. The default is uniform over the
            range of the official code for depth <= 110: [0.75, 0.80] for `"in"`,
            [0.20, 0.25] for `"lambda_in"` and `"exponential"`.
        **kwargs: arguments of `keras.layers.Layer`; `trainable=False` fixes λ.

    Call arguments:
        inputs: list `[shortcut, branch]` of two tensors of the same shape.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: if `damping` is unknown, or if the inputs are not two tensors of
            the same shape.

    Example:
        >>> import keras
        >>> shortcut, branch = keras.ops.ones((1, 2)), keras.ops.ones((1, 2))
        >>> k = keras.initializers.Constant(0.25)
        >>> layer = inres_tf.layers.DampedAdd("in", k)
        >>> keras.ops.convert_to_numpy(layer([shortcut, branch])).tolist()
        [[1.25, 1.25]]
        >>> float(layer.rate)
        0.75

    Reference:
        Yang et al., Interpolation between Residual and Non-Residual Networks, ICML
        2020 (arXiv 2006.05749), for In-ResNet and λ-In-ResNet. The exponential damping
        is the exact step of the damped ODE with the branch held constant.
    """

    def __init__(self, damping: str = "in", initializer: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.damping = damping
        self._damping = dampings.get(damping)
        if initializer is None and self._damping.init is not None:
            low, high = self._damping.init
            initializer = keras.initializers.RandomUniform(low, high)
        self.initializer = keras.initializers.get(initializer)
        self.k: Any = None
        self.supports_masking = True

    @property
    def rate(self) -> keras.KerasTensor:
        """λ >= 0, a float32 scalar tensor, available once the layer is built."""
        if self._damping.rate is None:
            return ops.convert_to_tensor(self._damping.fixed_rate, "float32")
        if self.k is None:
            raise ValueError(
                f"Layer {self.name!r} has no rate before it is built: call it on "
                "[shortcut, branch] first."
            )
        return self._damping.rate(ops.convert_to_tensor(self.k))

    def build(self, input_shape: Sequence[Sequence[int | None]]) -> None:
        """Creates k; `input_shape` holds the shapes of `[shortcut, branch]`."""
        self._check(input_shape)
        if self._damping.rate is not None:
            # autocast=False: in bfloat16, λ = 0.23 would be off by 1 %.
            self.k = self.add_weight(
                shape=(),
                initializer=self.initializer,
                name="k",
                dtype="float32",
                autocast=False,
            )

    def call(self, inputs: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
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

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Combines the masks of both inputs as `keras.layers.Add` does."""
        if mask is None or any(m is None for m in mask):
            return None
        return ops.logical_or(*mask)

    def compute_output_shape(
        self, input_shape: Sequence[Sequence[int | None]]
    ) -> tuple[int | None, ...]:
        """Returns the shape that both inputs have."""
        self._check(input_shape)
        return tuple(input_shape[1])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "damping": self.damping,
            "initializer": keras.initializers.serialize(self.initializer),
        }

    def _check(self, input_shape):
        is_pair = isinstance(input_shape, (list, tuple)) and len(input_shape) == 2
        if not is_pair or not all(isinstance(s, (list, tuple)) for s in input_shape):
            raise ValueError(
                "DampedAdd must be called on two tensors, [shortcut, branch]. "
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
