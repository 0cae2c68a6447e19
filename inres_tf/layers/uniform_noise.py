"""Uniform noise added in training."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="inres_tf")
class UniformNoise(keras.layers.Layer):
    """Adds noise from U(0, high) in training, and none in inference.

    The uniform counterpart of `keras.layers.GaussianNoise`.

    Args:
        high: upper end of the noise's range, a finite number > 0.
        seed: integer that makes the noise reproducible.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `high` is not a finite positive number.

    Example:
        >>> import numpy as np
        >>> layer = inres_tf.layers.UniformNoise(0.5, seed=0)
        >>> noise = np.asarray(layer(np.zeros((4, 3)), training=True))
        >>> bool((0 <= noise).all() and (noise < 0.5).all())
        True

    Reference:
        The noise-injected network in the official code of Yang et al., ICML 2020, after
        Wang et al., ResNets Ensemble via the Feynman-Kac Formalism, NeurIPS 2019.
    """

    def __init__(self, high: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(high, (int, float)) or not 0 < high < float("inf"):
            raise ValueError(
                f"`high` must be a positive finite number. Received: high={high!r}"
            )
        self.high = high
        self.supports_masking = True
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(
        self, inputs: keras.KerasTensor, training: bool = False
    ) -> keras.KerasTensor:
        """Adds the noise if `training`."""
        if not training:
            return inputs
        return inputs + keras.random.uniform(
            ops.shape(inputs), 0.0, self.high, self.compute_dtype, self.seed_generator
        )

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "high": self.high, "seed": self.seed}
