"""Attacks by gradient ascent on the cross-entropy, with the steps of cleverhans.

FGSM, I-FGSM, PGD and MIM are the same search, and differ in where it starts and whether
it has momentum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.attacks.engine import (
    AttackRun,
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


@dataclasses.dataclass(frozen=True)
class GradientAscent(IterativeAttack):
    """Projected gradient ascent on a loss.

    Attributes:
        loss: name of the loss in `inres_tf.attacks.losses`.
        random: whether it starts at a random point of the ball.
        center: what it projects around: the `"image"` or the random `"start"`.
        momentum: the decay of MIM's momentum; None for steps along the gradient.
    """

    loss: str = "cross_entropy"
    random: bool = False
    center: str = "image"
    momentum: float | None = None

    def initialize(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Starts at the image or at a random point of the ball."""
        start = state["clean"]
        if self.random:
            keys = counter_rng.key(params.seed, state["ids"], params.restart)
            start += geometry.random_in_ball(
                keys, start.shape[1:], params.eps, self.order
            )
        if self.center == "image":
            start = geometry.clip_pixels(start)
            state |= {"center": state["clean"]}
        else:
            state |= {"center": start}
        if self.momentum is not None:
            state |= {"momentum": tf.zeros_like(start)}
        return state | {"images": start}

    def step(
        self, model_fn: ModelFn, state: State, number: tf.Tensor, params: RunParams
    ) -> State:
        """Records the current images, and takes a step from there."""
        logits, loss, gradient = losses.value_and_gradient(
            model_fn, state["images"], state["labels"], self._loss_fn
        )
        state = self._record(state, logits, loss)
        if self.momentum is not None:
            mean = tf.reduce_mean(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
            gradient /= tf.where(mean > 0, mean, 1.0)
            gradient += self.momentum * state["momentum"]
            state |= {"momentum": gradient}
        images = advance(
            state["images"],
            gradient,
            state["center"],
            params.eps,
            params.step_size,
            self.order,
            clip_first=self.momentum is None,
        )
        return state | {"images": images}

    def finish(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Records the images after the last step."""
        logits = model_fn(state["images"])
        loss = self._loss_fn(logits, state["labels"])
        return self._record(state, logits, loss)

    def _loss_fn(self, logits, labels):
        return getattr(losses, self.loss)(logits, labels)

    def _record(self, state, logits, loss):
        """The state with the current images as the adversarial ones."""
        adversarial = geometry.clip_pixels(state["images"])
        misclassified = is_misclassified(logits, state["labels"])
        if self.center == "start":  # which may lead out of the pixel range
            moved = tf.reduce_any(adversarial != state["images"], axis=(1, 2, 3))
            misclassified &= ~moved
        return state | {
            "adversarial": adversarial,
            "misclassified": misclassified,
            "score": loss,
        }

    def radius(self, eps: float) -> float:
        """Twice eps when projecting around the random start."""
        return eps if self.center == "image" else 2 * eps


def advance(
    images: tf.Tensor,
    gradient: tf.Tensor,
    center: tf.Tensor,
    eps: tf.Tensor,
    step_size: tf.Tensor,
    order: float,
    clip_first: bool = True,
) -> tf.Tensor:
    """Takes one step of PGD or MIM as in cleverhans.

    Args:
        images: the current images, (batch, height, width, channels).
        gradient: gradient of the loss, of the shape of `images`.
        center: centers of the balls, of the shape of `images`.
        eps: radius of the balls, in 1/255 of the pixel range.
        step_size: size of a step, in the same units.
        order: order of the norm, `np.inf` or 2.
        clip_first: whether to clip to the pixel range before the projection as well as
            after it, as PGD does and MIM does not.

    Returns:
        Pixels in the ball and in [0, 255], of the shape of `images`.
    """
    images += geometry.steepest(gradient, step_size, order)
    if clip_first:
        images = geometry.clip_pixels(images)
    return geometry.project(images, center, eps, order)


def ascend(
    model_fn: ModelFn,
    start: tf.Tensor,
    center: tf.Tensor,
    targets: tf.Tensor,
    eps: tf.Tensor | float,
    step_size: tf.Tensor | float,
    steps: tf.Tensor | int,
    loss_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = losses.cross_entropy,
) -> tf.Tensor:
    """Maximises a loss by PGD in an L-infinity ball, from a given start.

    For use within a `tf.function`, whose graph has the same size for any number of
    steps.

    Args:
        model_fn: function of pixels that returns float32 logits, (batch, classes).
        start: pixels to start from, float32, (batch, height, width, channels).
        center: centers of the balls, of the shape of `start`.
        targets: the second argument of `loss_fn`.
        eps: radius of the balls, in 1/255 of the pixel range.
        step_size: size of a step, in the same units.
        steps: number of steps.
        loss_fn: function `(logits, targets)` that returns the loss of each image,
            (batch,).

    Returns:
        Pixels in the ball and in [0, 255], of the shape of `start`.

    Example:
        >>> import tensorflow as tf
        >>> from inres_tf import attacks
        >>> def model_fn(images):  # bright or dark
        ...     mean = tf.reduce_mean(images, axis=(1, 2, 3)) / 255
        ...     return tf.stack([mean, 1 - mean], axis=1)
        >>> images = tf.fill((1, 2, 2, 1), 100.0)
        >>> labels = tf.constant([0], tf.int64)
        >>> adversarial = attacks.ascend(
        ...     model_fn, images, images, labels, eps=8, step_size=3, steps=5
        ... )
        >>> adversarial.numpy().ravel()
        array([92., 92., 92., 92.], dtype=float32)
    """
    eps, step_size = tf.cast(eps, tf.float32), tf.cast(step_size, tf.float32)
    adversarial = start
    for _ in tf.range(steps):
        _, _, gradient = losses.value_and_gradient(
            model_fn, adversarial, targets, loss_fn
        )
        adversarial = advance(adversarial, gradient, center, eps, step_size, np.inf)
    return adversarial


def fgsm(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Fast gradient sign method: one step of size eps.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        norm: `"linf"` or `"l2"`.
        seed: unused, since nothing is random.
        early_stop: whether to return misclassified images unchanged.
        batch_size: number of images attacked at a time.
        ids: unused, since nothing is random.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite. Images with NaN logits count as misclassified.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.fgsm(model, test.images, test.labels, eps=8)
        >>> adversarial.shape, adversarial.dtype
        ((4, 8, 8, 1), dtype('float32'))

    Reference:
        Goodfellow, Shlens, Szegedy: Explaining and Harnessing Adversarial Examples,
        ICLR 2015.
    """
    return ifgsm(
        model,
        images,
        labels,
        eps,
        steps=1,
        step_size=eps,
        norm=norm,
        seed=seed,
        early_stop=early_stop,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )


def ifgsm(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Iterative FGSM (BIM): projected gradient steps from the image.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range; None for 1, as in the
            In-ResNet paper, or 2.5 eps / steps for `"l2"`.
        norm: `"linf"` or `"l2"`.
        seed: unused, since nothing is random.
        early_stop: whether an image leaves the batch as soon as it is misclassified,
            even before the first step.
        batch_size: number of images attacked at a time.
        ids: unused, since nothing is random.
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
        >>> adversarial = attacks.ifgsm(
        ...     model, test.images, test.labels, eps=8, steps=5, step_size=2
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Kurakin, Goodfellow, Bengio: Adversarial Examples in the Physical World, 2016.
    """
    del seed
    return run_attack(
        model,
        images,
        labels,
        eps,
        GradientAscent(norm_order(norm)),
        [AttackRun(steps)],
        step_size=step_size,
        early_stop=early_stop,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )


def pgd(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    loss: str = "cross_entropy",
    norm: str = "linf",
    center: str = "image",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Projected gradient descent: like `ifgsm`, from random points of the ball.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range; None for 1, as in the
            In-ResNet paper, or 2.5 eps / steps for `"l2"`.
        restarts: number of random starts. Of several examples of an image, a
            misclassified one is returned, and among these the one of highest loss.
        loss: the loss to maximise: `"cross_entropy"`, or `"margin"`, the largest other
            logit minus the true one, which has gradients where the former vanishes.
        norm: `"linf"` or `"l2"`.
        center: what the steps are projected around: the `"image"`, or the random
            `"start"`, as in the official script of In-ResNet, so that perturbations
            reach 2 eps.
        seed: seed of the random starts, which are uniform in the ball.
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
        >>> adversarial = attacks.pgd(
        ...     model, test.images, test.labels, eps=8, steps=5, step_size=2, restarts=2
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Madry et al.: Towards Deep Learning Models Resistant to Adversarial Attacks,
        ICLR 2018.
    """
    for name, value, valid in (
        ("center", center, ("image", "start")),
        ("loss", loss, ("cross_entropy", "margin")),
    ):
        if value not in valid:
            raise ValueError(
                f"`{name}` must be {' or '.join(map(repr, valid))}. Received: "
                f"{name}={value!r}"
            )
    return run_attack(
        model,
        images,
        labels,
        eps,
        GradientAscent(norm_order(norm), loss, random=True, center=center),
        restart_runs(restarts, last_step=steps),
        step_size=step_size,
        seed=seed,
        early_stop=early_stop,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )


def mim(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    decay: float = 1.0,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Momentum iterative method (MI-FGSM): like `ifgsm`, with momentum.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range; None for 1, as in the
            In-ResNet paper, or 2.5 eps / steps for `"l2"`.
        decay: decay of the momentum, in [0, 1].
        norm: `"linf"` or `"l2"`.
        seed: unused, since nothing is random.
        early_stop: whether an image leaves the batch as soon as it is misclassified,
            even before the first step.
        batch_size: number of images attacked at a time.
        ids: unused, since nothing is random.
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
        >>> adversarial = attacks.mim(
        ...     model, test.images, test.labels, eps=8, steps=5, step_size=2, decay=0.9
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Dong et al.: Boosting Adversarial Attacks with Momentum, CVPR 2018.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"`decay` must be in [0, 1]. Received: decay={decay}")
    del seed
    return run_attack(
        model,
        images,
        labels,
        eps,
        GradientAscent(norm_order(norm), momentum=float(decay)),
        [AttackRun(steps)],
        step_size=step_size,
        early_stop=early_stop,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )
