"""How every attack runs: one compiled loop over a batch that fallen images leave.

A `Search` says how an attack begins, steps and ends on tensors of one row an image.
`run` goes with it over any number of images, pass by pass: each restart, each target
class and each slice of a long search is a pass.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from inres_tf.attacks import losses
from inres_tf.attacks.precision import in_float32
from inres_tf.classifier import Classifier
from inres_tf.errors import UserError
from inres_tf.logits import logits_fn
from inres_tf.progress import bar
from inres_tf.sharding import compile_rows

# Rounding of float32 pixels when a perturbation is added and taken away again, by the
# size of what is added up.
_TOLERANCE = 1e-3


class AttackError(RuntimeError):
    """An example outside its ball or the pixel range: a defect."""


class NotANumberError(AttackError, UserError):
    """Losses, gradients or examples that are no numbers."""


class Numbers(NamedTuple):
    """What a search is called with, beside images: scalars that compile nothing anew.

    Attributes:
        eps: radius of the ball, in 1/255 of the pixel range.
        step_size: of searches that have one.
        seed: of all that is drawn.
        restart: number of the restart, from 0.
        rank: the target is the class that the clean image's logits put so many places
            below the true one; 0 for no target.
        first: the pass's first step.
        last: the step after its last.
    """

    eps: tf.Tensor
    step_size: tf.Tensor
    seed: tf.Tensor
    restart: tf.Tensor
    rank: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor


class Pass(NamedTuple):
    """One run of a search over the images left; the numbers are those of `Numbers`.

    Attributes:
        last: as in `Numbers`: the steps to do, if `first` is 0.
        restart: as in `Numbers`.
        rank: as in `Numbers`.
        first: as in `Numbers`; where it is not 0, the pass before is gone on with.
    """

    last: int
    restart: int = 0
    rank: int = 0
    first: int = 0


@dataclasses.dataclass(frozen=True)
class Search:
    """How an attack searches: what its settings are, and what it does with rows.

    `begin`, `step` and `finish` take and give a dict of tensors of one row an image.
    These are in every dict:

    - `clean`, pixels; `labels`, int64; `ids`, indices of the images, int64;
    - `found`, the pixels to return; `fallen`, whether they are misclassified and in
      the ball; `score`, by which they are chosen among passes, the higher the better.

    A search adds what else it needs in `begin`. Settings are fields of the dataclass,
    and another value of one is compiled anew.

    Attributes:
        order: the norm's, `np.inf` or 2.
    """

    order: float = np.inf

    def begin(self, model_fn, rows, numbers: Numbers) -> dict:
        """Rows before the first step.

        There `found` holds the clean images or, where a pass is gone on with, what it
        has found.
        """
        raise NotImplementedError

    def step(self, model_fn, rows, number, numbers: Numbers) -> dict:
        """Rows after step `number`; `fallen` ones may not come back."""
        raise NotImplementedError

    def finish(self, model_fn, rows, numbers: Numbers) -> dict:
        """Rows of the images left after the last step."""
        return rows

    def radius(self, eps) -> float:
        """How far examples may lie from their images."""
        return eps


def run(
    model,
    images,
    labels,
    eps,
    search: Search,
    passes: Sequence[Pass],
    *,
    step_size=1.0,
    seed=0,
    early_stop=False,
    batch_size=256,
    ids=None,
    progress="",
) -> np.ndarray:
    """Attacks images with one search.

    Args:
        model: Keras classifier of pixels; see `inres_tf.attacks.fgsm`.
        images: pixels in [0, 255], (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range.
        search: what to do.
        passes: how often and with which numbers, in this order. Of several the example
            that is misclassified is kept, and of those the one with the highest score.
        step_size: of searches that have one, in 1/255 of the pixel range.
        seed: of all that is drawn, an integer.
        early_stop: whether images leave once they are misclassified, and those that
            are so from the beginning are returned as they are.
        batch_size: images attacked at a time.
        ids: the images' indices in their data, on which their random numbers depend;
            0, 1, ... by default.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is not a number.
    """
    images, labels = _checked(images, labels, eps, search, passes, step_size)
    if batch_size < 1:
        raise ValueError(
            f"`batch_size` must be positive. Received: batch_size={batch_size}"
        )
    ids = np.arange(len(images)) if ids is None else np.asarray(ids, np.int64)
    if ids.shape != labels.shape:
        raise ValueError(
            f"`ids` must be one integer an image. Received: ids of shape {ids.shape} "
            f"for {len(images)} images"
        )
    model = in_float32(model)
    strategy = tf.distribute.get_strategy()
    attack = _compile(model, strategy, search, images.shape[1:])
    classes = losses.classes_of(model)
    if labels.size and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"`labels` must be from 0 to {classes - 1}, the model's classes. Received "
            f"values from {labels.min()} to {labels.max()}"
        )
    found, latest, left = images.copy(), images.copy(), np.arange(len(images))
    fallen, score = np.zeros(len(images), bool), np.full(len(images), -np.inf)
    if early_stop:
        fallen = ~classifier_of(model, batch_size).correct(images, labels)
    for number, one in enumerate(passes, start=1):
        if early_stop:
            left = left[~fallen[left]]
        label = progress if len(passes) == 1 else f"{progress} {number}/{len(passes)}"
        starts = range(0, len(left), batch_size)
        for at in bar(starts, label, "batch", disable=not progress):
            rows = left[at : at + batch_size]
            new, new_fallen, new_score = attack(
                images[rows],
                latest[rows] if one.first else images[rows],
                labels[rows],
                ids[rows],
                *(float(eps), float(step_size), int(seed) % 2**63),
                *(one.restart, one.rank, one.first, one.last, bool(early_stop)),
            )
            check(new, images[rows], search.radius(eps), search.order)
            latest[rows] = new
            new_fallen = new_fallen > 0
            if np.isnan(new_score).any():
                raise NotANumberError(
                    "the loss or its gradient is not a number for "
                    f"{np.isnan(new_score).sum()} of {len(rows)} images, which cannot "
                    "be attacked"
                )
            better = (new_fallen & ~fallen[rows]) | (
                (new_fallen == fallen[rows]) & (new_score >= score[rows])
            )
            found[rows[better]], score[rows[better]] = new[better], new_score[better]
            fallen[rows] |= new_fallen
    return found


# A trace for each, kept for as many as one compares at a time.
@functools.lru_cache(maxsize=24)
def _compile(model, strategy, search, shape):
    """A search on a model and images of one shape, compiled."""
    del strategy  # the one in scope, for which `compile_rows` compiles
    logits = logits_fn(model)
    images = tf.TensorSpec((None, *shape))
    integers = tf.TensorSpec((None,), tf.int64)
    real, seed = tf.TensorSpec(()), tf.TensorSpec((), tf.int64)
    count, flag = tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.bool)

    def model_fn(images):
        return tf.cast(logits(images, training=False), tf.float32)

    def attack(clean, found, labels, ids, *rest):
        return _loop(model_fn, search, clean, found, labels, ids, *rest)

    # A signature, since every new batch size would trace the network again.
    signature = [images, images, integers, integers, real, real, seed]
    return compile_rows(attack, [*signature, *[count] * 4, flag])


def classifier_of(model, batch_size: int) -> Classifier:
    """The compiled classifier that attacks of this model share."""
    classifier = _classifier(in_float32(model), tf.distribute.get_strategy())
    classifier.batch_size = batch_size
    return classifier


@functools.lru_cache(maxsize=4)
def _classifier(model, strategy):
    del strategy  # as in `_compile`
    return Classifier(model)


def _loop(model_fn, search, clean, found, labels, ids, *numbers_and_flag):
    """Runs one pass over a batch, out of which fallen images are taken.

    Returns:
        Found pixels, whether each has fallen (1.0 or 0.0), and its score.
    """
    *numbers, early_stop = numbers_and_flag
    numbers = Numbers(*numbers)
    fallen = tf.zeros_like(labels, bool)
    score = tf.fill(tf.shape(labels), -math.inf)
    rows = {"clean": clean, "labels": labels, "ids": ids}
    rows |= {"found": found, "fallen": fallen, "score": score}
    rows = search.begin(model_fn, rows, numbers)
    place = tf.range(tf.shape(labels)[0])
    kept = {name: rows[name] for name in ("found", "fallen", "score")}

    def record(kept, place, rows):
        return {
            name: tf.tensor_scatter_nd_update(values, place[:, None], rows[name])
            for name, values in kept.items()
        }

    def left(place, rows):
        stay = ~(rows["fallen"] & early_stop)
        rows = {name: tf.boolean_mask(values, stay) for name, values in rows.items()}
        return tf.boolean_mask(place, stay), rows

    def going(number, place, *_):
        return (number < numbers.last) & (tf.size(place) > 0)

    def step(number, place, rows, kept):
        rows = search.step(model_fn, rows, number, numbers)
        kept = record(kept, place, rows)
        return number + 1, *left(place, rows), kept

    def rows_of(values):
        return tf.TensorShape([None, *values.shape[1:]])

    _, place, rows, kept = tf.while_loop(
        going,
        step,
        (numbers.first, *left(place, rows), kept),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None]),
            tf.nest.map_structure(rows_of, rows),
            tf.nest.map_structure(lambda values: values.shape, kept),
        ),
    )
    kept = tf.cond(
        tf.size(place) > 0,
        lambda: record(kept, place, search.finish(model_fn, rows, numbers)),
        lambda: kept,
    )
    fallen, score = kept["fallen"], kept["score"]
    # That of logits which are no numbers; all such examples are as good.
    score = tf.where(fallen & tf.math.is_nan(score), math.inf, score)
    return kept["found"], tf.cast(fallen, tf.float32), score


def wrong(logits, labels):
    """Whether logits (batch, classes) are misclassified, as those with a NaN are."""
    nan = tf.reduce_any(tf.math.is_nan(logits), axis=-1)
    return (tf.argmax(logits, axis=-1) != labels) | nan


def _checked(images, labels, eps, search, passes, step_size):
    """The images and labels as arrays, if the arguments are what they should be."""
    largest = 255 if search.order == np.inf else 10**9
    steps = max(one.last for one in passes)
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
            "`labels` must be one integer class an image, not one-hot. Received: "
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


def check(adversarial, images, radius, order=np.inf) -> None:
    """Checks that adversarial examples lie in their ball and the pixel range.

    Args:
        adversarial: adversarial pixels, (number, height, width, channels).
        images: the clean pixels.
        radius: of the ball, in 1/255 of the pixel range.
        order: the norm's, `np.inf` or 2.

    Raises:
        AttackError: if one does not, or is not finite.
    """
    if not np.isfinite(adversarial).all():
        raise NotANumberError(
            "an adversarial example is not finite: the model's gradients are no numbers"
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


def restarts_of(number: int, **settings) -> list[Pass]:
    """A pass for each restart.

    Raises:
        ValueError: if there is none.
    """
    if int(number) != number or number < 1:
        raise ValueError(
            f"`restarts` must be a positive integer. Received: restarts={number}"
        )
    return [Pass(restart=restart, **settings) for restart in range(int(number))]
