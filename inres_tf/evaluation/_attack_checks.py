"""Checks of an evaluation's attacks by further attacks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from inres_tf import attacks
from inres_tf.attacks import NonFiniteError, losses, registry
from inres_tf.data.images import Images
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.evaluation import results
from inres_tf.evaluation._findings import Finding, Row, finding, many

if TYPE_CHECKING:
    import keras

    from inres_tf.evaluation.config import EvaluationConfig

# Queries of Square, if no attack without gradients was requested.
QUERIES = 200
# Steps of Auto-PGD on the images that only attacks without gradients fool.
_STEPS = 50


def of_attacks(
    model: keras.Model,
    data: Images,
    rows: Sequence[Row],
    correct: Mapping[str, np.ndarray],
    config: EvaluationConfig,
) -> list[Finding]:
    """Checks the attacks of an evaluation by further attacks on some of its images.

    Args:
        model: float32 Keras classifier of pixels in [0, 255].
        data: images to check, the first of those that were evaluated.
        rows: the `"attacks"` of the result.
        correct: whether each evaluated image is classified correctly, by `"clean"` and
            by the `results.attack_key` of each attack: booleans, (number,).
        config: settings of the evaluation.

    Returns:
        Findings `step_size`, `restarts`, `black_box` and `huge_eps`; none without an
        attack in the norm of `config`.
    """
    number, norm = len(data), config.norm
    balls: dict[float, list[Row]] = {}
    for row in rows:
        if row["norm"] == norm:
            balls.setdefault(row["eps"], []).append(row)
    if not balls:
        return []
    fools = functools.partial(is_fooled, model, data, config)
    robust = {
        eps: robust_images(balls[eps], correct) for eps in sorted(balls, reverse=True)
    }
    # The largest ball in which an image is robust, or else the largest.
    eps = next((e for e, r in robust.items() if r.to_all[:number].any()), max(robust))
    remaining = np.flatnonzero(robust[eps].to_all[:number])
    step_size = config.step_of(eps)
    pgd = functools.partial(fools, attacks.pgd, eps, remaining)
    steps = max(config.steps, 10)
    return [
        _step_size(pgd, eps, step_size, steps, number),
        _restarts(pgd, eps, step_size, steps, number),
        _black_box(robust, fools, eps, remaining, model, number),
        _huge_eps(fools, correct["clean"][:number], data.images.shape, norm, number),
    ]


def is_fooled(
    model: keras.Model,
    data: Images,
    config: EvaluationConfig,
    attack: Callable,
    eps: float,
    indices: np.ndarray,
    **settings: Any,
) -> np.ndarray:
    """Returns which of the images with these indices an attack makes misclassified."""
    if not len(indices):
        return np.zeros(0, bool)
    try:
        adversarial = attack(
            model,
            data.images[indices],
            data.labels[indices],
            eps,
            norm=config.norm,
            seed=config.seed + 1,
            early_stop=True,
            batch_size=config.batch_size,
            ids=indices,
            **settings,
        )
    except NonFiniteError:  # `zero_gradients` reports it
        return np.zeros(len(indices), bool)
    classifier = compiled_classifier(model, config.batch_size)
    return ~classifier.correct(adversarial, data.labels[indices])


def _step_size(pgd, eps, step_size, steps, number):
    """Tries a quarter and four times the step size."""
    sizes = (step_size / 4, min(4 * step_size, 2 * eps))
    counts = {size: int(pgd(step_size=size, steps=steps).sum()) for size in sizes}
    size, count = max(counts.items(), key=lambda item: item[1])
    return finding(
        "step_size",
        many(count, number),
        count / number,
        f"with steps of {size:g}/255 instead of {step_size:g}/255, PGD fools the model "
        f"on {count} more of {number} images at ε = {eps:g}: the attacks were too "
        "weak; use autoattack, or more steps",
    )


def _restarts(pgd, eps, step_size, steps, number):
    """Tries more restarts."""
    count = int(pgd(step_size=step_size, restarts=5, steps=steps).sum())
    return finding(
        "restarts",
        many(count, number),
        count / number,
        f"with five more restarts, PGD fools the model on {count} more of {number} "
        f"images at ε = {eps:g}: the attacks were too weak; use autoattack, or "
        "--restarts",
    )


class Robust(NamedTuple):
    """Which images are robust in a ball.

    Attributes:
        to_all: to all attacks.
        to_white_box: to those that use the model's gradients.
        white_box: whether an attack used the model's gradients.
        black_box: whether an attack did not use them.
    """

    to_all: np.ndarray
    to_white_box: np.ndarray
    white_box: bool
    black_box: bool


def robust_images(rows: Sequence[Row], correct: Mapping[str, np.ndarray]) -> Robust:
    """Returns which images are robust in a ball.

    Args:
        rows: the attacks in this ball.
        correct: whether each image is classified correctly, by key.
    """
    to_white_box = correct["clean"].copy()
    white_box = black_box = False
    for row in rows:
        # AutoAttack is both: what its gradient-based members achieved is recorded.
        of_members = correct.get(results.by_gradients_key(row))
        if of_members is not None:
            to_white_box &= of_members
            white_box |= set(row["after"]) != {"square"}
            black_box |= "square" in row["after"]
        elif _uses_gradients(row):
            to_white_box &= correct[results.attack_key(row)]
            white_box = True
        else:
            black_box = True
    return Robust(results.robust(correct, rows), to_white_box, white_box, black_box)


def _uses_gradients(row: Row) -> bool:
    """Whether an attack uses the model's own gradients, unlike `transfer`."""
    return row["name"] != "transfer" and registry.find(row["name"]).gradients


