"""L-infinity attacks on pixels, through cleverhans.

Every function takes and gives pixels in [0, 255], with `eps` and `step_size` in the
same units (1/255 of the pixel range), and attacks the true labels. Models are attacked
through their logits, in float32 and evaluation mode; no variable changes. Under the
strategy in scope all devices share each batch.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.utils import clip_eta

from inres_tf.logits import logits_fn
from inres_tf.sharding import compile_rows

# Rounding of float32 pixels when a perturbation is added and taken away again.
_TOLERANCE = 1e-3


class AttackError(RuntimeError):
    """An adversarial example outside its ball or the pixel range: a defect."""


def fgsm(model, images, labels, eps, *, seed=0, batch_size=256):
    """Fast gradient sign method: one step of size eps.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range.
        seed: not used; every attack takes one.
        batch_size: images attacked at a time.

    Returns:
        Adversarial pixels, float32, of the shape of `images`.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range.

    Reference:
        Goodfellow, Shlens, Szegedy: Explaining and Harnessing Adversarial Examples,
        ICLR 2015.
    """
    del seed
    return _run(model, images, labels, eps, batch_size, 1, eps, start=None)


def ifgsm(
    model, images, labels, eps, *, steps=20, step_size=1.0, seed=0, batch_size=256
):
    """Iterative FGSM (BIM): signed steps from the image, projected to the ball.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range.
        seed: not used; every attack takes one.
        batch_size: images attacked at a time.

    Returns:
        As `fgsm`.

    Raises:
        As `fgsm`.

    Reference:
        Kurakin, Goodfellow, Bengio: Adversarial Examples in the Physical World, 2016.
    """
    del seed
    return _run(model, images, labels, eps, batch_size, steps, step_size, start=None)


def pgd(
    model,
    images,
    labels,
    eps,
    *,
    steps=20,
    step_size=1.0,
    center="image",
    seed=0,
    batch_size=256,
):
    """Projected gradient descent: as `ifgsm`, from a uniform random point of the ball.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        steps: number of steps.
        step_size: size of a step, in 1/255 of the pixel range.
        center: what the steps are projected around: the `"image"`, or, as in the
            official script of In-ResNet, the random `"start"`, by which perturbations
            reach 2 eps.
        seed: seed of the random start, or a NumPy generator to draw it from. It
            depends on the image's index in `images` and not on the batch size.
        batch_size: images attacked at a time.

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
    start = np.random.default_rng(seed)
    return _run(model, images, labels, eps, batch_size, steps, step_size, start, center)


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack by name, for evaluations.

    Attributes:
        function: the attack itself.
        iterative: whether it takes `steps` and `step_size`.
        random: whether it starts at random.
    """

    function: Callable
    iterative: bool
    random: bool


ATTACKS = {
    "fgsm": Attack(fgsm, iterative=False, random=False),
    "ifgsm": Attack(ifgsm, iterative=True, random=False),
    "pgd": Attack(pgd, iterative=True, random=True),
}


def _run(
    model, images, labels, eps, batch_size, steps, step_size, start, center="image"
):
    """Attacks all images, a batch at a time; `start` is a NumPy generator or None."""
    for name, value, passed in (
        ("eps", eps, 0 < eps <= 255),
        ("steps", steps, int(steps) == steps and 1 <= steps <= 10**6),
        ("step_size", step_size, 0 < step_size < math.inf),
        ("batch_size", batch_size, batch_size >= 1),
    ):
        if not passed:
            accepted = {"eps": "in (0, 255]", "steps": "from 1 to 1000000"}
            accepted = accepted.get(name, "positive")
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
    attack = _compile(in_float32(model), tf.distribute.get_strategy())
    adversarial = np.empty_like(images)
    for at in range(0, len(images), batch_size):
        clean = images[at : at + batch_size]
        begin = clean
        if start is not None:
            begin = clean + start.uniform(-eps, eps, clean.shape).astype(np.float32)
        middle, radius = (begin, 2 * eps) if center == "start" else (clean, eps)
        if center == "image":
            begin = np.clip(begin, 0, 255)
        result = attack(
            begin, middle, labels[at : at + batch_size], eps, step_size, int(steps)
        )
        check(result, clean, radius)
        adversarial[at : at + batch_size] = result
    return adversarial


# A trace for each model, kept for as many models as one compares at a time.
@functools.lru_cache(maxsize=4)
def _compile(model, strategy):
    del strategy  # the one in scope, for which `compile_rows` compiles
    logits = logits_fn(model)
    images, number = tf.TensorSpec((None, *model.input_shape[1:])), tf.TensorSpec(())
    integers, count = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int32)

    def model_fn(images):
        return logits(images, training=False)

    def attack(start, center, labels, eps, step_size, steps):
        return ascend(model_fn, start, center, labels, eps, step_size, steps)

    # A signature, since every new batch size would trace the network again.
    return compile_rows(attack, [images, images, integers, number, number, count])


def ascend(model_fn, start, center, targets, eps, step_size, steps, loss_fn=None):
    """Signed gradient steps up a loss, projected to the ball and the pixel range.

    PGD of cleverhans, with a start and a center of our own. For use within a
    `tf.function`, whose graph is of the same size for any number of steps.

    Args:
        model_fn: function of pixels that gives float32 logits, (batch, classes).
        start: pixels to begin at, float32, (batch, height, width, channels).
        center: pixels that the ball is around, like `start`.
        targets: what `loss_fn` takes as `labels`.
        eps: radius of the L-infinity ball, in 1/255 of the pixel range.
        step_size: size of a step, in the same units.
        steps: number of steps.
        loss_fn: function of `labels` and `logits` that gives the loss of each image,
            (batch,); by default the cross-entropy of integer labels.

    Returns:
        Pixels like `start`, in the ball and in [0, 255].
    """
    eps, step_size = tf.cast(eps, tf.float32), tf.cast(step_size, tf.float32)
    adversarial = start
    for _ in tf.range(steps):
        adversarial = fast_gradient_method(
            model_fn,
            adversarial,
            step_size,
            np.inf,
            loss_fn=loss_fn,
            clip_min=0.0,
            clip_max=255.0,
            y=targets,
        )
        adversarial = center + clip_eta(adversarial - center, np.inf, eps)
        adversarial = tf.clip_by_value(adversarial, 0.0, 255.0)
    return adversarial


def check(adversarial, images, radius) -> None:
    """Checks that adversarial examples lie in their ball and the pixel range.

    Args:
        adversarial: adversarial pixels, (number, height, width, channels).
        images: the clean pixels.
        radius: of the L-infinity ball, in 1/255 of the pixel range.

    Raises:
        AttackError: if one does not, or is not finite.
    """
    if not np.isfinite(adversarial).all():
        raise AttackError("an adversarial example is not finite")
    if adversarial.size == 0:
        return
    images = np.asarray(images, np.float32)
    distance = np.abs(adversarial - images).max()
    if distance > radius + _TOLERANCE:
        raise AttackError(
            f"an adversarial example lies {distance:g}/255 from its image, outside the "
            f"ball of radius {radius:g}/255"
        )
    if adversarial.min() < 0 or adversarial.max() > 255:
        raise AttackError(
            f"an adversarial example has values from {adversarial.min():g} to "
            f"{adversarial.max():g}, outside the pixel range [0, 255]"
        )


def in_float32(model):
    """The model, or a float32 copy of one that computes in lower precision.

    Half precision gives confident networks input gradients of exactly zero.
    """
    if all(
        layer.compute_dtype == "float32"
        for layer in model._flatten_layers()
        if not isinstance(layer, (keras.Model, keras.layers.InputLayer))
    ):
        return model
    copy = type(model).from_config(_with_policy(model.get_config(), "float32"))
    copy.set_weights(model.get_weights())
    return copy


def _with_policy(config, policy):
    """A model's configuration with every dtype policy in it replaced by another."""
    if isinstance(config, dict):
        return {
            key: policy
            if key == "dtype" and isinstance(value, dict)
            else _with_policy(value, policy)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_with_policy(value, policy) for value in config)
    return config
