"""FAB: the fast adaptive boundary attack, which minimises the perturbation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.attacks.apgd import ranks_of
from inres_tf.attacks.engine import (
    IterativeAttack,
    ModelFn,
    RunParams,
    State,
    is_misclassified,
    restart_runs,
    run_attack,
)
from inres_tf.attacks.norms import norm_order

if TYPE_CHECKING:
    import keras

# As published: the largest weight of the clean image, the factor by which steps
# overshoot the hyperplane, and that by which misclassified images move back.
_MAX_CLEAN_WEIGHT, _OVERSHOOT, _BACKWARD = 0.1, 1.05, 0.9
# Tells its random starts from those of other attacks.
_STREAM = -1


@dataclasses.dataclass(frozen=True)
class FAB(IterativeAttack):
    """Projections to the linearised decision boundary, biased towards the image.

    Attributes:
        targeted: whether to approach the boundary to the target class of the run, or
            the nearest boundary.
    """

    targeted: bool = True

    def initialize(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Starts at the image, or for later restarts at a random point eps / 2 away."""
        clean = state["clean"]
        logits = model_fn(clean)
        misclassified = is_misclassified(logits, state["labels"])
        own = params.rank, _STREAM
        keys = counter_rng.key(params.seed, state["ids"], params.restart, *own)
        direction = geometry.random_direction(keys, clean.shape[1:], self.order)
        start = geometry.clip_pixels(clean + params.eps / 2 * direction)
        start = tf.where(params.restart > 0, start, clean)
        return state | {
            "images": start,
            "target": losses.target(logits, state["labels"], params.rank),
            "smallest_norm": tf.where(misclassified, 0.0, np.inf),
            "adversarial": clean,
            "misclassified": misclassified,
        }

    def step(
        self, model_fn: ModelFn, state: State, number: tf.Tensor, params: RunParams
    ) -> State:
        """Moves to the boundary, and back towards the image once beyond it."""
        images, clean = state["images"], state["clean"]
        gap, normal = self._boundary(model_fn, state)
        clean_gap = gap + tf.reduce_sum(normal * (images - clean), axis=(1, 2, 3))
        changes = geometry.to_hyperplane(
            tf.concat([images, clean], axis=0),
            tf.concat([normal, normal], axis=0),
            tf.concat([gap, clean_gap], axis=0),
            self.order,
        )
        change, clean_change = tf.split(changes, 2)
        distance, clean_distance = (
            tf.maximum(geometry.size(difference, self.order), 255e-8)
            for difference in (change, clean_change)
        )
        weight = tf.minimum(distance / (distance + clean_distance), _MAX_CLEAN_WEIGHT)
        weight = geometry.per_image(weight)
        images = (1 - weight) * (images + _OVERSHOOT * change)
        images += weight * (clean + _OVERSHOOT * clean_change)
        images = geometry.clip_pixels(images)

        misclassified = is_misclassified(model_fn(images), state["labels"])
        norm = geometry.size(images - clean, self.order)
        smaller = misclassified & (norm < state["smallest_norm"])
        smallest_norm = tf.where(smaller, norm, state["smallest_norm"])
        kept = geometry.per_image(smaller & (norm <= params.eps))
        back = clean + _BACKWARD * (images - clean)
        return state | {
            "images": tf.where(geometry.per_image(misclassified), back, images),
            "smallest_norm": smallest_norm,
            "adversarial": tf.where(kept, images, state["adversarial"]),
            "misclassified": smallest_norm <= params.eps,
            # NaN after a non-finite gradient.
            "score": tf.where(tf.math.is_nan(norm), norm, -smallest_norm),
        }

    def _boundary(self, model_fn, state):
        """The linearised boundary: how far the logits are from it, and its normal."""
        if self.targeted:
            return self._boundary_to(model_fn, state, state["target"])
        classes = model_fn(state["images"][:1]).shape[-1]
        gap, normal = tf.zeros_like(state["score"]), tf.zeros_like(state["images"])
        smallest = tf.fill(tf.shape(gap), np.inf)
        for number in tf.range(tf.constant(classes, tf.int64)):
            target = tf.fill(tf.shape(state["labels"]), number)
            new_gap, new_normal = self._boundary_to(model_fn, state, target)
            dual_norm = geometry.size(new_normal, 2)
            if self.order != 2:
                dual_norm = tf.reduce_sum(tf.abs(new_normal), axis=(1, 2, 3))
            distance = tf.abs(new_gap) / (dual_norm + 1e-12)
            nearer = (distance < smallest) & (target != state["labels"])
            smallest = tf.where(nearer, distance, smallest)
            gap = tf.where(nearer, new_gap, gap)
            normal = tf.where(geometry.per_image(nearer), new_normal, normal)
        return gap, normal

    def _boundary_to(self, model_fn, state, target):
        def gap_of(logits, labels):
            true_logit, target_logit = (
                tf.gather(logits, classes, axis=1, batch_dims=1)
                for classes in (labels, target)
            )
            return true_logit - target_logit

        _, gap, gradient = losses.value_and_gradient(
            model_fn, state["images"], state["labels"], gap_of
        )
        return gap, -gradient


def fab(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Fast adaptive boundary attack, targeted (FAB-T) by default.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        steps: number of steps for each target.
        restarts: number of starts for each target: the first from the image, the others
            from random points.
        targets: number of target classes, at most all but the true one: those with the
            largest logits of the clean image. 0 for the nearest boundary at every step,
            which takes a gradient per class.
        norm: `"linf"` or `"l2"`.
        seed: seed of the random starts.
        early_stop: whether an image leaves the batch as soon as it is misclassified,
            even before the first step; if not, the search for closer examples
            continues.
        batch_size: number of images attacked at a time.
        ids: indices of the images in their dataset, from which their random numbers
            are derived; 0, 1, ... by default.
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
        >>> adversarial = attacks.fab(
        ...     model, test.images, test.labels, eps=8, steps=3, targets=2
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Croce, Hein: Minimally Distorted Adversarial Examples with a Fast Adaptive
        Boundary Attack, ICML 2020, algorithm 1 (without the final search, as in
        AutoAttack), and its targeted version in their AutoAttack paper.
    """
    ranks = ranks_of(targets, losses.classes_of(model))
    runs = [
        run
        for rank in ranks
        for run in restart_runs(restarts, last_step=steps, rank=rank)
    ]
    return run_attack(
        model,
        images,
        labels,
        eps,
        FAB(norm_order(norm), targeted=ranks != [0]),
        runs,
        seed=seed,
        early_stop=early_stop,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )
