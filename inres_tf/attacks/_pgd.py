"""Attacks that climb the cross-entropy by its gradient, with cleverhans' steps.

FGSM, I-FGSM, PGD and MIM are one search: where it starts and whether it has momentum
tells them apart.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.attacks.engine import (
    AttackRun,
    IterativeAttack,
    is_misclassified,
    restart_runs,
    run_attack,
)
from inres_tf.attacks.norms import norm_order


@dataclasses.dataclass(frozen=True)
class GradientAscent(IterativeAttack):
    """Steps up the cross-entropy, projected to the ball.

    Attributes:
        random: whether it starts at a random point of the ball.
        center: what it projects around, the `"image"` or the random `"start"`.
        momentum: the decay of MIM's momentum; None for steps along the gradient.
    """

    random: bool = False
    center: str = "image"
    momentum: float | None = None

    def initialize(self, model_fn, state, params):
        """At the image or a random point of the ball."""
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

    def step(self, model_fn, state, number, params):
        """Takes note of where it is, and goes a step up from there."""
        logits, loss, gradient = value_and_gradient(
            model_fn, state["images"], state["labels"]
        )
        state = self._seen(state, logits, loss)
        if self.momentum is not None:
            mean = tf.reduce_mean(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
            gradient /= tf.maximum(mean, 1e-12)
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

    def finish(self, model_fn, state, params):
        """Takes note of where the last step led."""
        logits = model_fn(state["images"])
        return self._seen(state, logits, losses.cross_entropy(logits, state["labels"]))

    def _seen(self, state, logits, loss):
        """Rows that take note of the images the search is at."""
        return state | {
            "adversarial": geometry.clip_pixels(state["images"]),
            "misclassified": is_misclassified(logits, state["labels"]),
            "score": loss,
        }

    def radius(self, eps):
        """Twice eps around the random start."""
        return eps if self.center == "image" else 2 * eps


def value_and_gradient(model_fn, images, labels, loss_fn=losses.cross_entropy):
    """Logits, the loss of each image and its gradient.

    Args:
        model_fn: function of pixels that gives float32 logits, (batch, classes).
        images: pixels, float32, (batch, height, width, channels).
        labels: the second argument of `loss_fn`.
        loss_fn: function `(logits, labels)` that returns the loss of each image,
            (batch,).

    Returns:
        Logits (batch, classes), losses (batch,) and gradients like `images`.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = model_fn(images)
        loss = loss_fn(logits, labels)
    # Where nothing of the loss depends on the images, as behind a rounding, it is zero.
    zero = tf.UnconnectedGradients.ZERO
    return logits, loss, tape.gradient(loss, images, unconnected_gradients=zero)


def advance(images, gradient, center, eps, step_size, order, clip_first=True):
    """One step of cleverhans' PGD or MIM.

    Args:
        images: where the search is, (batch, height, width, channels).
        gradient: of its loss, like `images`.
        center: what the ball is around, like `images`.
        eps: radius of the ball, in 1/255 of the pixel range.
        step_size: size of a step, in the same units.
        order: the norm's, `np.inf` or 2.
        clip_first: whether values are clipped to the pixel range before the projection
            too, as PGD does and MIM does not.

    Returns:
        Pixels in the ball and in [0, 255], like `images`.
    """
    images += geometry.steepest(gradient, step_size, order)
    if clip_first:
        images = geometry.clip_pixels(images)
    return geometry.project(images, center, eps, order)


def ascend(
    model_fn,
    start,
    center,
    targets,
    eps,
    step_size,
    steps,
    loss_fn=losses.cross_entropy,
):
    """Signed gradient steps up a loss, projected to the ball and the pixel range.

    PGD of cleverhans, with a start and a center of our own. For use within a
    `tf.function`, whose graph is of the same size for any number of steps.

    Args:
        model_fn: as in `value_and_gradient`.
        start: pixels to begin at, float32, (batch, height, width, channels).
        center: pixels that the ball is around, like `start`.
        targets: the second argument of `loss_fn`.
        eps: radius of the L-infinity ball, in 1/255 of the pixel range.
        step_size: size of a step, in the same units.
        steps: number of steps.
        loss_fn: as in `value_and_gradient`.

    Returns:
        Pixels like `start`, in the ball and in [0, 255].
    """
    eps, step_size = tf.cast(eps, tf.float32), tf.cast(step_size, tf.float32)
    adversarial = start
    for _ in tf.range(steps):
        _, _, gradient = value_and_gradient(model_fn, adversarial, targets, loss_fn)
        adversarial = advance(adversarial, gradient, center, eps, step_size, np.inf)
    return adversarial


def fgsm(
    model, images, labels, eps, *, norm="linf", seed=0, early_stop=False, **settings
):
    """Fast gradient sign method: one step of size eps.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `linf`.
        norm: `"linf"` or `"l2"`.
        seed: of all that is drawn, an integer; here nothing is.
        early_stop: whether an image leaves as soon as it is misclassified, before the
            first step too.
        **settings: what every attack takes beside: `batch_size` (256), images attacked
            at a time; `ids`, the images' indices in their data, on which their random
            numbers depend (0, 1, ...); `progress` (""), label of a progress bar.

    Returns:
        Adversarial pixels, float32, of the shape of `images`. Without `early_stop`
        those after the last step, as cleverhans gives them.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is not a number. Logits that are none count as misclassified.

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
        **settings,
    )


def ifgsm(
    model,
    images,
    labels,
    eps,
    *,
    steps=20,
    step_size=1.0,
    norm="linf",
    seed=0,
    early_stop=False,
    **settings,
):
    """Iterative FGSM (BIM): steps from the image, projected to the ball.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range. The default is the
            paper's for `linf`; for `l2` about 2.5 eps / steps is usual.
        norm: as in `fgsm`.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`.
        **settings: as in `fgsm`.

    Returns:
        As `fgsm`.

    Raises:
        As `fgsm`.

    Reference:
        Kurakin, Goodfellow, Bengio: Adversarial Examples in the Physical World, 2016.
    """
    del seed
    settings |= {"step_size": step_size, "early_stop": early_stop}
    attack = GradientAscent(norm_order(norm))
    return run_attack(
        model, images, labels, eps, attack, [AttackRun(steps)], **settings
    )


def pgd(
    model,
    images,
    labels,
    eps,
    *,
    steps=20,
    step_size=1.0,
    restarts=1,
    norm="linf",
    center="image",
    seed=0,
    early_stop=False,
    **settings,
):
    """Projected gradient descent: as `ifgsm`, from a uniform random point of the ball.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range. The default is the
            paper's for `linf`; for `l2` about 2.5 eps / steps is usual.
        restarts: number of random starts. Of several examples one that is misclassified
            is returned, and of those the one of highest loss.
        norm: as in `fgsm`.
        center: what the steps are projected around: the `"image"`, or, as in the
            official script of In-ResNet, the random `"start"`, by which perturbations
            reach 2 eps.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`.
        **settings: as in `fgsm`.

    Returns:
        As `fgsm`.

    Raises:
        As `fgsm`.

    Reference:
        Madry et al.: Towards Deep Learning Models Resistant to Adversarial Attacks,
        ICLR 2018.
    """
    if center not in ("image", "start"):
        raise ValueError(
            f"`center` must be 'image' or 'start'. Received: center={center!r}"
        )
    attack = GradientAscent(norm_order(norm), random=True, center=center)
    runs = restart_runs(restarts, last_step=steps)
    settings |= {"step_size": step_size, "seed": seed, "early_stop": early_stop}
    return run_attack(model, images, labels, eps, attack, runs, **settings)


def mim(
    model,
    images,
    labels,
    eps,
    *,
    steps=20,
    step_size=1.0,
    decay=1.0,
    norm="linf",
    seed=0,
    early_stop=False,
    **settings,
):
    """Momentum iterative method (MI-FGSM): as `ifgsm`, along a sum of past gradients.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range. The default is the
            paper's for `linf`; for `l2` about 2.5 eps / steps is usual.
        decay: of the momentum, in [0, 1].
        norm: as in `fgsm`.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`.
        **settings: as in `fgsm`.

    Returns:
        As `fgsm`.

    Raises:
        As `fgsm`.

    Reference:
        Dong et al.: Boosting Adversarial Attacks with Momentum, CVPR 2018.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"`decay` must be in [0, 1]. Received: decay={decay}")
    del seed
    settings |= {"step_size": step_size, "early_stop": early_stop}
    attack = GradientAscent(norm_order(norm), momentum=float(decay))
    return run_attack(
        model, images, labels, eps, attack, [AttackRun(steps)], **settings
    )
