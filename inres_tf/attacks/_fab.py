"""FAB: the fast adaptive boundary attack, which looks for the nearest example."""

import dataclasses

import numpy as np
import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.attacks._pgd import value_and_gradient
from inres_tf.attacks.apgd import ranks_of
from inres_tf.attacks.engine import (
    IterativeAttack,
    is_misclassified,
    restart_runs,
    run_attack,
)
from inres_tf.attacks.norms import norm_order

# As published: the most that the clean image weighs, how far beyond the hyperplane a
# step goes, and how far it goes back once it found an adversarial example.
_MOST_CLEAN, _BEYOND, _BACK = 0.1, 1.05, 0.9


@dataclasses.dataclass(frozen=True)
class FAB(IterativeAttack):
    """Projections to the boundary as it is linearised, pulled towards the image.

    Attributes:
        targeted: whether the boundary is that to one class of a rank, or the nearest.
    """

    targeted: bool = True

    def initialize(self, model_fn, state, params):
        """At the image, or half-way out in a random direction after the first time."""
        clean = state["clean"]
        logits = model_fn(clean)
        fallen = is_misclassified(logits, state["labels"])
        keys = counter_rng.key(params.seed, state["ids"], params.restart)
        direction = geometry.random_direction(keys, clean.shape[1:], self.order)
        start = geometry.clip_pixels(clean + params.eps / 2 * direction)
        start = tf.where(params.restart > 0, start, clean)
        return state | {
            "images": start,
            "target": losses.target(logits, state["labels"], params.rank),
            "smallest_norm": tf.where(fallen, 0.0, np.inf),
            "adversarial": clean,
            "misclassified": fallen,
        }

    def step(self, model_fn, state, number, params):
        """Goes to the boundary, and back from it where it is passed."""
        images, clean = state["images"], state["clean"]
        gap, normal = self._boundary(model_fn, state)
        from_clean = gap + tf.reduce_sum(normal * (images - clean), axis=(1, 2, 3))
        changes = geometry.to_hyperplane(
            tf.concat([images, clean], axis=0),
            tf.concat([normal, normal], axis=0),
            tf.concat([gap, from_clean], axis=0),
            self.order,
        )
        change, change_clean = tf.split(changes, 2)
        near, far = (
            tf.maximum(geometry.size(one, self.order), 255e-8)
            for one in (change, change_clean)
        )
        share = geometry.per_image(tf.minimum(near / (near + far), _MOST_CLEAN))
        images = (1 - share) * (images + _BEYOND * change)
        images += share * (clean + _BEYOND * change_clean)
        images = geometry.clip_pixels(images)

        passed = is_misclassified(model_fn(images), state["labels"])
        distance = geometry.size(images - clean, self.order)
        nearer = passed & (distance < state["smallest_norm"])
        nearest = tf.where(nearer, distance, state["smallest_norm"])
        found = geometry.per_image(nearer & (distance <= params.eps))
        back = clean + _BACK * (images - clean)
        return state | {
            "images": tf.where(geometry.per_image(passed), back, images),
            "smallest_norm": nearest,
            "adversarial": tf.where(found, images, state["adversarial"]),
            "misclassified": nearest <= params.eps,
            # NaN where the search got lost by a gradient that is none.
            "score": tf.where(tf.math.is_nan(distance), distance, -nearest),
        }

    def _boundary(self, model_fn, state):
        """What the logits lack to the boundary, and its normal, where the search is."""
        if self.targeted:
            return self._towards(model_fn, state, state["target"])
        classes = model_fn(state["images"][:1]).shape[-1]
        gap, normal = tf.zeros_like(state["score"]), tf.zeros_like(state["images"])
        least = tf.fill(tf.shape(gap), np.inf)
        for number in tf.range(tf.constant(classes, tf.int64)):
            target = tf.fill(tf.shape(state["labels"]), number)
            new_gap, new_normal = self._towards(model_fn, state, target)
            dual = geometry.size(new_normal, 2)
            if self.order != 2:
                dual = tf.reduce_sum(tf.abs(new_normal), axis=(1, 2, 3))
            distance = tf.abs(new_gap) / (dual + 1e-12)
            nearer = (distance < least) & (target != state["labels"])
            least = tf.where(nearer, distance, least)
            gap = tf.where(nearer, new_gap, gap)
            normal = tf.where(geometry.per_image(nearer), new_normal, normal)
        return gap, normal

    def _towards(self, model_fn, state, target):
        def gap_of(logits, labels):
            mine, theirs = (
                tf.gather(logits, classes, axis=1, batch_dims=1)
                for classes in (labels, target)
            )
            return mine - theirs

        at = (state["images"], state["labels"])
        _, gap, gradient = value_and_gradient(model_fn, *at, gap_of)
        return gap, -gradient


def fab(
    model,
    images,
    labels,
    eps,
    *,
    steps=100,
    restarts=1,
    targets=9,
    norm="linf",
    seed=0,
    early_stop=False,
    **settings,
):
    """Fast adaptive boundary attack, targeted (FAB-T) unless told.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps towards each target.
        restarts: number of starts for each target: the image, and then random points.
        targets: number of target classes, the likeliest ones of the clean image beside
            the true one, at most all others; 0 for the nearest boundary at every step,
            which takes a gradient for each class.
        norm: as in `fgsm`.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`; without it the search goes on to nearer examples.
        **settings: as in `fgsm`.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: the nearest example that
        was met, and the image itself where that lies beyond `eps`.

    Raises:
        As `fgsm`.

    Reference:
        Croce, Hein: Minimally Distorted Adversarial Examples with a Fast Adaptive
        Boundary Attack, ICML 2020, algorithm 1 (without the final search, as in
        AutoAttack), and its targeted version in their AutoAttack paper.
    """
    ranks = ranks_of(targets, losses.classes_of(model))
    attack = FAB(norm_order(norm), targeted=ranks != [0])
    runs = [
        one
        for rank in ranks
        for one in restart_runs(restarts, last_step=steps, rank=rank)
    ]
    settings |= {"seed": seed, "early_stop": early_stop}
    return run_attack(model, images, labels, eps, attack, runs, **settings)
