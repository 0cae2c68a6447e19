"""SPSA: gradient descent by differences along random directions."""

import dataclasses

import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.attacks.adam import adam
from inres_tf.attacks.engine import (
    AttackRun,
    IterativeAttack,
    is_misclassified,
    run_attack,
)
from inres_tf.attacks.norms import norm_order


@dataclasses.dataclass(frozen=True)
class SPSA(IterativeAttack):
    """Adam on the margin, whose gradient is estimated from logits.

    Attributes:
        samples: directions at every step, of two queries each.
        learning_rate: of Adam, in 1/255 of the pixel range.
        delta: half the distance between two queries in every value, in the same units.
    """

    samples: int = 32
    learning_rate: float = 2.55
    delta: float = 2.55

    def initialize(self, model_fn, state, params):
        """At the image."""
        clean = state["clean"]
        zeros = tf.zeros_like(clean)
        moments = {"first_moment": zeros, "second_moment": zeros}
        return state | {"variables": clean} | moments

    def step(self, model_fn, state, number, params):
        """Takes note of where it is, and goes a step from there."""
        images, labels = state["variables"], state["labels"]
        state = self._seen(model_fn, state)
        gradient = tf.zeros_like(images)
        for sample in tf.range(self.samples):
            keys = counter_rng.key(params.seed, state["ids"], number, sample)
            direction = counter_rng.signs(keys, images.shape[1:])
            step = self.delta * direction
            queries = tf.concat([images + step, images - step], axis=0)
            both = losses.margin(model_fn(queries), tf.tile(labels, [2]))
            above, below = tf.split(both, 2)
            slope = (above - below) / (2 * self.delta * self.samples)
            # Adam goes down, the margin of the other classes is to go up.
            gradient -= geometry.per_image(slope) * direction
        state = adam(state, gradient, number, self.learning_rate)
        moved = geometry.project(
            state["variables"], state["clean"], params.eps, self.order
        )
        return state | {"variables": moved}

    def finish(self, model_fn, state, params):
        """Takes note of where the last step led."""
        return self._seen(model_fn, state)

    def _seen(self, model_fn, state):
        logits = model_fn(state["variables"])
        return state | {
            "adversarial": state["variables"],
            "misclassified": is_misclassified(logits, state["labels"]),
            "score": losses.margin(logits, state["labels"]),
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
    attack = SPSA(norm_order(norm), *numbers)
    settings |= {"seed": seed, "early_stop": early_stop}
    return run_attack(
        model, images, labels, eps, attack, [AttackRun(steps)], **settings
    )
