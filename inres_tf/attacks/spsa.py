"""SPSA: gradient descent by differences along random directions."""

import dataclasses

import tensorflow as tf

from inres_tf.attacks import draws, geometry, losses
from inres_tf.attacks.adam import adam
from inres_tf.attacks.search import Pass, Search, run, wrong


@dataclasses.dataclass(frozen=True)
class SPSA(Search):
    """Adam on the margin, whose gradient is estimated from logits.

    Attributes:
        samples: directions at every step, of two queries each.
        learning_rate: of Adam, in 1/255 of the pixel range.
        delta: half the distance between two queries in every value, in the same units.
    """

    samples: int = 32
    learning_rate: float = 2.55
    delta: float = 2.55

    def begin(self, model_fn, rows, numbers):
        """At the image."""
        clean = rows["clean"]
        zeros = tf.zeros_like(clean)
        moments = {"first_moment": zeros, "second_moment": zeros}
        return rows | {"variables": clean} | moments

    def step(self, model_fn, rows, number, numbers):
        """Takes note of where it is, and goes a step from there."""
        images, labels = rows["variables"], rows["labels"]
        rows = self._seen(model_fn, rows)
        gradient = tf.zeros_like(images)
        for sample in tf.range(self.samples):
            keys = draws.key(numbers.seed, rows["ids"], number, sample)
            direction = draws.signs(keys, images.shape[1:])
            step = self.delta * direction
            queries = tf.concat([images + step, images - step], axis=0)
            both = losses.margin(model_fn(queries), tf.tile(labels, [2]))
            above, below = tf.split(both, 2)
            slope = (above - below) / (2 * self.delta * self.samples)
            # Adam goes down, the margin of the other classes is to go up.
            gradient -= geometry.per_image(slope) * direction
        rows = adam(rows, gradient, number, self.learning_rate)
        moved = geometry.project(
            rows["variables"], rows["clean"], numbers.eps, self.order
        )
        return rows | {"variables": moved}

    def finish(self, model_fn, rows, numbers):
        """Takes note of where the last step led."""
        return self._seen(model_fn, rows)

    def _seen(self, model_fn, rows):
        logits = model_fn(rows["variables"])
        return rows | {
            "found": rows["variables"],
            "fallen": wrong(logits, rows["labels"]),
            "score": losses.margin(logits, rows["labels"]),
        }


def spsa(
    model,
    images,
    labels,
    eps,
    *,
    steps=100,
    samples=32,
    learning_rate=2.55,
    delta=2.55,
    norm="linf",
    seed=0,
    early_stop=False,
    **settings,
):
    """Simultaneous perturbation stochastic approximation, which uses logits alone.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps.
        samples: random directions at every step, of two queries each: an image is
            queried `steps * (2 * samples + 1)` times.
        learning_rate: of Adam, in 1/255 of the pixel range.
        delta: half the distance between two queries in every value, in the same units.
            The queries themselves may lie outside the ball and the pixel range.
        norm: as in `fgsm`.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`.
        **settings: as in `fgsm`.

    Returns:
        Adversarial pixels, float32, of the shape of `images`; those after the last step
        without `early_stop`.

    Raises:
        As `fgsm`.

    Reference:
        Uesato et al.: Adversarial Risk and the Dangers of Evaluating Against Weak
        Attacks, ICML 2018, section 4.
    """
    if int(samples) != samples or samples < 1:
        raise ValueError(
            f"`samples` must be a positive integer. Received: samples={samples}"
        )
    for name, value in (("learning_rate", learning_rate), ("delta", delta)):
        if not value > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
    numbers = (int(samples), float(learning_rate), float(delta))
    search = SPSA(geometry.norm_order(norm), *numbers)
    settings |= {"seed": seed, "early_stop": early_stop}
    return run(model, images, labels, eps, search, [Pass(steps)], **settings)
