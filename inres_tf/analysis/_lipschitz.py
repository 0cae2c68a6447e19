"""Local Lipschitz constants: the largest singular values of Jacobians at images.

They are lower bounds of the network's Lipschitz constant, the supremum over all inputs:
they can refute a claimed constant but never certify one. Certified bounds are computed
from the weights, such as the product of the operator norms of all layers; they hold
everywhere and are often larger by orders of magnitude.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf.analysis import compiled
from inres_tf.analysis.blocks import Chain
from inres_tf.analysis.spectral import largest_singular_value
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.models.compile_cache import cache_per_model
from inres_tf.models.logits import logits_fn

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Lipschitz:
    """Local Lipschitz constants in L2 at each of n images.

    Attributes:
        network: constants of the logits, in logits per 1/255 of the pixel range, (n,).
        margin: constants of the margin, the largest other logit minus the true one, in
            the same units, (n,): the norm of its gradient.
        blocks: constants of each residual block, dimensionless, (n, blocks).
        names: names of the blocks; see `inres_tf.analysis.Block`.
        converged: whether the power iterations converged, booleans, (n, 1 + blocks):
            the network's, then the blocks'. Without convergence the value is a lower
            bound.
        iterations: number of steps of the power iterations, of the same shape.
    """

    network: np.ndarray
    margin: np.ndarray
    blocks: np.ndarray
    names: tuple[str, ...]
    converged: np.ndarray
    iterations: np.ndarray

    @property
    def product(self) -> np.ndarray:
        """Product of the blocks' constants at each image, (n,).

        If each block starts where the previous one ends, it is an upper bound of the
        local constant from the first block's input to the last block's output.
        """
        return self.blocks.prod(1, dtype=np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {**dataclasses.asdict(self), "product": self.product}

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean, median and maximum over the images, and the share that converged."""
        rows = {"logits": (self.network, self.converged[:, 0].mean())}
        rows["margin"] = (self.margin, 1.0)
        if self.names:
            converged = self.converged[:, 1:].mean()
            rows["largest of a block"] = (self.blocks.max(1), converged)
            rows["product of the blocks"] = (self.product, converged)
        return {
            name: {
                "mean": values.mean(),
                "median": np.median(values),
                "max": values.max(),
                "converged": share,
            }
            for name, (values, share) in rows.items()
        }


def lipschitz(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    iterations: int = 50,
    tolerance: float = 1e-3,
    seed: int = 0,
    batch_size: int = 250,
) -> Lipschitz:
    """Local Lipschitz constants of a network, its margin and its residual blocks.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        iterations: maximum number of steps of the power iteration.
        tolerance: relative change of the value in a step at which the iteration stops;
            the error can be larger.
        seed: seed of the vector that the iterations start from.
        batch_size: number of images per batch; results do not depend on it.

    Returns:
        A `Lipschitz`. For a model without residual blocks, `blocks` has no columns.

    Raises:
        ValueError: if the logits cannot be found or an argument is out of range.

    Example:
        >>> import keras
        >>> from inres_tf import analysis, data, layers
        >>> inputs = keras.Input((8, 8, 1))
        >>> x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
        >>> branch = keras.layers.Conv2D(4, 3, padding="same")(x)
        >>> x = keras.layers.Flatten()(layers.DampedAdd("in")([x, branch]))
        >>> model = keras.Model(inputs, keras.layers.Dense(10)(x))
        >>> test = data.load("digits").test.take(slice(2))
        >>> result = analysis.lipschitz(model, test.images, test.labels, iterations=5)
        >>> result.network.shape, result.blocks.shape
        ((2,), (2, 1))

    Reference:
        Local constants as lower bounds: Jordan and Dimakis, Exactly Computing the
        Local Lipschitz Constant of ReLU Networks, NeurIPS 2020. The product: Szegedy
        et al., Intriguing Properties of Neural Networks, 2014, section 4.3.
    """
    check_iteration(iterations, tolerance)
    model, images, labels = compiled.prepare(model, images, labels)
    settings = (iterations, tolerance, seed)
    whole = compiled.in_batches(
        _compile_logits(model, tf.distribute.get_strategy()),
        [images],
        batch_size,
        *settings,
    )[:, None]
    names, blocks = block_constants(model, images, batch_size, *settings)
    gradients = compiled.input_gradients(model, images, labels, "margin", batch_size)
    constants = np.concatenate([whole, blocks], axis=1)
    return Lipschitz(
        network=whole[:, 0, 0],
        margin=np.sqrt((gradients.astype(np.float64) ** 2).sum((1, 2, 3))),
        blocks=blocks[:, :, 0],
        names=names,
        converged=constants[:, :, 2] > 0,
        iterations=constants[:, :, 1].astype(int),
    )


def check_iteration(iterations: int, tolerance: float) -> None:
    """Raises ValueError if settings of the power iteration are out of range."""
    compiled.check_range("iterations", iterations, 1, 10**6)
    compiled.check_range("tolerance", tolerance, 0, 1)


def block_constants(
    model: keras.Model,
    images: np.ndarray,
    batch_size: int,
    iterations: int,
    tolerance: float,
    seed: int,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Largest singular value of each block's Jacobian, at the current λ.

    Args:
        model: float32 Keras model.
        images: float32 pixels, (number, height, width, channels).
        batch_size: number of images per batch.
        iterations: maximum number of steps of the power iteration.
        tolerance: relative change of the value at which the iteration stops.
        seed: seed of the vector that the iterations start from.

    Returns:
        Names of the blocks, and the results of
        `inres_tf.analysis.largest_singular_value`, float32, (number, blocks, 3).
    """
    chain, constants = _compile_blocks(model, tf.distribute.get_strategy())
    names = tuple(block.name for block in chain.blocks)
    if not names:
        return (), np.zeros((len(images), 0, 3), np.float32)
    return names, compiled.in_batches(
        constants, [images], batch_size, iterations, tolerance, seed
    )


def _signature(model):
    return [
        tf.TensorSpec((None, *model.input_shape[1:])),
        tf.TensorSpec((), tf.int32),
        tf.TensorSpec(()),
        tf.TensorSpec((), tf.int32),
    ]


@cache_per_model(maxsize=4)
def _compile_logits(model, strategy):
    del strategy  # a key of the cache: functions are compiled for the one in scope
    logits = logits_fn(model)

    def constants(images, iterations, tolerance, seed):
        function = functools.partial(logits, training=False)
        return largest_singular_value(function, images, iterations, tolerance, seed)

    return compile_per_example(constants, _signature(model))


@cache_per_model(maxsize=4)
def _compile_blocks(model, strategy):
    del strategy
    chain = Chain(model)

    def constants(images, iterations, tolerance, seed):
        values = [
            largest_singular_value(block, inputs, iterations, tolerance, seed)
            for block, (inputs, _) in zip(chain.blocks, chain.states(images))
        ]
        return tf.stack(values, axis=1)

    return chain, compile_per_example(constants, _signature(model))
