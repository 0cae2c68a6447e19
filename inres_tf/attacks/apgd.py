"""Auto-PGD: projected gradient descent with an adaptive step size."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf.arguments import positive_integer
from inres_tf.attacks import counter_rng, geometry, losses
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

_LOSSES = {
    "ce": losses.cross_entropy,
    "dlr": losses.dlr,
    "dlr_targeted": losses.dlr_targeted,
}
# The step size is halved unless the loss increases in more than this share of the steps
# between two checkpoints.
_INCREASING = 0.75
# Weight of the gradient step; the rest is that of the momentum.
_GRADIENT_WEIGHT = 0.75


def checkpoints(steps: int) -> list[int]:
    """Returns the numbers of steps after which the step size is checked.

    The first after 22% of the steps; each interval is shorter than the one before it by
    3% of the steps, down to 6%.

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, section 3.1.
    """
    interval, shortest, decrease = (
        max(int(share * steps), 1) for share in (0.22, 0.06, 0.03)
    )
    result, checkpoint = [], interval
    while checkpoint <= steps:
        result.append(checkpoint)
        interval = max(interval - decrease, shortest)
        checkpoint += interval
    return result


@dataclasses.dataclass(frozen=True)
class AutoPGD(IterativeAttack):
    """Algorithm 1 of Croce & Hein, with the step size rule of their code.

    Attributes:
        loss: the loss to maximise: `"ce"`, `"dlr"` or `"dlr_targeted"`.
        steps: number of steps, on which the checkpoints depend.
        samples: number of losses and gradients averaged at every point. If there are
            several, for randomised networks, the example is the point of highest loss,
            and misclassified if at least half of the passes are wrong.
    """

    loss: str = "ce"
    steps: int = 100
    samples: int = 1

    def initialize(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Starts at a random point on the surface of the ball."""
        clean = state["clean"]
        # Each loss and target starts at points of its own.
        own = params.rank, list(_LOSSES).index(self.loss)
        keys = counter_rng.key(params.seed, state["ids"], params.restart, *own)
        direction = geometry.random_direction(keys, clean.shape[1:], self.order)
        start = geometry.clip_pixels(clean + params.eps * direction)
        state |= {"images": start, "before": start, "target": state["labels"]}
        if self.loss == "dlr_targeted":
            target = losses.target(model_fn(clean), state["labels"], params.rank)
            state |= {"target": target}
        loss, gradient, misclassified = self._evaluate(model_fn, state)
        step_size = tf.fill(tf.shape(loss), 2 * params.eps)
        zeros = tf.zeros_like(loss)
        return state | {
            "adversarial": start,
            "misclassified": misclassified,
            "score": loss,
            "gradient": gradient,
            "best": start,
            "best_gradient": gradient,
            "loss": loss,
            "step_size": step_size,
            "increases": zeros,
            "checked_score": loss,
            # As in the authors' code, so that the first check only counts increases.
            "halved": tf.ones_like(zeros, tf.bool),
        }

    def step(
        self, model_fn: ModelFn, state: State, number: tf.Tensor, params: RunParams
    ) -> State:
        """Takes a step with momentum, and adapts the step size at checkpoints."""
        images, before = state["images"], state["before"]
        step_size = geometry.per_image(state["step_size"])
        moved = images + step_size * self._direction(state["gradient"])
        moved = geometry.project(moved, state["clean"], params.eps, self.order)
        weight = tf.where(number > 0, _GRADIENT_WEIGHT, 1.0)
        moved = images + weight * (moved - images) + (1 - weight) * (images - before)
        moved = geometry.project(moved, state["clean"], params.eps, self.order)
        state |= {"images": moved, "before": images}
        loss, gradient, misclassified = self._evaluate(model_fn, state)
        better = loss > state["score"]
        increased = tf.cast(loss > state["loss"], tf.float32)
        state |= {
            "gradient": gradient,
            "best": _where(better, moved, state["best"]),
            "best_gradient": _where(better, gradient, state["best_gradient"]),
            "score": tf.where(better | tf.math.is_nan(loss), loss, state["score"]),
            "loss": loss,
            "increases": state["increases"] + increased,
        }
        return self._check(self._record(state, better, misclassified), number + 1)

    def _record(self, state, better, misclassified):
        """The state with the example that is the current images, the best, or stays."""
        before = state["misclassified"]
        if self.samples > 1:  # a single wrong pass proves little
            return state | {
                "adversarial": state["best"],
                "misclassified": tf.where(better, misclassified, before),
            }
        adversarial = _where(before, state["adversarial"], state["best"])
        return state | {
            "adversarial": _where(misclassified, state["images"], adversarial),
            "misclassified": before | misclassified,
        }

    def _direction(self, gradient):
        """Direction of norm 1, even for the tiny gradients of confident networks."""
        if self.order == np.inf:
            return tf.sign(gradient)
        return geometry.unit(gradient, self.order)

    def _check(self, state, done):
        """The state after `done` steps, with step sizes halved where there is need."""
        numbers = checkpoints(self.steps)
        intervals = [b - a for a, b in zip([0, *numbers], numbers)]
        here = tf.constant(numbers) == done
        checking = tf.reduce_any(here)
        interval = tf.reduce_sum(tf.where(here, tf.constant(intervals), 0))
        few = state["increases"] <= _INCREASING * tf.cast(interval, tf.float32)
        stuck = ~state["halved"] & (state["checked_score"] >= state["score"])
        halve = checking & (few | stuck)
        checked_score = tf.where(checking, state["score"], state["checked_score"])
        return state | {
            "step_size": tf.where(halve, state["step_size"] / 2, state["step_size"]),
            "images": _where(halve, state["best"], state["images"]),
            "gradient": _where(halve, state["best_gradient"], state["gradient"]),
            "halved": tf.where(checking, halve, state["halved"]),
            "checked_score": checked_score,
            "increases": tf.where(checking, 0.0, state["increases"]),
        }

    def _evaluate(self, model_fn, state):
        """Loss and gradient at the current images, and whether they succeed."""

        def loss_fn(logits, labels):
            return _LOSSES[self.loss](logits, labels, state["target"])

        labels = state["labels"]
        arguments = (model_fn, state["images"], labels, loss_fn)
        logits, loss, gradient = losses.value_and_gradient(*arguments)
        misclassified = is_misclassified(logits, labels)
        if self.samples == 1:
            return loss, gradient, misclassified
        wrong = tf.cast(misclassified, tf.float32)
        for _ in tf.range(self.samples - 1):
            logits, more_loss, more_gradient = losses.value_and_gradient(*arguments)
            loss += more_loss
            gradient += more_gradient
            wrong += tf.cast(is_misclassified(logits, labels), tf.float32)
        number = float(self.samples)
        return loss / number, gradient / number, wrong >= number / 2


def _where(condition, images, others):
    """Selects whole images by a condition of shape (batch,)."""
    return tf.where(geometry.per_image(condition), images, others)


def apgd_ce(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 100,
    restarts: int = 1,
    samples: int = 1,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Auto-PGD on the cross-entropy.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        steps: number of steps.
        restarts: number of random starts.
        samples: number of losses and gradients averaged at every point (expectation
            over transformation), for randomised networks; 20 in AutoAttack's `"rand"`.
            With several, no image leaves early, and the point of highest loss is
            returned: judge it by several passes too.
        norm: `"linf"` or `"l2"`.
        seed: seed of the random starts.
        early_stop: whether an image leaves the batch as soon as it is misclassified,
            even before the first step.
        batch_size: number of images attacked at a time.
        ids: indices of the images in their dataset, from which their random numbers
            are derived; 0, 1, ... by default.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: a misclassified point if
        one was found, and otherwise that of highest loss.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite. Images with NaN logits count as misclassified.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.apgd_ce(
        ...     model, test.images, test.labels, eps=64, norm="l2", steps=5
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, section 3. The intervals between
        checkpoints and the rule for halving step sizes are those of the authors' code,
        except that the first step counts as an increase only if it is one.
    """
    return run_attack(
        model,
        images,
        labels,
        eps,
        AutoPGD(
            norm_order(norm), "ce", int(steps), positive_integer("samples", samples)
        ),
        restart_runs(restarts, last_step=steps),
        seed=seed,
        early_stop=early_stop and samples == 1,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )


def apgd_dlr(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    samples: int = 1,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Auto-PGD on the difference of logits ratio, targeted (APGD-T) by default.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax,
            with at least four classes, or three if `targets` is 0.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        steps: number of steps for each target.
        restarts: number of random starts for each target.
        targets: number of target classes, at most all but the true one: those with the
            largest logits of the clean image. 0 for the untargeted attack.
        samples: number of losses and gradients averaged at every point (expectation
            over transformation), for randomised networks; 20 in AutoAttack's `"rand"`.
            With several, no image leaves early, and the point of highest loss is
            returned: judge it by several passes too.
        norm: `"linf"` or `"l2"`.
        seed: seed of the random starts.
        early_stop: whether an image leaves the batch as soon as it is misclassified,
            even before the first step.
        batch_size: number of images attacked at a time.
        ids: indices of the images in their dataset, from which their random numbers
            are derived; 0, 1, ... by default.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: a misclassified point if
        one was found, and otherwise that of highest loss.

    Raises:
        ValueError: if the logits cannot be found, there are too few classes, or an
            argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite. Images with NaN logits count as misclassified.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.apgd_dlr(
        ...     model, test.images, test.labels, eps=8, steps=5, targets=2
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, section 4.
    """
    classes, needed = losses.classes_of(model), 4 if targets else 3
    if classes < needed:
        raise ValueError(
            f"the {'targeted ' if targets else ''}difference of logits ratio needs "
            f"{needed} classes and the model has {classes}; use apgd_ce, fab and square"
        )
    ranks = ranks_of(targets, classes)
    loss = "dlr_targeted" if targets else "dlr"
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
        AutoPGD(
            norm_order(norm), loss, int(steps), positive_integer("samples", samples)
        ),
        runs,
        seed=seed,
        early_stop=early_stop and samples == 1,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )


def ranks_of(targets: int, classes: int) -> list[int]:
    """Returns the ranks of target classes, or only 0 for an untargeted attack.

    Args:
        targets: number of targets wanted.
        classes: number of classes, all but one of which can be targets.

    Raises:
        ValueError: if `targets` is not 0 or a positive integer.
    """
    if int(targets) != targets or targets < 0:
        raise ValueError(
            f"`targets` must be 0 or a positive integer. Received: targets={targets}"
        )
    return list(range(1, min(int(targets), classes - 1) + 1)) or [0]
