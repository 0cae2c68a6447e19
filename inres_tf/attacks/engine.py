"""The engine of every attack: one compiled loop over a batch.

An `IterativeAttack` defines how an attack starts, steps and ends on a state of one row
per image. `run_attack` applies it to any number of images in one or several runs: each
restart, each target class and each slice of a long search is an `AttackRun`. With early
stopping, images leave the batch as soon as they are misclassified.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf import labels as label_checks
from inres_tf import pixels
from inres_tf.arguments import positive_integer
from inres_tf.attacks import losses
from inres_tf.attacks.norms import default_step_size
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.errors import UserError
from inres_tf.models.compile_cache import cache_per_model
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32
from inres_tf.progress import bar

if TYPE_CHECKING:
    import keras

# Function of pixels, (batch, height, width, channels), that returns float32 logits,
# (batch, classes).
ModelFn = Callable[[tf.Tensor], tf.Tensor]
# See `IterativeAttack`.
State = dict[str, tf.Tensor]

# Rounding error of float32 pixels when a perturbation is added and subtracted again.
_TOLERANCE = 1e-3


class AttackError(RuntimeError):
    """An adversarial example outside its ball or the pixel range: a bug."""


class NonFiniteError(AttackError, UserError):
    """Non-finite losses, gradients or adversarial examples."""


class RunParams(NamedTuple):
    """The scalar arguments of a compiled attack; new values do not recompile it.

    Attributes:
        eps: radius of the ball, in 1/255 of the pixel range.
        step_size: step size of attacks that have one, in the same units.
        seed: seed of every random number.
        restart: index of the restart, from 0.
        rank: the target is the class with the `rank`-th largest logit of the clean
            image, the true class not counted; 0 for no target.
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
        last_step: one more than the index of the last step: the number of steps, if
            `first_step` is 0.
        restart: index of the restart, from 0.
        rank: rank of the target class; 0 for no target.
        first_step: index of the first step; unless it is 0, the run resumes the
            previous one.
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
      misclassified and in the ball; `score`, which is higher for better examples.

    An attack adds what else it needs in `initialize`. Its settings are fields of the
    dataclass; each new value compiles the attack again.

    Attributes:
        order: order of the norm, `np.inf` or 2.
    """

    order: float = np.inf

    def initialize(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Returns the state before the first step.

        `state["adversarial"]` holds the clean images or, if the run resumes another,
        that run's examples.
        """
        raise NotImplementedError

    def step(
        self, model_fn: ModelFn, state: State, number: tf.Tensor, params: RunParams
    ) -> State:
        """Returns the state after step `number`.

        Misclassified images have left the state with early stopping, and if their score
        was NaN.
        """
        raise NotImplementedError

    def finish(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Returns the state of the remaining images after the last step."""
        return state

    def radius(self, eps: float) -> float:
        """Returns the largest distance of examples from their images."""
        return eps


def run_attack(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    attack: IterativeAttack,
    runs: Sequence[AttackRun],
    *,
    step_size: float | None = None,
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Attacks images in one or several runs.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range.
        attack: the attack.
        runs: its runs, in this order. Of several examples of an image, a misclassified
            one is kept, and among these the one with the highest score.
        step_size: step size of attacks that have one, in 1/255 of the pixel range; None
            for `norms.default_step_size`.
        seed: seed of every random number.
        early_stop: whether an image leaves the batch as soon as it is misclassified.
            Images that are misclassified from the start are returned unchanged.
        batch_size: number of images attacked at a time.
        ids: indices of the images in their dataset, from which their random numbers
            are derived; 0, 1, ... by default.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite (`NonFiniteError`).
    """
    steps = max(run.last_step for run in runs)
    if step_size is None:
        step_size = default_step_size(attack.order, eps, max(steps, 1))
    check_scalars(attack.order, eps, steps, step_size)
    images, labels = checked_images(model, images, labels, batch_size)
    ids = checked_ids(ids, len(images))
    model = in_float32(model)
    compiled = _compile(
        model, tf.distribute.get_strategy(), attack, tuple(images.shape[1:])
    )
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
            batch = remaining[start : start + batch_size]
            adversarial, misclassified, score = compiled(
                images[batch],
                best.latest[batch] if run.first_step else images[batch],
                labels[batch],
                ids[batch],
                *(float(eps), float(step_size), int(seed) % 2**63),
                *(run.restart, run.rank, run.first_step, int(run.last_step)),
                bool(early_stop),
            )
            check(adversarial, images[batch], attack.radius(eps), attack.order)
            if np.isnan(score).any():
                raise NonFiniteError(
                    "the loss or its gradient is non-finite for "
                    f"{np.isnan(score).sum()} of {len(batch)} images, which cannot be "
                    "attacked"
                )
            best.update(batch, adversarial, misclassified > 0, score)
    return best.adversarial


class _BestExamples:
    """The best adversarial example of each image so far.

    Attributes:
        adversarial: its pixels; initially the image itself.
        latest: the pixels that the latest run returned.
        misclassified: whether it is misclassified.
        score: its score.
    """

    def __init__(self, images):
        self.adversarial, self.latest = images.copy(), images.copy()
        self.misclassified = np.zeros(len(images), bool)
        self.score = np.full(len(images), -np.inf)

    def update(self, indices, adversarial, misclassified, score):
        """Replaces the examples of some images by better ones."""
        self.latest[indices] = adversarial
        before = self.misclassified[indices]
        better = (misclassified & ~before) | (
            (misclassified == before) & (score >= self.score[indices])
        )
        self.adversarial[indices[better]] = adversarial[better]
        self.score[indices[better]] = score[better]
        self.misclassified[indices] |= misclassified


# Enough for all the attacks of one evaluation.
@cache_per_model(maxsize=24)
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

    # Without a signature, every new batch size would trace the network again.
    signature = [images, images, integers, integers, real, real, seed]
    return compile_per_example(function, [*signature, *[count] * 4, flag])


# The part of the state that is recorded for every image of a batch.
_RECORDED = ("adversarial", "misclassified", "score")


class _BatchLoop:
    """One run over a batch, as a graph, from which misclassified images are removed.

    `index` holds the indices in the batch of the images that remain; `records` the
    latest adversarial example of every image.
    """

    def __init__(self, attack, model_fn, params, early_stop):
        self.attack, self.model_fn = attack, model_fn
        self.params, self.early_stop = params, early_stop

    def run(self, clean, adversarial, labels, ids):
        """Returns pixels, whether each is misclassified (1.0 or 0.0), and scores."""
        state = {"clean": clean, "labels": labels, "ids": ids}
        state["adversarial"] = adversarial
        state["misclassified"] = tf.zeros_like(labels, bool)
        state["score"] = tf.fill(tf.shape(labels), -math.inf)
        state = self.attack.initialize(self.model_fn, state, self.params)
        index = tf.range(tf.shape(labels)[0])
        records = {name: state[name] for name in _RECORDED}
        index, state = self._remaining(index, state)
        # Lambdas, since AutoGraph converts them, and what they call, but not methods.
        _, index, state, records = tf.while_loop(
            lambda number, index, *_: self._continues(number, index),
            lambda *variables: self._step(*variables),
            (self.params.first_step, index, state, records),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None]),
                tf.nest.map_structure(_any_batch_size, state),
                tf.nest.map_structure(lambda values: values.shape, records),
            ),
        )
        records = tf.cond(
            tf.size(index) > 0,
            lambda: self._finish(index, state, records),
            lambda: records,
        )
        misclassified, score = records["misclassified"], records["score"]
        # Examples with non-finite logits are misclassified, and all equally good.
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
        # From NaN logits, there is no way on, and they count as misclassified.
        leaves = self.early_stop | tf.math.is_nan(state["score"])
        stays = ~(state["misclassified"] & leaves)
        state = {name: tf.boolean_mask(value, stays) for name, value in state.items()}
        return tf.boolean_mask(index, stays), state


