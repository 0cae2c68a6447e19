"""How every attack runs: one compiled loop over a batch.

An `IterativeAttack` defines how an attack starts, steps and ends on a state of one row
per image. `run_attack` applies it to any number of images in one or several runs: each
restart, each target class and each slice of a long search is an `AttackRun`. With early
stopping, images leave the batch as soon as they are misclassified.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from inres_tf.attacks import losses
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.errors import UserError
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32
from inres_tf.progress import bar

# Rounding of float32 pixels when a perturbation is added and subtracted again, by the
# size of the terms.
_TOLERANCE = 1e-3


class AttackError(RuntimeError):
    """An adversarial example outside its ball or the pixel range: a defect."""


class NotANumberError(AttackError, UserError):
    """Non-finite losses, gradients or adversarial examples."""


class RunParams(NamedTuple):
    """The scalar arguments of a compiled attack; other values do not recompile it.

    Attributes:
        eps: radius of the ball, in 1/255 of the pixel range.
        step_size: step size of attacks that have one, in the same units.
        seed: seed of every random number.
        restart: index of the restart, from 0.
        rank: the target class is the one that the clean image's logits rank this many
            places below the true class; 0 for no target.
        first_step: index of the run's first step.
        last_step: one more than the index of its last step.
    """

    eps: tf.Tensor
    step_size: tf.Tensor
    seed: tf.Tensor
    restart: tf.Tensor
    rank: tf.Tensor
    first_step: tf.Tensor
    last_step: tf.Tensor


class AttackRun(NamedTuple):
    """One run of an attack over the remaining images; see `RunParams`.

    Attributes:
        last_step: as in `RunParams`: the number of steps, if `first_step` is 0.
        restart: as in `RunParams`.
        rank: as in `RunParams`.
        first_step: as in `RunParams`; unless it is 0, the run resumes the previous one.
    """

    last_step: int
    restart: int = 0
    rank: int = 0
    first_step: int = 0


@dataclasses.dataclass(frozen=True)
class IterativeAttack:
    """An attack as functions of a state: a dict of tensors of one row per image.

    Every state holds

    - `clean`, the pixels; `labels`, int64; `ids`, indices of the images, int64;
    - `adversarial`, the pixels to return; `misclassified`, whether these are
      misclassified and in the ball; `score`, the higher the better the example.

    An attack adds what else it needs in `initialize`. Its settings are fields of the
    dataclass; each new value compiles the attack again.

    Attributes:
        order: order of the norm, `np.inf` or 2.
    """

    order: float = np.inf

    def initialize(self, model_fn: Callable, state: dict, params: RunParams) -> dict:
        """The state before the first step.

        `state["adversarial"]` holds the clean images or, if the run resumes another,
        that run's examples.
        """
        raise NotImplementedError

    def step(self, model_fn: Callable, state: dict, number, params: RunParams) -> dict:
        """The state after step `number`; misclassified images may have left it."""
        raise NotImplementedError

    def finish(self, model_fn: Callable, state: dict, params: RunParams) -> dict:
        """The state of the remaining images after the last step."""
        return state

    def radius(self, eps: float) -> float:
        """How far examples may lie from their images."""
        return eps


def run_attack(
    model,
    images,
    labels,
    eps,
    attack: IterativeAttack,
    runs: Sequence[AttackRun],
    *,
    step_size=1.0,
    seed=0,
    early_stop=False,
    batch_size=256,
    ids=None,
    progress="",
) -> np.ndarray:
    """Attacks images.

    Args:
        model: Keras classifier of pixels; see `inres_tf.attacks.fgsm`.
        images: pixels in [0, 255], (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range.
        attack: the attack.
        runs: its runs, in this order. Of several examples of an image, a misclassified
            one is kept, and among these the one with the highest score.
        step_size: step size of attacks that have one, in 1/255 of the pixel range.
        seed: seed of every random number, an integer.
        early_stop: whether images leave once they are misclassified. Those that are
            misclassified from the start are then returned unchanged.
        batch_size: images attacked at a time.
        ids: the images' indices in their dataset, on which their random numbers depend;
            0, 1, ... by default.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite.
    """
    images, labels = _checked(images, labels, eps, attack, runs, step_size)
    if batch_size < 1:
        raise ValueError(
            f"`batch_size` must be positive. Received: batch_size={batch_size}"
        )
    ids = np.arange(len(images)) if ids is None else np.asarray(ids, np.int64)
    if ids.shape != labels.shape:
        raise ValueError(
            f"`ids` must be one integer per image. Received: ids of shape {ids.shape} "
            f"for {len(images)} images"
        )
    model = in_float32(model)
    compiled = _compile(
        model, tf.distribute.get_strategy(), attack, tuple(images.shape[1:])
    )
    _check_labels(labels, losses.classes_of(model))
    best = _BestExamples(images)
    if early_stop:
        correct = compiled_classifier(model, batch_size).correct(images, labels)
        best.misclassified = ~correct
    remaining = np.arange(len(images))
    for number, run in enumerate(runs, start=1):
        if early_stop:
            remaining = remaining[~best.misclassified[remaining]]
        label = progress if len(runs) == 1 else f"{progress} {number}/{len(runs)}"
        starts = range(0, len(remaining), batch_size)
        for start in bar(starts, label, "batch", disable=not progress):
            rows = remaining[start : start + batch_size]
            adversarial, misclassified, score = compiled(
                images[rows],
                best.latest[rows] if run.first_step else images[rows],
                labels[rows],
                ids[rows],
                *(float(eps), float(step_size), int(seed) % 2**63),
                *(run.restart, run.rank, run.first_step, run.last_step),
                bool(early_stop),
            )
            check(adversarial, images[rows], attack.radius(eps), attack.order)
            if np.isnan(score).any():
                raise NotANumberError(
                    f"the loss or its gradient is non-finite for {np.isnan(score).sum()} "
                    f"of {len(rows)} images, which cannot be attacked"
                )
            best.update(rows, adversarial, misclassified > 0, score)
    return best.adversarial


class _BestExamples:
    """The best adversarial example of each image so far.

    Attributes:
        adversarial: its pixels; those of the image before any run.
        latest: the pixels that the latest run found.
        misclassified: whether it is misclassified.
        score: its score.
    """

    def __init__(self, images):
        self.adversarial, self.latest = images.copy(), images.copy()
        self.misclassified = np.zeros(len(images), bool)
        self.score = np.full(len(images), -np.inf)

    def update(self, rows, adversarial, misclassified, score):
        """Takes the examples of some rows where they are better."""
        self.latest[rows] = adversarial
        before = self.misclassified[rows]
        better = (misclassified & ~before) | (
            (misclassified == before) & (score >= self.score[rows])
        )
        self.adversarial[rows[better]] = adversarial[better]
        self.score[rows[better]] = score[better]
        self.misclassified[rows] |= misclassified


# One trace per attack, kept for as many as are compared at a time.
@functools.lru_cache(maxsize=24)
def _compile(model, strategy, attack, shape):
    """Compiles an attack on a model, for images of one shape."""
    del strategy  # the one in scope, for which `compile_per_example` compiles
    logits = logits_fn(model)
    images = tf.TensorSpec((None, *shape))
    integers = tf.TensorSpec((None,), tf.int64)
    real, seed = tf.TensorSpec(()), tf.TensorSpec((), tf.int64)
    count, flag = tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.bool)

    def model_fn(images):
        return tf.cast(logits(images, training=False), tf.float32)

    def function(clean, adversarial, labels, ids, *scalars):
        *params, early_stop = scalars
        loop = _BatchLoop(attack, model_fn, RunParams(*params), early_stop)
        return loop.run(clean, adversarial, labels, ids)

    # A signature, since every new batch size would trace the network again.
    signature = [images, images, integers, integers, real, real, seed]
    return compile_per_example(function, [*signature, *[count] * 4, flag])


# What is recorded of each image of a batch.
_RECORDED = ("adversarial", "misclassified", "score")


class _BatchLoop:
    """One run over a batch, as a graph, from which misclassified images are removed.

    `index` holds the batch's indices of the images that remain; `records` what is
    recorded of all images.
    """

    def __init__(self, attack, model_fn, params, early_stop):
        self.attack, self.model_fn = attack, model_fn
        self.params, self.early_stop = params, early_stop

    def run(self, clean, adversarial, labels, ids):
        """Adversarial pixels, whether each is misclassified (1.0 or 0.0), its score."""
        state = {"clean": clean, "labels": labels, "ids": ids}
        state["adversarial"] = adversarial
        state["misclassified"] = tf.zeros_like(labels, bool)
        state["score"] = tf.fill(tf.shape(labels), -math.inf)
        state = self.attack.initialize(self.model_fn, state, self.params)
        index = tf.range(tf.shape(labels)[0])
        records = {name: state[name] for name in _RECORDED}
        index, state = self._remaining(index, state)
        # Lambdas, since AutoGraph converts them and what they call, but no methods.
        _, index, state, records = tf.while_loop(
            lambda number, index, *_: self._continues(number, index),
            lambda *variables: self._step(*variables),
            (self.params.first_step, index, state, records),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None]),
                tf.nest.map_structure(_any_rows, state),
                tf.nest.map_structure(lambda values: values.shape, records),
            ),
        )
        records = tf.cond(
            tf.size(index) > 0,
            lambda: self._finish(index, state, records),
            lambda: records,
        )
        misclassified, score = records["misclassified"], records["score"]
        # Non-finite logits have no score; all such examples are equally good.
        score = tf.where(misclassified & tf.math.is_nan(score), math.inf, score)
        return records["adversarial"], tf.cast(misclassified, tf.float32), score

    def _continues(self, number, index):
        return (number < self.params.last_step) & (tf.size(index) > 0)

    def _step(self, number, index, state, records):
        state = self.attack.step(self.model_fn, state, number, self.params)
        records = _record(records, index, state)
        return number + 1, *self._remaining(index, state), records

    def _finish(self, index, state, records):
        state = self.attack.finish(self.model_fn, state, self.params)
        return _record(records, index, state)

    def _remaining(self, index, state):
        stays = ~(state["misclassified"] & self.early_stop)
        state = {name: tf.boolean_mask(rows, stays) for name, rows in state.items()}
        return tf.boolean_mask(index, stays), state


def _record(records, index, state):
    return {
        name: tf.tensor_scatter_nd_update(rows, index[:, None], state[name])
        for name, rows in records.items()
    }


def _any_rows(values):
    return tf.TensorShape([None, *values.shape[1:]])


def is_misclassified(logits, labels):
    """Whether images are misclassified: booleans, (batch,); non-finite logits are."""
    nan = tf.reduce_any(tf.math.is_nan(logits), axis=-1)
    return (tf.argmax(logits, axis=-1) != labels) | nan


def _check_labels(labels, classes):
    if labels.size and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"`labels` must be from 0 to {classes - 1}, the model's classes. Received "
            f"values from {labels.min()} to {labels.max()}"
        )


def _checked(images, labels, eps, attack, runs, step_size):
    """The images and labels as arrays, after all arguments are checked."""
    largest = 255 if attack.order == np.inf else 10**9
    steps = max(run.last_step for run in runs)
    for name, value, passed, accepted in (
        ("eps", eps, 0 < eps <= largest, f"in (0, {largest}]"),
        ("steps", steps, int(steps) == steps and 1 <= steps <= 10**6, "from 1 to 10^6"),
        ("step_size", step_size, 0 < step_size < math.inf, "positive"),
    ):
        if not passed:
            raise ValueError(f"`{name}` must be {accepted}. Received: {name}={value}")
    labels = np.asarray(labels)
    images = np.asarray(images)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        raise ValueError(
            "`labels` must be one integer class per image, not one-hot. Received: "
            f"labels of shape {labels.shape} and type {labels.dtype} for "
            f"{len(images)} images"
        )
    images, labels = images.astype(np.float32), labels.astype(np.int64)
    if images.size and not (0 <= images.min() and images.max() <= 255):
        raise ValueError(
            "`images` must be pixels in [0, 255]. Received values from "
            f"{images.min():g} to {images.max():g}"
        )
    return images, labels


def check(adversarial, images, radius: float, order: float = np.inf) -> None:
    """Checks that adversarial examples lie in their ball and in the pixel range.

    Args:
        adversarial: adversarial pixels, (number, height, width, channels).
        images: the clean pixels.
        radius: radius of the ball, in 1/255 of the pixel range.
        order: order of the norm, `np.inf` or 2.

    Raises:
        AttackError: if one does not, or is non-finite.
    """
    if not np.isfinite(adversarial).all():
        raise NotANumberError(
            "an adversarial example is non-finite: the model has non-finite gradients"
        )
    if adversarial.size == 0:
        return
    difference = np.asarray(adversarial, np.float32) - np.asarray(images, np.float32)
    flat = difference.reshape(len(difference), -1)
    distance = np.linalg.norm(flat, order, axis=1).max()
    if distance > radius * (1 + 1e-5) + _TOLERANCE:
        raise AttackError(
            f"an adversarial example lies {distance:g}/255 from its image, outside the "
            f"ball of radius {radius:g}/255"
        )
    if adversarial.min() < 0 or adversarial.max() > 255:
        raise AttackError(
            f"an adversarial example has values from {adversarial.min():g} to "
            f"{adversarial.max():g}, outside the pixel range [0, 255]"
        )


def restart_runs(number: int, **settings) -> list[AttackRun]:
    """One run per restart.

    Raises:
        ValueError: if there is none.
    """
    if int(number) != number or number < 1:
        raise ValueError(
            f"`restarts` must be a positive integer. Received: restarts={number}"
        )
    return [AttackRun(restart=restart, **settings) for restart in range(int(number))]