def _black_box(robust, fools, eps, remaining, model, number):
    """Looks for images that only an attack without gradients makes misclassified."""
    white_box, total = robust[eps].white_box, number
    if robust[eps].black_box:
        missed_by_eps = {
            e: np.flatnonzero(r.to_white_box & ~r.to_all) for e, r in robust.items()
        }
        eps, missed = max(missed_by_eps.items(), key=lambda item: len(item[1]))
        if white_box:
            total = len(robust[eps].to_all)
    else:
        missed = remaining[fools(attacks.square, eps, remaining, queries=QUERIES)]
    # The attacks by gradients, if any, may have been too weak: try a strong one.
    checked = missed[missed < number]
    masked = int(resists_apgd(fools, model, eps, checked).sum())
    count = len(missed) if white_box else masked
    reason = "the gradient-based attacks were too weak: APGD succeeds; use autoattack"
    if masked:
        reason = (
            f"{masked} of {len(checked)} checked ones are robust to APGD too: the "
            "gradients are masked; report the accuracy over all attacks"
        )
    white_box_attacks = "every gradient-based attack" if white_box else "APGD"
    return finding(
        "black_box",
        many(count, total),
        count / total,
        f"{count} images are robust to {white_box_attacks} at ε = {eps:g}, but not to "
        f"an attack without gradients; {reason}",
    )


def resists_apgd(
    fools: Callable[..., np.ndarray],
    model: keras.Model,
    eps: float,
    indices: np.ndarray,
    targets: int = 9,
) -> np.ndarray:
    """Returns which of the images with these indices are robust to Auto-PGD.

    Args:
        fools: `is_fooled` of a model, images and settings.
        model: the model.
        eps: radius of the ball, in 1/255 of the pixel range.
        indices: the images.
        targets: number of target classes to try.
    """
    strong: Callable[..., np.ndarray]
    if losses.classes_of(model) > 3:
        strong = functools.partial(attacks.apgd_dlr, targets=targets)
    else:
        strong = attacks.apgd_ce
    return ~fools(strong, eps, indices, steps=_STEPS)


def _huge_eps(fools, correct, shape, norm, number):
    """Looks for images that are robust in a ball that contains the same grey image."""
    eps = 128.0
    if norm == "l2":
        eps *= float(np.sqrt(np.prod(shape[1:])))
    indices = np.flatnonzero(correct)
    # The margin, since the cross-entropy of saturated logits has no gradient.
    settings = {"steps": 40, "step_size": eps / 8, "loss": "margin"}
    fooled = fools(attacks.pgd, eps, indices, **settings)
    count = int((~fooled).sum())
    return finding(
        "huge_eps",
        many(count, number),
        count / number,
        f"{count} of {number} images are robust to PGD in a ball so large that every "
        f"image can become the same grey (ε = {eps:g}), where the accuracy should "
        "be 0: the gradients are masked",
    )
