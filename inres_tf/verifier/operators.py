"""Convolutions, and proved bounds of the norms of linear maps, in NumPy float64.

A bound is proved by a Cholesky factorisation: if b I - Mᴴ M has one, all eigenvalues of
Mᴴ M lie below b, and the norm of M below √b. How b was found does not matter.

Reference:
    Rump: Verification of Positive Definiteness, BIT Numerical Mathematics 2006: a
    factorisation that succeeds in floating point is a proof, up to an error that is far
    below the slack that is added here.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import numpy as np

# Relative slack for rounding in float64: a factorisation of size n loses n² · 1e-16.
_SLACK = 1e-9
# Bytes of the arrays that a convolution or a norm works on at a time.
_BYTES = 2**20


def norm_bound(matrices: Iterable[np.ndarray]) -> float:
    """An upper bound of the largest singular value of several matrices.

    Args:
        matrices: finite real or complex matrices, of any shapes.
    """
    bound = 0.0
    for matrix in matrices:
        tall = matrix.shape[0] > matrix.shape[1]
        gram = matrix.conj().T @ matrix if tall else matrix @ matrix.conj().T
        if not _is_below(gram, bound):
            bound = float(np.linalg.eigvalsh(gram)[-1])
            while not _is_below(gram, bound):
                bound *= 1 + _SLACK
    return float(np.sqrt(bound) * (1 + _SLACK))


def _is_below(gram: np.ndarray, bound: float) -> bool:
    """Whether all eigenvalues of a Hermitian matrix are proved to be below `bound`."""
    if not gram.any():
        return True
    difference = -gram
    difference.flat[:: len(gram) + 1] += bound
    try:
        np.linalg.cholesky(difference)
    except np.linalg.LinAlgError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The map x -> x · kernel of rows.

    Attributes:
        kernel: (inputs, outputs).
    """

    kernel: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Applies the map."""
        return x @ self.kernel

    def transpose(self, y: np.ndarray) -> np.ndarray:
        """Applies the transposed map."""
        return y @ self.kernel.T

    @functools.cached_property
    def norm(self) -> float:
        """An upper bound of the norm."""
        return norm_bound([self.kernel])


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution of images surrounded by zeros.

    Attributes:
        kernel: (height, width, channels, filters).
        size: height and width of the images.
        stride: along both axes.
        same: whether the padding keeps the size, divided by the stride and rounded up;
            otherwise there is none.
    """

    kernel: np.ndarray
    size: tuple[int, ...]
    stride: int = 1
    same: bool = True

    @property
    def windows(self) -> list[tuple[int, int, int]]:
        """Along each axis: zeros before and after the image, and outputs."""
        windows = []
        for length, taps in zip(self.size, self.kernel.shape):
            outputs = -(-(length if self.same else length - taps + 1) // self.stride)
            reach = (outputs - 1) * self.stride + taps
            zeros = max(reach - length, 0) if self.same else 0
            windows.append((zeros // 2, zeros - zeros // 2, outputs))
        return windows

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Applies the convolution to (batch, height, width, channels)."""
        height, width, channels, filters = self.kernel.shape
        (top, bottom, rows), (left, right, columns) = self.windows
        x = np.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)])
        flat = self.kernel.reshape(-1, filters)
        outputs = np.empty((len(x), rows, columns, filters))
        step = max(1, _BYTES // (8 * rows * columns * len(flat)))
        for start in range(0, len(x), step):
            part = x[start : start + step]
            sb, sh, sw, sc = part.strides
            # The channels of a row of the kernel are contiguous in memory.
            patches = np.lib.stride_tricks.as_strided(
                part,
                (len(part), rows, columns, height, width * channels),
                (sb, sh * self.stride, sw * self.stride, sh, sc),
                writeable=False,
            )
            result = patches.reshape(-1, len(flat)) @ flat
            outputs[start : start + step] = result.reshape(-1, *outputs.shape[1:])
        return outputs

    def transpose(self, y: np.ndarray) -> np.ndarray:
        """Applies the transposed map of a convolution of stride 1 and odd size."""
        kernel = self.kernel[::-1, ::-1].transpose(0, 1, 3, 2)
        return Convolution(np.ascontiguousarray(kernel), self.size)(y)

    @functools.cached_property
    def norm(self) -> float:
        """An upper bound of the norm.

        It is the norm of the same convolution on a torus, so large that images
        surrounded by zeros do not reach around it. There it acts on each frequency
        separately, or with strides on the `stride`² frequencies that its outputs cannot
        tell apart.

        Reference:
            Sedghi, Gupta, Long: The Singular Values of Convolutional Layers, ICLR 2019.
        """
        return norm_bound(self._blocks())

    def _blocks(self) -> Iterator[np.ndarray]:
        """The matrices of the frequencies, in random order; of f and -f only one."""
        stride = self.stride
        axes = []
        for length, taps, window in zip(self.size, self.kernel.shape, self.windows):
            before, _, outputs = window
            # Output o takes points o - back to o + ahead of the phases of the input.
            back, ahead = -(-before // stride), (taps - 1 - before) // stride
            inputs = -(-length // stride)
            # Larger circles are sound as well. The layers take those of centred
            # padding, and their claims would otherwise exceed the bound a little.
            centred = max(-(-((taps - 1) // 2) // stride), taps // 2 // stride)
            frequencies = max(inputs + back, outputs + ahead, inputs + centred)
            axes.append(_phases(frequencies, stride, taps))
        rows, columns = axes
        half = columns[: len(columns) // 2 + 1]
        pairs = len(rows) * len(half)
        # In random order, few blocks exceed all blocks before them.
        order = np.random.default_rng(0).permutation(pairs)
        channels, filters = self.kernel.shape[2:]
        flat = self.kernel.reshape(-1, channels * filters)
        step = max(1, _BYTES // (16 * stride**2 * channels * filters))
        for start in range(0, pairs, step):
            i, j = np.divmod(order[start : start + step], len(half))
            phases = np.einsum("nai,nbj->nabij", rows[i], half[j])
            blocks = phases.reshape(-1, len(flat)) @ flat / stride
            yield from blocks.reshape(-1, stride**2 * channels, filters)


def _phases(frequencies: int, stride: int, taps: int) -> np.ndarray:
    """exp(-2πi f t / n) on a circle of n = frequencies · stride points.

    Returns:
        (frequencies, stride, taps): the second axis holds the frequencies f that
        alias at each `stride`-th point.
    """
    aliases = np.arange(frequencies)[:, None] + frequencies * np.arange(stride)
    turns = aliases[..., None] * np.arange(taps) / (frequencies * stride)
    return np.exp(-2j * np.pi * turns)


def distances(vectors: np.ndarray) -> np.ndarray:
    """The Euclidean distances of all pairs of vectors, rounded up.

    Args:
        vectors: (number, length).

    Returns:
        (number, number).
    """
    rows = [np.linalg.norm(vectors - vector, axis=1) for vector in vectors]
    return np.stack(rows) * (1 + _SLACK)