def _record(records, index, state):
    return {
        name: tf.tensor_scatter_nd_update(value, index[:, None], state[name])
        for name, value in records.items()
    }


def _any_batch_size(value):
    return tf.TensorShape([None, *value.shape[1:]])


def is_misclassified(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Whether images are misclassified, or logits not finite: booleans, (batch,)."""
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
    return (tf.argmax(logits, axis=-1) != labels) | ~finite


def check_scalars(order: float, eps: float, steps: int, step_size: float) -> None:
    """Checks the radius, the number of steps and their size.

    Raises:
        ValueError: if one of them is out of range.
    """
    largest = 255 if order == np.inf else 10**9
    for name, value, valid, expected in (
        ("eps", eps, 0 < eps <= largest, f"in (0, {largest}]"),
        ("steps", steps, int(steps) == steps and 1 <= steps <= 10**6, "from 1 to 10^6"),
        ("step_size", step_size, 0 < step_size < math.inf, "positive"),
    ):
        if not valid:
            raise ValueError(f"`{name}` must be {expected}. Received: {name}={value}")
    pixels.check_distance("eps", eps)


def checked_ids(ids: npt.ArrayLike | None, number: int) -> np.ndarray:
    """The indices of the images in their dataset; 0, 1, ... by default.

    Raises:
        ValueError: if they are not one integer per image.
    """
    ids = np.arange(number) if ids is None else np.asarray(ids, np.int64)
    if ids.shape != (number,):
        raise ValueError(
            f"`ids` must be one integer per image. Received: ids of shape {ids.shape} "
            f"for {number} images"
        )
    return ids


def checked_images(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The images as float32 and the labels as int64 arrays, after a check.

    Raises:
        ValueError: if the images are not pixels in [0, 255] of the shape that the model
            takes, the labels not one class per image, or the batch size not positive.
    """
    classes = losses.classes_of(model)
    if batch_size < 1:
        raise ValueError(
            f"`batch_size` must be positive. Received: batch_size={batch_size}"
        )
    images = np.asarray(images, np.float32)
    taken = tuple(model.inputs[0].shape[1:])
    fits = len(images.shape) == 4 and all(
        side in (None, given) for side, given in zip(taken, images.shape[1:])
    )
    if not fits:
        raise ValueError(
            f"`images` must have the shape (number, {', '.join(map(str, taken))}) that "
            f"{model.name} takes. Received: images of shape {images.shape}"
        )
    labels = label_checks.checked(labels, len(images), classes)
    pixels.check_images(images)
    return images, labels


def check(
    adversarial: np.ndarray, images: np.ndarray, radius: float, order: float = np.inf
) -> None:
    """Checks that adversarial examples lie in their ball and in the pixel range.

    Args:
        adversarial: adversarial pixels, (number, height, width, channels).
        images: the clean pixels, of the same shape.
        radius: radius of the ball, in 1/255 of the pixel range.
        order: order of the norm, `np.inf` or 2.

    Raises:
        AttackError: if an example does not, or is non-finite (`NonFiniteError`).

    Example:
        >>> import numpy as np
        >>> from inres_tf import attacks
        >>> images = np.full((2, 8, 8, 1), 100.0)
        >>> attacks.check(images + 8, images, radius=8)
        >>> attacks.check(images + 8, images, radius=8, order=2)
        Traceback (most recent call last):
            ...
        inres_tf.attacks.engine.AttackError: an adversarial example lies 64/255 from its
        image, outside the ball of radius 8/255
    """
    if not np.isfinite(adversarial).all():
        raise NonFiniteError(
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


def restart_runs(number: int, **settings: int) -> list[AttackRun]:
    """Returns one run per restart.

    Args:
        number: number of restarts.
        **settings: other fields of the runs.

    Raises:
        ValueError: if the number is not a positive integer.
    """
    number = positive_integer("restarts", number)
    return [AttackRun(restart=restart, **settings) for restart in range(number)]
