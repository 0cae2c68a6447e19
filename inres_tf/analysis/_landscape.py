"""The loss around images, in the plane of an attack and a random direction."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from inres_tf import attacks
from inres_tf.analysis import compiled
from inres_tf.analysis.config import DIRECTIONS
from inres_tf.progress import bar

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Landscape:
    """Loss and accuracy on a grid centred at the clean image.

    Attributes:
        steps: coordinates along both axes, from -eps to eps, (grid,).
        loss: cross-entropy in nats, (number, grid, grid). The second axis is along the
            attack direction, the third along the random one.
        correct: whether each point is classified correctly, booleans of the same shape.
        direction: attack direction, one of `DIRECTIONS`.
    """

    steps: np.ndarray
    loss: np.ndarray
    correct: np.ndarray
    direction: str

    @property
    def mean_loss(self) -> np.ndarray:
        """Mean cross-entropy over the images in nats, (grid, grid)."""
        return self.loss.mean(0, dtype=np.float64)

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracy in [0, 1], (grid, grid)."""
        return self.correct.mean(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {
            **dataclasses.asdict(self),
            "mean_loss": self.mean_loss,
            "accuracy": self.accuracy,
        }

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean loss and accuracy at the centre and at the ends of both directions."""
        middle = len(self.steps) // 2
        points = {
            "clean": (middle, middle),
            "attack direction, +eps": (-1, middle),
            "attack direction, -eps": (0, middle),
            "random direction, +eps": (middle, -1),
            "both, +eps": (-1, -1),
        }
        return {
            name: {"loss": self.mean_loss[index], "accuracy": self.accuracy[index]}
            for name, index in points.items()
        }


def landscape(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    grid: int = 21,
    direction: str = "sign",
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 250,
    progress: bool = False,
) -> Landscape:
    """Cross-entropy at x + s u + t v for every image x and s, t in [-eps, eps].

    Points are not clipped to the pixel range, which would bend the plane.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: extent of the grid, in 1/255 of the pixel range.
        grid: number of points along each axis, odd.
        direction: attack direction u and random direction v, of the same L2 norm:
            `"sign"`, the sign of the gradient and random signs (eps is an L-infinity
            distance); `"gradient"`, the gradient and a random direction orthogonal to
            it, both of L2 norm 1 (eps is an L2 distance); or `"pgd"`, the perturbation
            of PGD with radius eps divided by eps, and a random direction orthogonal to
            it.
        steps: number of PGD steps, each of size 2.5 eps / steps.
        seed: seed of the random directions and of PGD's start. The directions depend
            on the index of an image, not on the batch size.
        batch_size: number of images per batch.
        progress: whether to show a progress bar.

    Returns:
        A `Landscape`.

    Raises:
        ValueError: if the logits cannot be found or an argument is out of range.

    Example:
        >>> from inres_tf import analysis, data
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> test = data.load("digits").test.take(slice(2))
        >>> result = analysis.landscape(model, test.images, test.labels, eps=8, grid=3)
        >>> result.steps
        array([-8.,  0.,  8.])
        >>> result.loss.shape
        (2, 3, 3)

    Reference:
        Yang et al., Interpolation between Residual and Non-Residual Networks, ICML
        2020, figures of loss landscapes. Signs: Tramèr et al., Ensemble Adversarial
        Training: Attacks and Defenses, ICLR 2018, section 4.1.
    """
    compiled.check_range("grid", grid, 3)
    compiled.check_range("eps", eps, 1e-3, 255)
    if grid % 2 == 0:
        raise ValueError(f"`grid` must be odd. Received: grid={grid}")
    model, images, labels = compiled.prepare(model, images, labels)
    attack, random = directions(
        model, images, labels, eps, direction, steps, seed, batch_size
    )
    # Symmetric, so that the centre is exactly 0.
    half = np.linspace(0, eps, grid // 2 + 1)
    along = np.concatenate([-half[:0:-1], half])
    cells = [(i, j) for i in range(grid) for j in range(grid)]
    shape = (len(images), grid, grid)
    loss, correct = np.empty(shape, np.float32), np.empty(shape, bool)
    for i, j in bar(cells, "landscape", "point", disable=not progress):
        points = images + np.float32(along[i]) * attack + np.float32(along[j]) * random
        loss[:, i, j], correct[:, i, j] = compiled.losses(
            model, points, labels, batch_size
        )
    return Landscape(along, loss, correct, direction)


def directions(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    eps: float,
    kind: str,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 250,
) -> tuple[np.ndarray, np.ndarray]:
    """The attack direction and the random direction of each image.

    Args:
        model: float32 Keras classifier that ends in logits or a softmax.
        images: float32 pixels in [0, 255], (number, height, width, channels).
        labels: true classes, int64, (number,).
        eps: radius of PGD, in 1/255 of the pixel range.
        kind: one of `DIRECTIONS`; see `landscape`.
        steps: number of PGD steps, each of size 2.5 eps / steps.
        seed: seed of the random directions and of PGD's start.
        batch_size: number of images per batch.

    Returns:
        Two float32 arrays of the shape of `images`, in 1/255 of the pixel range per
        unit step.

    Raises:
        ValueError: if `kind` is unknown.
    """
    if kind not in DIRECTIONS:
        raise ValueError(
            f"`direction` must be one of {', '.join(map(repr, DIRECTIONS))}. "
            f"Received: direction={kind!r}"
        )
    rng = np.random.default_rng([seed, 1])
    if kind == "pgd":
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
        attack = (adversarial - images) / np.float32(eps)
    else:
        attack = compiled.input_gradients(model, images, labels, "loss", batch_size)
    if kind == "sign":
        return np.sign(attack), rng.choice(np.array([-1, 1], np.float32), images.shape)
    random = rng.standard_normal(images.shape, np.float32)
    norm = _norm(attack)
    unit = np.divide(attack, norm, out=np.zeros_like(attack), where=norm > 0)
    random -= unit * (unit * random).sum((1, 2, 3), keepdims=True)
    random /= _norm(random)
    return (unit, random) if kind == "gradient" else (attack, norm * random)


def _norm(rows):
    return np.sqrt((rows**2).sum((1, 2, 3), keepdims=True))
