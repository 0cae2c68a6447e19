"""The loss around images, in the plane of the attack and a random direction."""

import dataclasses

import numpy as np

from inres_tf import attacks
from inres_tf.analysis import compiled
from inres_tf.analysis.config import DIRECTIONS
from inres_tf.progress import bar


@dataclasses.dataclass(frozen=True)
class Landscape:
    """Loss and accuracy on a grid, whose middle is the clean image.

    Attributes:
        steps: coordinates along both axes, (grid,), from -eps to eps.
        loss: cross-entropy in nats, (number, grid, grid): along the attack direction,
            then along the random one.
        correct: whether the class is right, booleans of the same shape.
        direction: one of `DIRECTIONS`.
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
        """Loss and accuracy in the middle and at the ends of both directions."""
        middle = len(self.steps) // 2
        places = {
            "clean": (middle, middle),
            "attack direction, +eps": (-1, middle),
            "attack direction, -eps": (0, middle),
            "random direction, +eps": (middle, -1),
            "both, +eps": (-1, -1),
        }
        return {
            name: {"loss": self.mean_loss[at], "accuracy": self.accuracy[at]}
            for name, at in places.items()
        }


def landscape(
    model,
    images,
    labels,
    eps: float,
    *,
    grid: int = 21,
    direction: str = "sign",
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 250,
    progress: bool = False,
) -> Landscape:
    """Cross-entropy at x + s u + t v, of every image x, for s and t in [-eps, eps].

    The points are not clipped to the pixel range, which would bend the plane.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: how far the grid reaches, in 1/255 of the pixel range, as `direction` says.
        grid: points along each axis, odd.
        direction: the attack direction u, and the random one v of the same L2 norm:
            `"sign"`, the sign of the gradient and random signs (eps is an L-infinity
            distance); `"gradient"`, the gradient and a random direction orthogonal to
            it, both of L2 norm 1 (eps is an L2 distance); or `"pgd"`, what PGD of
            radius eps adds to the image, divided by eps, and a random direction
            orthogonal to it.
        steps: steps of PGD, each of 2.5 eps / steps.
        seed: of the random directions, which depend on the image's index and not on
            the batch size, and of PGD's start.
        batch_size: images at a time.
        progress: whether to show a progress bar.

    Returns:
        A `Landscape`.

    Raises:
        ValueError: if the logits cannot be found or an argument is out of range.

    Reference:
        Yang et al., Interpolation between Residual and Non-Residual Networks, ICML
        2020, the figures of loss landscapes; the signs as Tramèr et al., Ensemble
        Adversarial Training: Attacks and Defenses, ICLR 2018, section 4.1.
    """
    compiled.check_range("grid", grid, 3)
    compiled.check_range("eps", eps, 1e-3, 255)
    if grid % 2 == 0:
        raise ValueError(f"`grid` must be odd. Received: grid={grid}")
    model, images, labels = compiled.prepare(model, images, labels)
    attack, random = directions(
        model, images, labels, eps, direction, steps, seed, batch_size
    )
    # Symmetric, so that the middle is 0 and not its rounding error.
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


def directions(model, images, labels, eps, kind, steps=20, seed=0, batch_size=250):
    """The attack and the random direction of each image.

    Args:
        model: as in `landscape`, in float32.
        images: float32 pixels, (number, height, width, channels).
        labels: true classes, int64, (number,).
        eps: as in `landscape`.
        kind: one of `DIRECTIONS`.
        steps: as in `landscape`.
        seed: as in `landscape`.
        batch_size: images at a time.

    Returns:
        Two float32 arrays like `images`; for `"sign"` and `"pgd"`, an entry of 1 is
        1/255 of the pixel range a step.

    Raises:
        ValueError: if there is no such kind.
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
        return np.sign(attack), rng.choice(np.float32([-1, 1]), images.shape)
    random = rng.standard_normal(images.shape, np.float32)
    norm = _norm(attack)
    unit = np.divide(attack, norm, out=np.zeros_like(attack), where=norm > 0)
    random -= unit * (unit * random).sum((1, 2, 3), keepdims=True)
    random /= _norm(random)
    return (unit, random) if kind == "gradient" else (attack, norm * random)


def _norm(rows):
    return np.sqrt((rows**2).sum((1, 2, 3), keepdims=True))
