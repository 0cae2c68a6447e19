"""A network as a dynamical system: how perturbations grow from block to block."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf import attacks
from inres_tf.analysis import compiled
from inres_tf.analysis._lipschitz import block_constants, check_iteration
from inres_tf.analysis.blocks import Chain, damped_at
from inres_tf.analysis.comparison import through_blocks
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.layers import damped_layers
from inres_tf.models import precision
from inres_tf.models.compile_cache import cache_per_model
from inres_tf.progress import bar

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Lyapunov:
    """Growth and local exponents of n images in m settings of λ.

    Attributes:
        settings: λ that all damped blocks were set to, nan for λ as trained, (m,).
        rates: λ of each block in each setting, nan for additions that are not damped,
            (m, blocks).
        names: names of the blocks; see `inres_tf.analysis.Block`.
        growth_random: `growth` of random signs, (m, n, 1 + blocks).
        growth_pgd: `growth` of PGD's perturbations, computed for each setting, of the
            same shape.
        exponents: log of the largest singular value of each block's Jacobian at each
            image, (m, n, blocks). If it is positive, the block stretches some
            direction; if it is negative, the block contracts all of them.
        converged: whether the power iterations converged, booleans of the same shape.
    """

    settings: np.ndarray
    rates: np.ndarray
    names: tuple[str, ...]
    growth_random: np.ndarray
    growth_pgd: np.ndarray
    exponents: np.ndarray
    converged: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return dataclasses.asdict(self)

    def summary(self) -> dict[str, dict[str, float]]:
        """Growth through all blocks and exponents over the images, by setting of λ."""
        random, pgd = (
            np.median(through_blocks(growth)[..., -1], axis=1)
            for growth in (self.growth_random, self.growth_pgd)
        )
        return {
            label(setting): {
                "median growth, random": random[i],
                "median growth, PGD": pgd[i],
                "mean exponent": self.exponents[i].mean(),
                "converged": self.converged[i].mean(),
            }
            for i, setting in enumerate(self.settings)
        }


def label(setting: float) -> str:
    """Label of a setting of λ in tables and plots."""
    return "λ as trained" if np.isnan(setting) else f"λ = {setting:g}"


def growth(
    model: keras.Model,
    images: npt.ArrayLike,
    perturbed: npt.ArrayLike,
    *,
    batch_size: int = 250,
) -> np.ndarray:
    """Growth of perturbations up to the first block and after each block.

    Args:
        model: Keras classifier of pixels in [0, 255] with residual blocks.
        images: pixels in [0, 255], (number, height, width, channels).
        perturbed: perturbed images, of the same shape.
        batch_size: number of images per batch; results do not depend on it.

    Returns:
        L2 norm of the difference of the features at the first block's input, then at
        each block's output, divided by that of the pixels, per 1/255 of the pixel
        range; float32, (number, 1 + blocks). nan where the pixels do not differ.

    Raises:
        UserError: if the model has no residual blocks.
        ValueError: if the shapes differ.

    Example:
        >>> from inres_tf import analysis, data
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> images = data.load("digits").test.images[:2]
        >>> analysis.growth(model, images, 255.0 - images).shape
        (2, 4)
    """
    images, perturbed = (np.asarray(x, np.float32) for x in (images, perturbed))
    if images.shape != perturbed.shape:
        raise ValueError(
            "`perturbed` must have the shape of `images`. Received: perturbed of shape "
            f"{perturbed.shape}, images of shape {images.shape}"
        )
    chain, function = _compile_growth(
        precision.in_float32(model), tf.distribute.get_strategy()
    )
    chain.require()
    return compiled.in_batches(function, [images, perturbed], batch_size)


def lyapunov(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    rates: Sequence[float] = (),
    steps: int = 20,
    iterations: int = 50,
    tolerance: float = 1e-3,
    seed: int = 0,
    batch_size: int = 250,
    progress: bool = False,
) -> Lyapunov:
    """Growth of perturbations and local exponents, by block and by λ.

    Afterwards, even after an error, λ is restored. The weights were trained with other
    λ: this shows the effect of λ on these weights, not on a network trained with it.

    Args:
        model: Keras classifier of pixels in [0, 255] with residual blocks, that ends in
            logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: L-infinity radius of the perturbations, random signs and PGD, in 1/255 of
            the pixel range. Both are clipped to valid pixels.
        rates: λ >= 0 to set all damped blocks to, as well as λ as trained. Ignored for
            a model without damped blocks.
        steps: number of PGD steps, each of size 2.5 eps / steps.
        iterations: maximum number of steps of the power iteration.
        tolerance: relative change of the value in a step at which the power iteration
            stops.
        seed: seed of the signs, of PGD's start and of the power iteration's.
        batch_size: number of images per batch; results do not depend on it.
        progress: whether to show a progress bar.

    Returns:
        A `Lyapunov`.

    Raises:
        UserError: if the model has no residual blocks.
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
        >>> result = analysis.lyapunov(
        ...     model, test.images, test.labels, eps=8, rates=(0.5,), steps=2,
        ...     iterations=5)
        >>> result.settings
        array([nan, 0.5])
        >>> result.growth_pgd.shape, result.exponents.shape
        ((2, 2, 2), (2, 2, 1))

    Reference:
        Exponents: Benettin et al., Lyapunov Characteristic Exponents for Smooth
        Dynamical Systems, Meccanica 15, 1980; here each of a single step. Damping:
        Yang et al., Interpolation between Residual and Non-Residual Networks, ICML
        2020, section 3.
    """
    check_iteration(iterations, tolerance)
    compiled.check_range("eps", eps, 1e-3, 255)
    for rate in rates:
        compiled.check_range("rates", rate, 0, 1e6)
    model, images, labels = compiled.prepare(model, images, labels)
    chain, _ = _compile_growth(model, tf.distribute.get_strategy())
    chain.require()
    settings: list[float | None] = [None]
    if damped_layers(model):
        settings += rates
    signs = np.random.default_rng([seed, 2]).choice(
        np.array([-1, 1], np.float32), images.shape
    )
    noisy = np.clip(images + np.float32(eps) * signs, 0, 255)
    damping, random, pgd, all_constants = [], [], [], []
    for setting in bar(settings, "lyapunov", "λ", disable=not progress):
        with damped_at(model, setting):
            adversarial = attacks.pgd(
                model,
                images,
                labels,
                eps,
                steps=steps,
                step_size=2.5 * eps / steps,
                seed=seed,
                batch_size=batch_size,
            )
            damping.append([block.rate for block in chain.blocks])
            random.append(growth(model, images, noisy, batch_size=batch_size))
            pgd.append(growth(model, images, adversarial, batch_size=batch_size))
            _, values = block_constants(
                model, images, batch_size, iterations, tolerance, seed
            )
            all_constants.append(values)
    constants = np.stack(all_constants)
    with np.errstate(divide="ignore"):  # constant blocks: -inf
        exponents = np.log(constants[..., 0])
    return Lyapunov(
        settings=np.array([np.nan if s is None else s for s in settings]),
        rates=np.array(damping),
        names=tuple(block.name for block in chain.blocks),
        growth_random=np.array(random),
        growth_pgd=np.array(pgd),
        exponents=exponents,
        converged=constants[..., 2] > 0,
    )


@cache_per_model(maxsize=4)
def _compile_growth(model, strategy):
    del strategy  # a key of the cache: functions are compiled for the one in scope
    chain = Chain(model)

    def norm(rows):
        return tf.norm(tf.reshape(rows, [tf.shape(rows)[0], -1]), axis=1)

    def distances(images, perturbed):
        states, others = chain.states(images), chain.states(perturbed)
        pairs = [(states[0][0], others[0][0])]
        pairs += [(x, y) for (_, x), (_, y) in zip(states, others)]
        norms = tf.stack([norm(x - y) for x, y in pairs], axis=1)
        return norms / norm(images - perturbed)[:, None]

    images = tf.TensorSpec((None, *model.input_shape[1:]))
    return chain, compile_per_example(distances, [images, images])
