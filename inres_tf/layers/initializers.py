"""Kernel initializers of AirNets."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# Variances of the cosines of 2x2 patches of CIFAR-10, whose pixels are normalised: rows
# by vertical and horizontal frequency, columns by frequency over the channels.
_VARIANCES = (
    (15.53, 1.195, 0.258),
    (0.529, 0.00583, 0.0023),
    (0.622, 0.00858, 0.00305),
    (0.0851, 0.00032, 0.00019),
)


@keras.saving.register_keras_serializable(package="inres_tf")
class PatchWhitening(keras.initializers.Initializer):
    """Kernels that whiten the 2x2 patches of natural images, and their negatives.

    The cosine transform of a patch, over its rows, columns and channels, is close to
    its principal components for natural images: on the first 10,000 training images of
    CIFAR-10, re-encoded as JPEG, correlations between cosines are below 0.14. Each
    cosine is divided by its standard deviation there plus noise, so that no training
    image is needed. Filters are ordered by frequency, with the negatives of all last.

    Args:
        noise: variance of noise that is added to the variances of the cosines, at least
            0, in the units of normalised pixels (standard deviation near 1). Noise of
            this variance in the pixels becomes noise of a variance below 1 in the
            outputs, however rare a frequency is. The default is noise of a standard
            deviation of 11 of 255 levels, as the zoo normalises CIFAR-10.

    Call arguments:
        shape: (2, 2, channels, filters) with filters = 8 · channels.
        dtype: type of the kernel, by default that of Keras.

    Raises:
        ValueError: if `noise` is negative or not finite, or when called with another
            shape.

    Example:
        >>> inres_tf.layers.PatchWhitening()((2, 2, 3, 24)).shape
        TensorShape([2, 2, 3, 24])

    Reference:
        Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024 (arXiv
        2404.00498), section 3.1, with the principal components of the training images
        and `noise=5e-4`.
    """

    def __init__(self, noise: float = 0.05):
        if not 0 <= noise < math.inf:
            raise ValueError(
                "`noise` must be a finite number of at least 0. "
                f"Received: noise={noise}"
            )
        self.noise = float(noise)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the kernel."""
        height, width, channels, filters = shape
        if (height, width) != (2, 2) or filters != 8 * channels:
            raise ValueError(
                "`shape` must be (2, 2, channels, 8 * channels). "
                f"Received: shape={tuple(shape)}"
            )
        variances = np.array(_VARIANCES)
        # Beyond three channels, frequencies are taken for as rare as the third.
        columns = np.minimum(np.arange(channels), variances.shape[1] - 1)
        basis = np.kron(np.kron(_cosines(2), _cosines(2)), _cosines(channels))
        basis /= np.sqrt(variances[:, columns].reshape(-1, 1) + self.noise)
        kernel = np.concatenate([basis, -basis]).T.reshape(shape)
        return ops.convert_to_tensor(kernel, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"noise": self.noise}


@keras.saving.register_keras_serializable(package="inres_tf")
class PartialIdentity(keras.initializers.Initializer):
    """Convolution kernels whose first filters are the identity.

    The first min(inputs, filters) filters are the identity at the centre of the kernel
    (also known as Dirac); the others are uniform with variance 1 / (3 · fan in).

    Args:
        seed: seed of the random filters.

    Call arguments:
        shape: (height, width, inputs, filters) with odd sides.
        dtype: type of the kernel, by default that of Keras.

    Example:
        >>> import numpy as np
        >>> kernel = np.array(inres_tf.layers.PartialIdentity()((3, 3, 2, 4)))
        >>> kernel[1, 1, :, :2]
        array([[1., 0.],
               [0., 1.]], dtype=float32)

    Reference:
        Zagoruyko & Komodakis, DiracNets: Training Very Deep Neural Networks Without
        Skip-Connections, 2017 (arXiv 1706.00388); Jordan 2024 (arXiv 2404.00498),
        section 3.2, for filters beyond the inputs.
    """

    def __init__(self, seed: int | None = None):
        self.seed = seed
        self._random = keras.initializers.VarianceScaling(
            1 / 3, "fan_in", "uniform", seed=seed
        )

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the kernel."""
        height, width, inputs, filters = shape
        passed = min(inputs, filters)
        identity = np.zeros((height, width, inputs, passed))
        identity[height // 2, width // 2, range(passed), range(passed)] = 1
        kernel = ops.convert_to_tensor(identity, dtype or keras.config.floatx())
        if filters == passed:
            return kernel
        return ops.concatenate(
            [kernel, self._random(shape, dtype)[..., passed:]], axis=-1
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"seed": self.seed}


def _cosines(size: int) -> np.ndarray:
    """Returns the orthonormal cosine transform (DCT-II), one frequency per row."""
    frequency, position = np.arange(size)[:, None], np.arange(size) + 0.5
    cosines = np.cos(np.pi * frequency * position / size)
    return cosines / np.linalg.norm(cosines, axis=1, keepdims=True)
