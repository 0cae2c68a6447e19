"""Carlini and Wagner's L2 attack."""

import dataclasses

import numpy as np
import tensorflow as tf

from inres_tf.attacks import geometry, losses
from inres_tf.attacks.adam import adam
from inres_tf.attacks.engine import (
    AttackRun,
    IterativeAttack,
    is_misclassified,
    run_attack,
)

# Pixels are pulled this far into their range before the hyperbolic arctangent, which
# is infinite at its ends.
_INSIDE = 1 - 1e-6
# Weights of the margin as cleverhans and the authors bound them.
_LARGEST_WEIGHT = 1e10


@dataclasses.dataclass(frozen=True)
class CarliniWagner(IterativeAttack):
    """Adam on distance and margin, with a binary search for the weight between them.

    Attributes:
        steps: of Adam for each weight.
        learning_rate: of Adam, on the hyperbolic arctangents of pixels in [-1, 1].
        weight: of the margin, the first that is tried.
        confidence: how large a margin is asked for, in logits.
    """

    steps: int = 100
    learning_rate: float = 0.1
    weight: float = 1.0
    confidence: float = 0.0

    def initialize(self, model_fn, state, params):
        """At the image, with the first weight."""
        clean = state["clean"]
        fallen = is_misclassified(model_fn(clean), state["labels"])
        nearest = tf.where(fallen, 0.0, np.inf)
        start = tf.atanh((clean / 127.5 - 1) * _INSIDE)
        weight = tf.fill(tf.shape(nearest), self.weight)
        return state | {
            "variables": start,
            "start": start,
            "first_moment": tf.zeros_like(clean),
            "second_moment": tf.zeros_like(clean),
            "weight": weight,
            "low": tf.zeros_like(weight),
            "high": tf.fill(tf.shape(weight), _LARGEST_WEIGHT),
            "passed": tf.zeros_like(fallen),
            "smallest_norm": nearest,
            "adversarial": clean,
            "misclassified": fallen,
        }

    def step(self, model_fn, state, number, params):
        """A step of Adam; the first of each weight chooses the weight before it."""
        inner = number % self.steps
        state = self._search_weight(state, (number > 0) & (inner == 0))
        variables, clean = state["variables"], state["clean"]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            images = _pixels(variables)
            logits = model_fn(images)
            short = self.confidence - losses.margin(logits, state["labels"])
            # In units of the pixel range, as weights are published.
            distance = tf.reduce_sum(((images - clean) / 255) ** 2, axis=(1, 2, 3))
            loss = distance + state["weight"] * tf.maximum(short, 0.0)
        gradient = tape.gradient(loss, variables)  # the distance alone has one
        state = self._seen(state, images, logits, params.eps)
        return adam(state, gradient, inner, self.learning_rate)

    def finish(self, model_fn, state, params):
        """Takes note of where the last step led."""
        images = _pixels(state["variables"])
        return self._seen(state, images, model_fn(images), params.eps)

    def _seen(self, state, images, logits, eps):
        """Rows that take note of images nearer than those before."""
        margin = losses.margin(logits, state["labels"])
        passed = is_misclassified(logits, state["labels"]) & (margin >= self.confidence)
        distance = geometry.size(images - state["clean"], 2)
        nearer = passed & (distance < state["smallest_norm"])
        nearest = tf.where(nearer, distance, state["smallest_norm"])
        found = geometry.per_image(nearer & (distance <= eps))
        return state | {
            "passed": state["passed"] | passed,
            "smallest_norm": nearest,
            "adversarial": tf.where(found, images, state["adversarial"]),
            "misclassified": nearest <= eps,
            # NaN where the search got lost by a gradient that is none.
            "score": tf.where(tf.math.is_nan(distance), distance, -nearest),
        }

    def _search_weight(self, state, now):
        """Where `now`, the next weight, and everything else from the beginning."""
        passed, weight = state["passed"], state["weight"]
        low = tf.where(passed, state["low"], tf.maximum(state["low"], weight))
        high = tf.where(passed, tf.minimum(state["high"], weight), state["high"])
        known = high < _LARGEST_WEIGHT
        chosen = tf.where(known, (low + high) / 2, weight * 10)
        fresh = {
            "weight": chosen,
            "low": low,
            "high": high,
            "passed": tf.zeros_like(passed),
            "variables": state["start"],
            "first_moment": tf.zeros_like(state["start"]),
            "second_moment": tf.zeros_like(state["start"]),
        }
        return state | {
            name: tf.where(now, value, state[name]) for name, value in fresh.items()
        }


def _pixels(variables):
    return geometry.clip_pixels(127.5 * (tf.tanh(variables) / _INSIDE + 1))


def cw_l2(
    model,
    images,
    labels,
    eps,
    *,
    steps=100,
    searches=9,
    learning_rate=0.1,
    weight=1.0,
    confidence=0.0,
    seed=0,
    early_stop=False,
    **settings,
):
    """Carlini and Wagner's attack, which looks for the nearest example in the L2 norm.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: radius of the L2 ball, in 1/255 of the pixel range: examples beyond it are
            not returned.
        steps: steps of Adam for each weight of the margin.
        searches: number of weights tried.
        learning_rate: of Adam, on the hyperbolic arctangents of pixels in [-1, 1].
        weight: the first weight, where distances are in units of the pixel range.
        confidence: margin asked for, in logits, at least 0.
        seed: as in `fgsm`; here nothing is drawn.
        early_stop: as in `fgsm`; without it the search goes on to nearer examples.
        **settings: as in `fgsm`.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: the nearest example that
        was met, and the image itself where that lies beyond `eps`.

    Raises:
        As `fgsm`.

    Reference:
        Carlini, Wagner: Towards Evaluating the Robustness of Neural Networks, IEEE S&P
        2017, section VI. The learning rate is larger than
        theirs, since 900 steps in all are far fewer.
    """
    del seed
    for name, value, least in (("steps", steps, 1), ("searches", searches, 1)):
        if int(value) != value or value < least:
            raise ValueError(
                f"`{name}` must be a positive integer. Received: {name}={value}"
            )
    for name, value, passed, accepted in (
        ("learning_rate", learning_rate, learning_rate > 0, "positive"),
        ("weight", weight, weight > 0, "positive"),
        ("confidence", confidence, confidence >= 0, "at least 0"),
    ):
        if not passed:
            raise ValueError(f"`{name}` must be {accepted}. Received: {name}={value}")
    numbers = (float(value) for value in (learning_rate, weight, confidence))
    attack = CarliniWagner(2, int(steps), *numbers)
    runs = [AttackRun(int(steps) * int(searches))]
    settings |= {"early_stop": early_stop}
    return run_attack(model, images, labels, eps, attack, runs, **settings)
