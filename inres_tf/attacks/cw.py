"""Carlini and Wagner's L2 attack."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf.arguments import positive_integer
from inres_tf.attacks import geometry, losses
from inres_tf.attacks.adam import adam
from inres_tf.attacks.engine import (
    AttackRun,
    IterativeAttack,
    ModelFn,
    RunParams,
    State,
    is_misclassified,
    run_attack,
)

if TYPE_CHECKING:
    import keras

# Pixels, scaled to [-1, 1], are multiplied by this before the arcsine: at its ends the
# sine has no slope.
_INSIDE = 1 - 1e-6
# Upper bound of the weights, as in cleverhans and the authors' code.
_LARGEST_WEIGHT = 1e10


@dataclasses.dataclass(frozen=True)
class CarliniWagner(IterativeAttack):
    """Adam on distance and margin, with a binary search for the weight of the margin.

    Attributes:
        steps: number of steps of Adam for each weight.
        learning_rate: learning rate of Adam, on arcsines of pixels in [-1, 1].
        weight: first weight of the margin.
        confidence: the margin wanted, in logits.
    """

    steps: int = 100
    learning_rate: float = 0.01
    weight: float = 1.0
    confidence: float = 0.0

    def initialize(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Starts at the image, with the first weight."""
        clean = state["clean"]
        misclassified = is_misclassified(model_fn(clean), state["labels"])
        smallest_norm = tf.where(misclassified, 0.0, np.inf)
        start = tf.asin((clean / 127.5 - 1) * _INSIDE)
        weight = tf.fill(tf.shape(smallest_norm), self.weight)
        return state | {
            "variables": start,
            "start": start,
            "first_moment": tf.zeros_like(clean),
            "second_moment": tf.zeros_like(clean),
            "weight": weight,
            "low": tf.zeros_like(weight),
            "high": tf.fill(tf.shape(weight), _LARGEST_WEIGHT),
            "succeeded": tf.zeros_like(misclassified),
            "smallest_norm": smallest_norm,
            "adversarial": clean,
            "misclassified": misclassified,
        }

    def step(
        self, model_fn: ModelFn, state: State, number: tf.Tensor, params: RunParams
    ) -> State:
        """Takes a step of Adam, after choosing the next weight if it is due."""
        inner = number % self.steps
        state = self._search_weight(state, (number > 0) & (inner == 0))
        variables, clean = state["variables"], state["clean"]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            images = _pixels(variables)
            logits = model_fn(images)
            missing = self.confidence - losses.margin(logits, state["labels"])
            # Weights are published for distances in units of the pixel range.
            distance = tf.reduce_sum(((images - clean) / 255) ** 2, axis=(1, 2, 3))
            loss = distance + state["weight"] * tf.maximum(missing, 0.0)
        gradient = tape.gradient(loss, variables)
        state = self._record(state, images, logits, params.eps)
        return adam(state, gradient, inner, self.learning_rate)

    def finish(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Records the images after the last step."""
        images = _pixels(state["variables"])
        return self._record(state, images, model_fn(images), params.eps)

    def _record(self, state, images, logits, eps):
        """The state with those images as the adversarial ones that are closer."""
        margin = losses.margin(logits, state["labels"])
        misclassified = is_misclassified(logits, state["labels"])
        succeeded = misclassified & ~(margin < self.confidence)  # or NaN
        norm = geometry.size(images - state["clean"], 2)
        smaller = succeeded & (norm < state["smallest_norm"])
        smallest_norm = tf.where(smaller, norm, state["smallest_norm"])
        kept = geometry.per_image(smaller & (norm <= eps))
        return state | {
            "succeeded": state["succeeded"] | succeeded,
            "smallest_norm": smallest_norm,
            "adversarial": tf.where(kept, images, state["adversarial"]),
            "misclassified": smallest_norm <= eps,
            # NaN after a non-finite gradient.
            "score": tf.where(tf.math.is_nan(norm), norm, -smallest_norm),
        }

    def _search_weight(self, state, due):
        """The state with the next weight, and Adam at its start, if this is due."""
        succeeded, weight = state["succeeded"], state["weight"]
        low = tf.where(succeeded, state["low"], tf.maximum(state["low"], weight))
        high = tf.where(succeeded, tf.minimum(state["high"], weight), state["high"])
        bounded = high < _LARGEST_WEIGHT
        restarted = {
            "weight": tf.where(bounded, (low + high) / 2, weight * 10),
            "low": low,
            "high": high,
            "succeeded": tf.zeros_like(succeeded),
            "variables": state["start"],
            "first_moment": tf.zeros_like(state["start"]),
            "second_moment": tf.zeros_like(state["start"]),
        }
        return state | {
            name: tf.where(due, value, state[name]) for name, value in restarted.items()
        }


def _pixels(variables):
    return geometry.clip_pixels(127.5 * (tf.sin(variables) / _INSIDE + 1))


def cw_l2(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 100,
    searches: int = 9,
    learning_rate: float = 0.01,
    weight: float = 1.0,
    confidence: float = 0.0,
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Carlini and Wagner's attack, which minimises the L2 norm of the perturbation.

    The pixels are sines of the variables, not hyperbolic tangents as in the paper, with
    which a pixel at 0 or 255 needs about a thousand steps to leave that end.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the L2 ball, in 1/255 of the pixel range: examples outside it are
            not returned.
        steps: number of steps of Adam for each weight of the margin.
        searches: number of weights.
        learning_rate: learning rate of Adam, on arcsines of pixels in [-1, 1].
        weight: first weight of the margin, for distances in units of the pixel range.
        confidence: the margin wanted, in logits, at least 0.
        seed: unused, since nothing is random.
        early_stop: whether an image leaves the batch as soon as it is misclassified,
            even before the first step; if not, the search for closer examples
            continues.
        batch_size: number of images attacked at a time.
        ids: unused, since nothing is random.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: the closest example that
        was found, or the image itself if that is farther away than `eps`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite. Images with NaN logits count as misclassified.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.cw_l2(
        ...     model, test.images, test.labels, eps=64, steps=5, searches=2
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Carlini, Wagner: Towards Evaluating the Robustness of Neural Networks, IEEE S&P
        2017, section VI.
    """
    del seed
    for name, number in (("steps", steps), ("searches", searches)):
        positive_integer(name, number)
    for name, value, valid, expected in (
        ("learning_rate", learning_rate, learning_rate > 0, "positive"),
        ("weight", weight, weight > 0, "positive"),
        ("confidence", confidence, confidence >= 0, "at least 0"),
    ):
        if not valid:
            raise ValueError(f"`{name}` must be {expected}. Received: {name}={value}")
    settings = (float(learning_rate), float(weight), float(confidence))
    return run_attack(
        model,
        images,
        labels,
        eps,
        CarliniWagner(2, int(steps), *settings),
        [AttackRun(int(steps) * int(searches))],
        early_stop=early_stop,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )
