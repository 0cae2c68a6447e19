"""Auto-PGD: projected gradient descent that finds its step size by itself."""

import dataclasses

import numpy as np
import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.attacks._pgd import value_and_gradient
from inres_tf.attacks.engine import (
    IterativeAttack,
    is_misclassified,
    restart_runs,
    run_attack,
)
from inres_tf.attacks.norms import norm_order

_LOSSES = {
    "ce": losses.cross_entropy,
    "dlr": losses.dlr,
    "dlr_targeted": losses.dlr_targeted,
}
# Share of steps that must gain between two checks for the step size to stay.
_GAINING = 0.75
# Weight of the gradient step beside the momentum.
_STEP = 0.75


def checkpoints(steps: int) -> list[int]:
    """The numbers of steps after which step sizes are checked.

    The first after 22% of the steps; every further interval is shorter by 3% of them,
    down to 6%.

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, section 3.1.
    """
    interval, shortest, less = (
        max(int(share * steps), 1) for share in (0.22, 0.06, 0.03)
    )
    found, at = [], interval
    while at <= steps:
        found.append(at)
        interval = max(interval - less, shortest)
        at += interval
    return found


@dataclasses.dataclass(frozen=True)
class AutoPGD(IterativeAttack):
    """Algorithm 1 of Croce & Hein, with the step-size rule of their code.

    Attributes:
        loss: what it climbs, `"ce"`, `"dlr"` or `"dlr_targeted"`.
        steps: number of steps, which decides when step sizes are checked.
        samples: gradients averaged at every point, for networks that are random.
    """

    loss: str = "ce"
    steps: int = 100
    samples: int = 1

    def initialize(self, model_fn, state, params):
        """At a random point of the ball's surface."""
        clean = state["clean"]
        keys = counter_rng.key(params.seed, state["ids"], params.restart)
        direction = geometry.random_direction(keys, clean.shape[1:], self.order)
        start = geometry.clip_pixels(clean + params.eps * direction)
        state |= {"images": start, "before": start, "target": state["labels"]}
        if self.loss == "dlr_targeted":
            target = losses.target(model_fn(clean), state["labels"], params.rank)
            state |= {"target": target}
        logits, loss, gradient = self._at(model_fn, state)
        step_size = tf.fill(tf.shape(loss), 2 * params.eps)
        zeros = tf.zeros_like(loss)
        return state | {
            "adversarial": start,
            "misclassified": is_misclassified(logits, state["labels"]),
            "score": loss,
            "gradient": gradient,
            "best": start,
            "best_gradient": gradient,
            "loss": loss,
            "step_size": step_size,
            "gains": zeros,
            "checked": loss,
            # The authors' code starts so, and its first check asks for gains alone.
            "halved": tf.ones_like(zeros, tf.bool),
        }

    def step(self, model_fn, state, number, params):
        """Moves, and halves step sizes where a check finds that it should."""
        images, before = state["images"], state["before"]
        step_size = geometry.per_image(state["step_size"])
        moved = images + step_size * self._direction(state["gradient"])
        moved = geometry.project(moved, state["clean"], params.eps, self.order)
        share = tf.where(number > 0, _STEP, 1.0)
        moved = images + share * (moved - images) + (1 - share) * (images - before)
        moved = geometry.project(moved, state["clean"], params.eps, self.order)
        state |= {"images": moved, "before": images}
        logits, loss, gradient = self._at(model_fn, state)
        fallen = is_misclassified(logits, state["labels"])
        better = loss > state["score"]
        gained = tf.cast(loss > state["loss"], tf.float32)
        state |= {
            "gradient": gradient,
            "best": _chosen(better, moved, state["best"]),
            "best_gradient": _chosen(better, gradient, state["best_gradient"]),
            "score": tf.where(better, loss, state["score"]),
            "loss": loss,
            "gains": state["gains"] + gained,
        }
        every = _chosen(state["misclassified"], state["adversarial"], state["best"])
        state |= {
            "adversarial": _chosen(fallen, moved, every),
            "misclassified": state["misclassified"] | fallen,
        }
        return self._check(state, number + 1)

    def _direction(self, gradient):
        """Steps of norm 1, however small the gradient of a confident network is."""
        if self.order == np.inf:
            return tf.sign(gradient)
        return geometry.unit(gradient, self.order)

    def _check(self, state, done):
        """Step sizes after so many steps, halved where the search did not gain."""
        at = checkpoints(self.steps)
        intervals = [b - a for a, b in zip([0, *at], at)]
        here = tf.constant(at) == done
        checking = tf.reduce_any(here)
        interval = tf.reduce_sum(tf.where(here, tf.constant(intervals), 0))
        few = state["gains"] <= _GAINING * tf.cast(interval, tf.float32)
        stuck = ~state["halved"] & (state["checked"] >= state["score"])
        halve = checking & (few | stuck)
        return state | {
            "step_size": tf.where(halve, state["step_size"] / 2, state["step_size"]),
            "images": _chosen(halve, state["best"], state["images"]),
            "gradient": _chosen(halve, state["best_gradient"], state["gradient"]),
            "halved": tf.where(checking, halve, state["halved"]),
            "checked": tf.where(checking, state["score"], state["checked"]),
            "gains": tf.where(checking, 0.0, state["gains"]),
        }

    def _at(self, model_fn, state):
        """Logits, loss and gradient where the search is, over all samples."""

        def loss_fn(logits, labels):
            return _LOSSES[self.loss](logits, labels, state["target"])

        at = (model_fn, state["images"], state["labels"], loss_fn)
        logits, loss, gradient = value_and_gradient(*at)
        for _ in tf.range(self.samples - 1):
            logits, loss, more = value_and_gradient(*at)
            gradient += more
        return logits, loss, gradient / self.samples


def _chosen(which, yes, no):
    """Images `yes` where `which`, (batch,), holds, and else `no`."""
    return tf.where(geometry.per_image(which), yes, no)


def apgd_ce(
    model,
    images,
    labels,
    eps,
    *,
    steps=100,
    restarts=1,
    samples=1,
    norm="linf",
    seed=0,
    early_stop=False,
    **settings,
):
    """Auto-PGD on the cross-entropy.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps.
        restarts: number of random starts.
        samples: gradients averaged at every point (expectation over transformation),
            for networks that are random; 20 in AutoAttack's `rand`.
        norm: as in `fgsm`.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`.
        **settings: as in `fgsm`.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: a misclassified point if
        one was met, and else the one of highest loss.

    Raises:
        As `fgsm`.

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, section 3. The intervals between
        checks and the rule by which step sizes are halved are those of the authors'
        code, but that the first step too counts as a gain only if it is one.
    """
    attack = AutoPGD(norm_order(norm), "ce", int(steps), _positive(samples))
    runs = restart_runs(restarts, last_step=steps)
    settings |= {"seed": seed, "early_stop": early_stop}
    return run_attack(model, images, labels, eps, attack, runs, **settings)


def apgd_dlr(
    model,
    images,
    labels,
    eps,
    *,
    steps=100,
    restarts=1,
    targets=9,
    samples=1,
    norm="linf",
    seed=0,
    early_stop=False,
    **settings,
):
    """Auto-PGD on the difference of logits ratio, targeted (APGD-T) unless told.

    Args:
        model: as in `fgsm`, of at least four classes, or three if `targets` is 0.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps towards each target.
        restarts: number of random starts for each target.
        targets: number of target classes, the likeliest ones of the clean image beside
            the true one, at most all others; 0 for no targets.
        samples: as in `apgd_ce`.
        norm: as in `fgsm`.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`.
        **settings: as in `fgsm`.

    Returns:
        As `apgd_ce`.

    Raises:
        ValueError: as `fgsm`, and if there are too few classes.
        AttackError: as `fgsm`.

    Reference:
        As `apgd_ce`, section 4.
    """
    classes, least = losses.classes_of(model), 4 if targets else 3
    if classes < least:
        raise ValueError(
            f"the {'targeted ' if targets else ''}difference of logits ratio needs "
            f"{least} classes and the model has {classes}; use apgd_ce, fab and square"
        )
    ranks = ranks_of(targets, classes)
    loss = "dlr_targeted" if targets else "dlr"
    attack = AutoPGD(norm_order(norm), loss, int(steps), _positive(samples))
    runs = [
        one
        for rank in ranks
        for one in restart_runs(restarts, last_step=steps, rank=rank)
    ]
    settings |= {"seed": seed, "early_stop": early_stop}
    return run_attack(model, images, labels, eps, attack, runs, **settings)


def ranks_of(targets: int, classes: int) -> list[int]:
    """Ranks of the target classes of that many runs; 0 alone for no targets.

    Raises:
        ValueError: if it is no number of targets.
    """
    if int(targets) != targets or targets < 0:
        raise ValueError(
            f"`targets` must be 0 or a positive integer. Received: targets={targets}"
        )
    return list(range(1, min(int(targets), classes - 1) + 1)) or [0]


def _positive(samples) -> int:
    if int(samples) != samples or samples < 1:
        raise ValueError(
            f"`samples` must be a positive integer. Received: samples={samples}"
        )
    return int(samples)
