"""Carlini and Wagner's L2 attack."""

import dataclasses

import numpy as np
import tensorflow as tf

from inres_tf.attacks import geometry, losses
from inres_tf.attacks.adam import adam
from inres_tf.attacks.search import Pass, Search, run, wrong

# Pixels are pulled this far into their range before the hyperbolic arctangent, which
# is infinite at its ends.
_INSIDE = 1 - 1e-6
# Weights of the margin as cleverhans and the authors bound them.
_LARGEST_WEIGHT = 1e10


@dataclasses.dataclass(frozen=True)
class CarliniWagner(Search):
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

    def begin(self, model_fn, rows, numbers):
        """At the image, with the first weight."""
        clean = rows["clean"]
        fallen = wrong(model_fn(clean), rows["labels"])
        nearest = tf.where(fallen, 0.0, np.inf)
        start = tf.atanh((clean / 127.5 - 1) * _INSIDE)
        weight = tf.fill(tf.shape(nearest), self.weight)
        return rows | {
            "variables": start,
            "start": start,
            "first_moment": tf.zeros_like(clean),
            "second_moment": tf.zeros_like(clean),
            "weight": weight,
            "low": tf.zeros_like(weight),
            "high": tf.fill(tf.shape(weight), _LARGEST_WEIGHT),
            "passed": tf.zeros_like(fallen),
            "nearest": nearest,
            "found": clean,
            "fallen": fallen,
        }

    def step(self, model_fn, rows, number, numbers):
        """A step of Adam; the first of each weight chooses the weight before it."""
        inner = number % self.steps
        rows = self._search_weight(rows, (number > 0) & (inner == 0))
        variables, clean = rows["variables"], rows["clean"]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            images = _pixels(variables)
            logits = model_fn(images)
            short = self.confidence - losses.margin(logits, rows["labels"])
            # In units of the pixel range, as weights are published.
            distance = tf.reduce_sum(((images - clean) / 255) ** 2, axis=(1, 2, 3))
            loss = distance + rows["weight"] * tf.maximum(short, 0.0)
        gradient = tape.gradient(loss, variables)  # the distance alone has one
        rows = self._seen(rows, images, logits, numbers.eps)
        return adam(rows, gradient, inner, self.learning_rate)

    def finish(self, model_fn, rows, numbers):
        """Takes note of where the last step led."""
        images = _pixels(rows["variables"])
        return self._seen(rows, images, model_fn(images), numbers.eps)

    def _seen(self, rows, images, logits, eps):
        """Rows that take note of images nearer than those before."""
        margin = losses.margin(logits, rows["labels"])
        passed = wrong(logits, rows["labels"]) & (margin >= self.confidence)
        distance = geometry.size(images - rows["clean"], 2)
        nearer = passed & (distance < rows["nearest"])
        nearest = tf.where(nearer, distance, rows["nearest"])
        found = geometry.per_image(nearer & (distance <= eps))
        return rows | {
            "passed": rows["passed"] | passed,
            "nearest": nearest,
            "found": tf.where(found, images, rows["found"]),
            "fallen": nearest <= eps,
            # NaN where the search got lost by a gradient that is none.
            "score": tf.where(tf.math.is_nan(distance), distance, -nearest),
        }

    def _search_weight(self, rows, now):
        """Where `now`, the next weight, and everything else from the beginning."""
        passed, weight = rows["passed"], rows["weight"]
        low = tf.where(passed, rows["low"], tf.maximum(rows["low"], weight))
        high = tf.where(passed, tf.minimum(rows["high"], weight), rows["high"])
        known = high < _LARGEST_WEIGHT
        chosen = tf.where(known, (low + high) / 2, weight * 10)
        fresh = {
            "weight": chosen,
            "low": low,
            "high": high,
            "passed": tf.zeros_like(passed),
            "variables": rows["start"],
            "first_moment": tf.zeros_like(rows["start"]),
            "second_moment": tf.zeros_like(rows["start"]),
        }
        return rows | {
            name: tf.where(now, value, rows[name]) for name, value in fresh.items()
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
    search = CarliniWagner(2, int(steps), *numbers)
    passes = [Pass(int(steps) * int(searches))]
    settings |= {"early_stop": early_stop}
    return run(model, images, labels, eps, search, passes, **settings)
