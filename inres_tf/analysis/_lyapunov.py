"""A network as a dynamical system: how perturbations grow from block to block."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from inres_tf import attacks
from inres_tf.analysis import compiled
from inres_tf.analysis._lipschitz import block_constants, check_iteration
from inres_tf.analysis.blocks import Chain, damped_at
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.layers import damped_layers
from inres_tf.models import precision
from inres_tf.progress import bar


@dataclasses.dataclass(frozen=True)
class Lyapunov:
    """Growth and local exponents of n images in m settings of λ.

    Attributes:
        settings: λ that all damped blocks were set to, (m,); nan: as trained.
        rates: λ of each block in each setting, (m, blocks); nan where a block is an
            addition that cannot be damped.
        names: of the blocks, as in `inres_tf.analysis.blocks.Block`.
        growth_random: `growth` of random signs, (m, n, 1 + blocks).
        growth_pgd: `growth` of what PGD adds, made against each setting anew, likewise.
        exponents: log of the largest singular value of each block's Jacobian at each
            image, (m, n, blocks). Above 0 the block stretches some direction, below 0
            it contracts all of them.
        converged: whether the power iteration did, booleans, like `exponents`.
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
        """Over the images: growth from the first block's input to the last's output."""
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
    """What a setting of λ is called in tables and plots."""
    return "λ as trained" if np.isnan(setting) else f"λ = {setting:g}"


def through_blocks(growth) -> np.ndarray:
    """`growth` relative to its first column: what the blocks make of a difference.

    nan where nothing of the difference reaches them.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return growth / growth[..., :1]


def growth(model, images, perturbed, *, batch_size: int = 250) -> np.ndarray:
    """How far apart two inputs are in front of the blocks and after each of them.

    Args:
        model: Keras classifier of pixels in [0, 255] with residual blocks.
        images: pixels in [0, 255], (number, height, width, channels).
        perturbed: their perturbed copies, of the same shape.
        batch_size: images at a time; the results do not depend on it.

    Returns:
        Float32 (number, 1 + blocks): the L2 norm of the difference at the first block's
        input, then at each block's output, over that of the pixels, in units of the
        features by 1/255 of the pixel range. nan where the pixels do not differ. What
        the blocks do to it is `through_blocks` of this.

    Raises:
        UserError: if the model has no residual blocks.
        ValueError: if the shapes differ.
    """
    images, perturbed = (np.asarray(x, np.float32) for x in (images, perturbed))
    if images.shape != perturbed.shape:
        raise ValueError(
            "`perturbed` must have the shape of `images`. Received: "
            f"{perturbed.shape} and {images.shape}"
        )
    chain, function = _compile_growth(
        precision.in_float32(model), tf.distribute.get_strategy()
    )
    chain.require()
    return compiled.in_batches(function, [images, perturbed], batch_size)


def lyapunov(
    model,
    images,
    labels,
    eps: float,
    *,
    rates=(),
    steps: int = 20,
    iterations: int = 50,
    tolerance: float = 1e-3,
    seed: int = 0,
    batch_size: int = 250,
    progress: bool = False,
) -> Lyapunov:
    """Growth of perturbations and local exponents, block by block and by λ.

    λ is put back afterwards, also after an error. The weights were trained for other λ:
    this shows what λ does to these weights, not what a network trained with it does.

    Args:
        model: Keras classifier of pixels in [0, 255] with residual blocks, that ends in
            logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: L-infinity radius of the perturbations, in 1/255 of the pixel range:
            random signs of this size, clipped to the pixel range, and PGD.
        rates: λ >= 0 to set all damped blocks to, beside λ as trained. A model
            without damped blocks is measured as it is alone.
        steps: steps of PGD, each of 2.5 eps / steps.
        iterations: most steps of the power iteration.
        tolerance: of the power iteration, as in `inres_tf.analysis.lipschitz`.
        seed: of the signs, PGD's start and the power iteration's.
        batch_size: images at a time; the results do not depend on it.
        progress: whether to show a progress bar.

    Returns:
        A `Lyapunov`.

    Raises:
        UserError: if the model has no residual blocks.
        ValueError: if the logits cannot be found or an argument is out of range.

    Reference:
        Exponents: Benettin et al., Lyapunov Characteristic Exponents for Smooth
        Dynamical Systems, Meccanica 15, 1980; here those of one step each. Damping:
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
    settings = [None]
    if damped_layers(model):
        settings += rates
    signs = np.random.default_rng([seed, 2]).choice(np.float32([-1, 1]), images.shape)
    noisy = np.clip(images + np.float32(eps) * signs, 0, 255)
    found = {"rates": [], "growth_random": [], "growth_pgd": [], "constants": []}
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
            found["rates"].append([block.rate for block in chain.blocks])
            for name, other in (("random", noisy), ("pgd", adversarial)):
                found[f"growth_{name}"].append(
                    growth(model, images, other, batch_size=batch_size)
                )
            _, constants = block_constants(
                model, images, batch_size, iterations, tolerance, seed
            )
            found["constants"].append(constants)
    constants = np.stack(found.pop("constants"))
    with np.errstate(divide="ignore"):  # a block that is constant: -inf
        exponents = np.log(constants[..., 0])
    return Lyapunov(
        settings=np.array([np.nan if s is None else s for s in settings]),
        names=tuple(block.name for block in chain.blocks),
        exponents=exponents,
        converged=constants[..., 2] > 0,
        **{name: np.array(values) for name, values in found.items()},
    )


@functools.lru_cache(maxsize=4)
def _compile_growth(model, strategy):
    del strategy  # the one in scope, for which `compile_rows` compiles
    chain = Chain(model)

    def norm(rows):
        return tf.norm(tf.reshape(rows, [tf.shape(rows)[0], -1]), axis=1)

    def distances(images, perturbed):
        states, others = chain.states(images), chain.states(perturbed)
        pairs = [(states[0][0], others[0][0])]
        pairs += [(x, y) for (_, x), (_, y) in zip(states, others)]
        found = tf.stack([norm(x - y) for x, y in pairs], axis=1)
        return found / norm(images - perturbed)[:, None]

    images = tf.TensorSpec((None, *model.input_shape[1:]))
    return chain, compile_per_example(distances, [images, images])
