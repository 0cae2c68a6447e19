"""Local Lipschitz constants: the largest singular values of Jacobians at images.

What is found at images is a lower bound of the network's Lipschitz constant, which is
the supremum over all inputs: it can refute a claimed constant and certifies none. A
certified bound comes from the weights, such as the product of the operator norms of all
layers, holds everywhere and is often larger by orders of magnitude.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from inres_tf.analysis import compiled
from inres_tf.analysis.blocks import Chain
from inres_tf.analysis.spectral import largest_singular_value
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.models.logits import logits_fn


@dataclasses.dataclass(frozen=True)
class Lipschitz:
    """Local Lipschitz constants in L2 at each of n images.

    Attributes:
        network: of the logits, in their units by 1/255 of the pixel range, (n,).
        margin: of the margin, the logit of the true class less the greatest other one,
            (n,): the norm of its gradient, in the same units.
        blocks: of each residual block, without units, (n, blocks).
        names: of the blocks, as in `inres_tf.analysis.blocks.Block`.
        converged: whether the power iterations did, booleans, (n, 1 + blocks): of the
            network, then of the blocks. One that did not gives a lower bound.
        iterations: steps done, integers, like `converged`.
    """

    network: np.ndarray
    margin: np.ndarray
    blocks: np.ndarray
    names: tuple[str, ...]
    converged: np.ndarray
    iterations: np.ndarray

    @property
    def product(self) -> np.ndarray:
        """The product of the blocks' constants at each image, (n,).

        Where each block begins at the end of the one before it, it bounds the local
        constant from the first block's input to the last block's output, from above.
        """
        return self.blocks.prod(1, dtype=np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {**dataclasses.asdict(self), "product": self.product}

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean, median and maximum over the images, and how many have converged."""
        rows = {"logits": (self.network, self.converged[:, 0].mean())}
        rows["margin"] = (self.margin, 1.0)
        if self.names:
            every = self.converged[:, 1:].mean()
            rows["largest of a block"] = (self.blocks.max(1), every)
            rows["product of the blocks"] = (self.product, every)
        return {
            name: {
                "mean": values.mean(),
                "median": np.median(values),
                "max": values.max(),
                "converged": converged,
            }
            for name, (values, converged) in rows.items()
        }


def lipschitz(
    model,
    images,
    labels,
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
        iterations: most steps of the power iteration.
        tolerance: an iteration ends when a step changes its value by no more than this
            part of it; the error can be greater.
        seed: of the vector that the iterations start from.
        batch_size: images at a time; the results do not depend on it.

    Returns:
        A `Lipschitz`; a model without residual blocks has no columns for them.

    Raises:
        ValueError: if the logits cannot be found or an argument is out of range.

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
    found = np.concatenate([whole, blocks], axis=1)
    return Lipschitz(
        network=whole[:, 0, 0],
        margin=np.sqrt((gradients.astype(np.float64) ** 2).sum((1, 2, 3))),
        blocks=blocks[:, :, 0],
        names=names,
        converged=found[:, :, 2] > 0,
        iterations=found[:, :, 1].astype(int),
    )


def check_iteration(iterations, tolerance) -> None:
    """Raises ValueError for wrong settings of the power iteration."""
    compiled.check_range("iterations", iterations, 1, 10**6)
    compiled.check_range("tolerance", tolerance, 0, 1)


def block_constants(model, images, batch_size, iterations, tolerance, seed):
    """The largest singular value of the Jacobian of each block, with λ as it is now.

    Args:
        model: as in `lipschitz`, in float32.
        images: float32 pixels, (number, height, width, channels).
        batch_size: images at a time.
        iterations: as in `lipschitz`.
        tolerance: as in `lipschitz`.
        seed: as in `lipschitz`.

    Returns:
        (names of the blocks, float32 (number, blocks, 3) of what
        `inres_tf.analysis.spectral.largest_singular_value` gives).
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


@functools.lru_cache(maxsize=4)
def _compile_logits(model, strategy):
    del strategy  # the one in scope, for which `compile_rows` compiles
    logits = logits_fn(model)

    def constants(images, iterations, tolerance, seed):
        function = functools.partial(logits, training=False)
        return largest_singular_value(function, images, iterations, tolerance, seed)

    return compile_per_example(constants, _signature(model))


@functools.lru_cache(maxsize=4)
def _compile_blocks(model, strategy):
    del strategy
    chain = Chain(model)

    def constants(images, iterations, tolerance, seed):
        found = []
        for block, (inputs, _) in zip(chain.blocks, chain.states(images)):
            found.append(
                largest_singular_value(block, inputs, iterations, tolerance, seed)
            )
        return tf.stack(found, axis=1)

    return chain, compile_per_example(constants, _signature(model))
