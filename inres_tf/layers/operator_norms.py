"""Upper bounds of the L2 operator norms of convolutions and matrices, in float64.

Power iteration approaches a norm from below and certifies nothing. The bounds here are
sound: never below the norm, in exact arithmetic, and rounded up by more than float64
loses.

Reference:
    Sedghi, Gupta, Long: The Singular Values of Convolutional Layers, ICLR 2019, for
    circular padding. A zero-padded convolution is a compression of a circular one on a
    larger grid. Delattre et al.: Efficient Bound of Lipschitz Constant for
    Convolutional Layers by Gram Iteration, ICML 2023 (arXiv 2305.16173).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Relative slack for the rounding of FFT and SVD in float64.
_SLACK = 1e-9
# Channels up to which the singular values are computed; wider layers are bounded.
_EXACT_CHANNELS = 128


def dense_norm_bound(kernel: npt.ArrayLike) -> float:
    """An upper bound of the spectral norm of a matrix.

    Args:
        kernel: the matrix, (inputs, outputs).

    Returns:
        The largest singular value, rounded up.

    Raises:
        ValueError: if it is not a finite matrix.

    Example:
        >>> from inres_tf.layers import operator_norms
        >>> round(operator_norms.dense_norm_bound([[3.0, 0.0], [0.0, 1.0]]), 6)
        3.0
    """
    matrix = np.asarray(kernel, np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(
            "`kernel` must be a finite matrix. Received: kernel of shape "
            f"{matrix.shape}"
        )
    return _largest_singular_value(matrix[None])


def conv_norm_bound(
    kernel: npt.ArrayLike,
    size: Sequence[int],
    strides: int = 1,
) -> float:
    """An upper bound of the L2 operator norm of a zero-padded convolution.

    It holds for any zero padding, `"valid"` included, and is the norm of a circular
    convolution on a grid that is larger by the reach of the kernel: on that grid images
    surrounded by zeros do not wrap around. Strides are split into phases first.

    Args:
        kernel: kernel, (height, width, channels, filters).
        size: height and width of the input.
        strides: stride along both axes.

    Returns:
        The bound; for 3x3 kernels a few percent above the norm at most.

    Raises:
        ValueError: if the kernel is not a finite array of rank 4, or a number is not
            positive.

    Example:
        >>> import numpy as np
        >>> from inres_tf.layers import operator_norms
        >>> mean = np.full((3, 3, 1, 1), 1 / 9)
        >>> round(operator_norms.conv_norm_bound(mean, (8, 8)), 6)
        1.0
    """
    weights = np.asarray(kernel, np.float64)
    if weights.ndim != 4 or not np.isfinite(weights).all():
        raise ValueError(
            "`kernel` must be finite, (height, width, channels, filters). Received: "
            f"kernel of shape {weights.shape}"
        )
    if strides < 1 or len(size) != 2 or min(size) < 1:
        raise ValueError(
            "`size` must be a positive height and width, `strides` positive. Received: "
            f"size={size}, strides={strides}"
        )
    weights, offsets = _phases(weights, strides)
    grid = []
    for length, reach, taps in zip(size, offsets, weights.shape):
        # Enough zeros around the phases of the input that nothing wraps around.
        grid.append(max(-(-length // strides) + reach, taps))
    symbol = np.fft.rfft2(weights, s=grid, axes=(0, 1))
    return _largest_singular_value(symbol.reshape(-1, *weights.shape[2:]))


def _phases(kernel, strides):
    """A strided convolution as one of stride 1 on the phases of its input.

    Returns:
        The kernel, (height, width, channels · strides², filters), and how far it
        reaches to either side along both axes. Its own padding is centred, which does
        not matter, since another shifts the input.
    """
    sides, reach = [], []
    for length in kernel.shape[:2]:
        offset = np.arange(length) - (length - 1) // 2
        step, phase = np.divmod(offset, strides)
        sides.append((step - step.min(), phase))
        reach.append(int(max(-step.min(), step.max())))
    (rows, row_phase), (columns, column_phase) = sides
    height, width, channels, filters = kernel.shape
    split = np.zeros(
        (rows.max() + 1, columns.max() + 1, strides, strides, channels, filters)
    )
    for i in range(height):
        for j in range(width):
            split[rows[i], columns[j], row_phase[i], column_phase[j]] = kernel[i, j]
    shape = (*split.shape[:2], strides * strides * channels, filters)
    return split.reshape(shape), reach


def _largest_singular_value(matrices) -> float:
    """An upper bound of the largest singular value of a stack of matrices."""
    if min(matrices.shape[1:]) <= _EXACT_CHANNELS:
        largest = np.linalg.norm(matrices, 2, axis=(1, 2)).max()
    else:
        largest = gram_bound(matrices).max()
    return float(largest * (1 + _SLACK))


def gram_bound(matrices: np.ndarray, iterations: int = 6) -> np.ndarray:
    """Upper bounds of the largest singular values of matrices, by Gram iteration.

    Args:
        matrices: real or complex, (number, rows, columns).
        iterations: squarings; after t of them the bound exceeds the value at most by
            the factor rank^(1 / 2^(t + 2)).

    Returns:
        Float64, (number,).

    Example:
        >>> import numpy as np
        >>> from inres_tf.layers import operator_norms
        >>> bool(operator_norms.gram_bound(np.eye(3)[None])[0] >= 1)
        True

    Reference:
        Delattre et al., ICML 2023, algorithm 1 and theorem 1.
    """
    largest = np.abs(matrices).max((1, 2))
    matrices = matrices / np.where(largest > 0, largest, 1.0)[:, None, None]
    adjoint = np.conj(np.swapaxes(matrices, -1, -2))
    wide = matrices.shape[-1] > matrices.shape[-2]
    gram = matrices @ adjoint if wide else adjoint @ matrices
    # gram = exp(scale) · G for the Hermitian power G that is kept at norm 1.
    scale = np.zeros(len(gram))
    for _ in range(iterations):
        norm = np.linalg.norm(gram, axis=(1, 2))
        safe = np.where(norm > 0, norm, 1.0)
        gram = gram / safe[:, None, None]
        gram = gram @ gram
        scale = 2 * (scale + np.log(safe))
    norm = np.linalg.norm(gram, axis=(1, 2))
    power = 2.0 ** (iterations + 1)
    with np.errstate(divide="ignore"):
        return largest * np.exp((np.log(norm) + scale) / power)
