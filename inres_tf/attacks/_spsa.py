"""SPSA: gradients estimated by finite differences along random directions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf.arguments import positive_integer
from inres_tf.attacks import counter_rng, geometry, losses
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
from inres_tf.attacks.norms import norm_order

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class SPSA(IterativeAttack):
    """Adam on the margin, with gradients estimated from logits.

    Attributes:
        samples: number of directions per step, with two queries each.
        learning_rate: learning rate of Adam, in 1/255 of the pixel range.
        delta: half the distance between two queries in every value, in the same units.
    """

    samples: int = 32
    learning_rate: float = 2.55
    delta: float = 2.55

    def initialize(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Starts at the image."""
        clean = state["clean"]
        zeros = tf.zeros_like(clean)
        moments = {"first_moment": zeros, "second_moment": zeros}
        return state | {"variables": clean} | moments

    def step(
        self, model_fn: ModelFn, state: State, number: tf.Tensor, params: RunParams
    ) -> State:
        """Records the current images, and takes a step from there."""
        images, labels = state["variables"], state["labels"]
        state = self._record(model_fn, state)
        gradient = tf.zeros_like(images)
        for sample in tf.range(self.samples):
            keys = counter_rng.key(params.seed, state["ids"], number, sample)
            direction = counter_rng.signs(keys, images.shape[1:])
            step = self.delta * direction
            queries = tf.concat([images + step, images - step], axis=0)
            margins = losses.margin(model_fn(queries), tf.tile(labels, [2]))
            above, below = tf.split(margins, 2)
            slope = (above - below) / (2 * self.delta * self.samples)
            # Negative, since Adam minimises and the margin is to be maximised.
            gradient -= geometry.per_image(slope) * direction
        state = adam(state, gradient, number, self.learning_rate)
        projected = geometry.project(
            state["variables"], state["clean"], params.eps, self.order
        )
        return state | {"variables": projected}

    def finish(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Records the images after the last step."""
        return self._record(model_fn, state)

    def _record(self, model_fn, state):
        """The state with the current images as the adversarial ones."""
        logits = model_fn(state["variables"])
        return state | {
            "adversarial": state["variables"],
            "misclassified": is_misclassified(logits, state["labels"]),
            "score": losses.margin(logits, state["labels"]),
        }


def spsa(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 100,
    samples: int = 32,
    learning_rate: float = 2.55,
    delta: float = 2.55,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Simultaneous perturbation stochastic approximation, which uses logits only.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        steps: number of steps.
        samples: number of random directions per step, with two queries each: an image
            is queried `steps * (2 * samples + 1)` times.
        learning_rate: learning rate of Adam, in 1/255 of the pixel range.
        delta: half the distance between two queries in every value, in the same units.
            The queries themselves may lie outside the ball and the pixel range.
        norm: `"linf"` or `"l2"`.
        seed: seed of the random numbers.
        early_stop: whether an image leaves the batch as soon as it is misclassified,
            even before the first step.
        batch_size: number of images attacked at a time.
        ids: indices of the images in their dataset, from which their random numbers
            are derived; 0, 1, ... by default.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: those after the last
        step, unless stopped early.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite. Images with NaN logits count as misclassified.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.spsa(
        ...     model, test.images, test.labels, eps=8, steps=3, samples=4
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Uesato et al.: Adversarial Risk and the Dangers of Evaluating Against Weak
        Attacks, ICML 2018, section 4.
    """
    samples = positive_integer("samples", samples)
    for name, value in (("learning_rate", learning_rate), ("delta", delta)):
        if not value > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
    settings = (samples, float(learning_rate), float(delta))
    return run_attack(
        model,
        images,
        labels,
        eps,
        SPSA(norm_order(norm), *settings),
        [AttackRun(steps)],
        seed=seed,
        early_stop=early_stop,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )
