"""AutoAttack: a sequence of parameter-free attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from inres_tf import labels as label_checks
from inres_tf.attacks import losses
from inres_tf.attacks.engine import checked_ids
from inres_tf.attacks.registry import ATTACKS
from inres_tf.attacks.versions import (
    MEMBERS,
    VERSIONS,
    check_version,
    least_classes,
    passes_of,
)
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.models.precision import in_float32

if TYPE_CHECKING:
    import keras


def autoattack(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    version: str = "standard",
    members: Sequence[str] = (),
    steps: int = 100,
    queries: int = 5000,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = True,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
    report: Callable[[str, np.ndarray], None] | None = None,
    state: dict[str, Any] | None = None,
) -> np.ndarray:
    """AutoAttack: each member attacks the images that are still classified correctly.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax;
            `"standard"` needs at least four classes.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        version: `"standard"` (APGD-CE, targeted APGD-DLR, targeted FAB, Square),
            `"plus"` (also the untargeted ones, with five restarts), `"rand"` (APGD with
            20 gradients per step, for randomised networks, whose examples are judged by
            the majority of 20 passes) or `"custom"`.
        members: members of a custom version, keys of
            `inres_tf.attacks.versions.MEMBERS`.
        steps: number of steps of every member except Square.
        queries: number of queries of Square.
        norm: `"linf"` or `"l2"`.
        seed: seed of the random numbers.
        early_stop: whether an image leaves as soon as it is misclassified, even before
            the first step; if not, every member attacks every image with all its steps.
            With `"rand"`, an image leaves only between two members.
        batch_size: number of images attacked at a time.
        ids: indices of the images in their dataset, from which their random numbers
            are derived; 0, 1, ... by default.
        progress: label of a progress bar; empty for none.
        report: called after each member with its name and whether each image is still
            classified correctly, (number,).
        state: dict, empty at first, which holds the state after the last finished
            member. With it, an interrupted call with the same arguments resumes after
            that member.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: the example of the first
        member by which an image is misclassified, or else that of the last member. With
        `"rand"`, the example that is misclassified in the most passes.

    Raises:
        ValueError: if the logits cannot be found, a version or member is unknown or
            needs more classes than the model has, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite. Images with NaN logits count as misclassified.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.autoattack(
        ...     model,
        ...     test.images,
        ...     test.labels,
        ...     eps=8,
        ...     version="custom",
        ...     members=("apgd_ce", "square"),
        ...     steps=5,
        ...     queries=10,
        ...     report=lambda name, correct: print(name, correct.shape),
        ... )
        apgd_ce (4,)
        square (4,)
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, section 6; settings as published.
    """
    check_version(version, members)
    classes, needed = losses.classes_of(model), least_classes(version, members)
    if classes < needed:
        raise ValueError(
            f"version {version!r} of AutoAttack needs {needed} classes and the model "
            f"has {classes}; use version='custom' with members apgd_ce, fab and square"
        )
    chosen = VERSIONS.get(version) or {name: {} for name in members}
    passes = passes_of(version)
    images = np.asarray(images)
    labels = label_checks.checked(labels, len(images), classes)
    ids = checked_ids(ids, len(images))
    state = {} if state is None else state
    after = state.setdefault("after", {})  # whether images are correct, by member
    adversarial = state.setdefault("adversarial", images.astype(np.float32))
    shares = state.setdefault("shares", np.ones(len(images)))
    correct = [np.ones(len(images), bool), *after.values()][-1]
    model = in_float32(model)  # one copy, compiled once, for all members
    for name, extra in chosen.items():
        if name in after:
            continue
        attack, settings = MEMBERS[name]
        budget = {"queries": queries} if name == "square" else {"steps": steps}
        attacked = np.flatnonzero(correct) if early_stop else np.arange(len(images))
        examples = ATTACKS[attack](
            model,
            images[attacked],
            labels[attacked],
            eps,
            norm=norm,
            seed=seed,
            early_stop=early_stop,
            batch_size=batch_size,
            ids=ids[attacked],
            progress=progress and f"{progress} {name}",
            **settings | budget | extra,
        )
        classifier = compiled_classifier(model, batch_size)
        new, old = (
            classifier.shares(examples, labels[attacked], passes),
            shares[attacked],
        )
        replaced = (new <= old) & (old > 0)
        adversarial[attacked[replaced]] = examples[replaced]
        shares[attacked[replaced]] = new[replaced]
        correct = shares > 0.5
        if passes > 1:  # by passes that did not select the examples
            correct = classifier.correct(adversarial, labels, passes)
        after[name] = correct.copy()
        if report:
            report(name, correct.copy())
    return adversarial
