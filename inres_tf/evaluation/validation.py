"""Checks that a model, the images and the settings of an evaluation fit together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from inres_tf import attacks, corruptions, pixels
from inres_tf.attacks import registry
from inres_tf.attacks.norms import norm_order
from inres_tf.corruptions import cifar10_c
from inres_tf.corruptions.generate import SEVERITIES
from inres_tf.data.images import Images
from inres_tf.distribution.classifier import compiled_classifier, is_correct
from inres_tf.errors import UserError
from inres_tf.evaluation import results
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.models.logits import check_classifier
from inres_tf.models.preprocessing import SCALINGS

if TYPE_CHECKING:
    import keras


# Number of images that are scaled in several ways.
_SCALED = 100


class _HasNumExamples(Protocol):
    @property
    def num_examples(self) -> int: ...


def check_number(config: _HasNumExamples, data: Images) -> None:
    """Checks that there are enough images.

    Args:
        config: settings with `num_examples`.
        data: the test images.

    Raises:
        UserError: if there are fewer.
    """
    if config.num_examples > len(data):
        raise UserError(
            f"--num_examples={config.num_examples} is more than the {len(data)} test "
            "images"
        )


def check_fits(model: keras.Model, data: Images) -> None:
    """Checks that a model takes images of this shape and has enough classes.

    Args:
        model: Keras image classifier.
        data: labelled images.

    Raises:
        UserError: if it does not.
    """
    pixels.check_images(data.images)
    expected, shape = model.input_shape[1:], data.images.shape[1:]
    if len(expected) != 3 or any(
        size not in (None, actual) for size, actual in zip(expected, shape)
    ):
        raise UserError(
            f"model {model.name} takes images of {_by(expected)}, but the dataset's "
            f"are {_by(shape)}; pass the --dataset or --image_size it was trained on"
        )
    classes, least = model.output_shape[-1], int(data.labels.max()) + 1
    if least > classes:
        raise UserError(
            f"model {model.name} has {classes} classes, but the dataset has at least "
            f"{least}; pass the --dataset it was trained on"
        )


def preprocessing_problem(model: keras.Model, data: Images) -> str:
    """Says whether a model seems to expect other inputs than pixels in [0, 255].

    It does if it classifies far more images correctly once they are scaled, and more
    than if it always answered the most frequent class.

    Args:
        model: Keras image classifier.
        data: labelled images, of which the first are used.

    Returns:
        What was found, naming the flag; empty if it expects pixels.
    """
    data = data.take(slice(_SCALED))
    classifier = compiled_classifier(model, _SCALED)

    def number_correct(scaling):
        logits = classifier.logits(scaling(data.images.astype(np.float32)))
        return int(is_correct(logits, data.labels).sum())

    own = number_correct(SCALINGS["none"])
    # Three standard deviations of a coin, at most.
    margin = 1.5 * math.sqrt(len(data))
    least = max(own, int(np.bincount(data.labels).max())) + margin
    if least >= len(data):
        return ""
    correct = {
        name: number_correct(scaling)
        for name, scaling in SCALINGS.items()
        if scaling.suits(data.images.shape[-1])
    }
    best = max(correct, key=lambda name: correct[name])
    if correct[best] <= least:
        return ""
    return (
        f"model {model.name} classifies {own} of {len(data)} images correctly, and "
        f"{correct[best]} if their pixels are scaled by --preprocessing={best}"
    )


def check_preprocessing(model: keras.Model, data: Images) -> None:
    """Checks that a model expects pixels in [0, 255], if it fits the images at all.

    Raises:
        UserError: if it seems to expect other inputs.
    """
    try:
        check_classifier(model)
        check_fits(model, data)
    except (UserError, ValueError):  # which its evaluation says
        return
    problem = preprocessing_problem(model, data)
    if problem:
        raise UserError(
            f"{problem}: pass that, or --preprocessing=none if it takes pixels in "
            "[0, 255]"
        )


def check_classes(model: keras.Model, config: EvaluationConfig) -> None:
    """Checks that a model has enough classes for every attack.

    Args:
        model: Keras image classifier.
        config: settings with the attacks.

    Raises:
        UserError: if an attack needs more.
    """
    classes = model.output_shape[-1]
    for name in config.attacks:
        needed = registry.find(name).classes(config)
        if needed > classes:
            raise UserError(
                f"--attacks: {name} needs at least {needed} classes, but model "
                f"{model.name} has {classes}; use apgd_ce, fab and square, or "
                "--autoattack with these members"
            )


def check_corrupted_sets(config: EvaluationConfig) -> None:
    """Checks that a folder of corrupted sets has every set that is evaluated.

    Args:
        config: settings of the evaluation.

    Raises:
        UserError: if a file is missing or damaged.
    """
    if config.corruption_source.startswith("folder:"):
        names = corruptions.expand(config.corruptions)
        for name, severity in itertools.product(names, SEVERITIES):
            cifar10_c.load(config.corruption_source, name, severity)


def read_baseline(config: EvaluationConfig, data: Images) -> dict[str, Any]:
    """Reads the result of the baseline and checks that it is comparable.

    Args:
        config: settings of the evaluation, with `baseline`.
        data: the images that are evaluated.

    Returns:
        The result.

    Raises:
        UserError: if it is not a result, or of other images or settings.
    """
    baseline, path = results.read(config.baseline), config.baseline
    expected = {
        "fingerprint": results.fingerprint(data.images, data.labels),
        "protocol": config.protocol,
        "corruption_source": config.corruption_source,
        "seed": config.seed,
    }
    for key, value in expected.items():
        if baseline.get(key) != value:
            raise UserError(
                f"--baseline={path} was evaluated with another {key}: "
                f"{baseline.get(key)} there, {value} here"
            )
    names = corruptions.expand(config.corruptions)
    if not names:
        raise UserError("--baseline needs --corruptions")
    missing = [name for name in names if name not in baseline.get("corruptions", {})]
    if missing:
        raise UserError(f"--baseline={path} lacks {', '.join(missing)}")
    return baseline


def check_examples(
    row: Mapping[str, Any], adversarial: npt.ArrayLike, images: np.ndarray
) -> np.ndarray:
    """Checks the adversarial examples of a user's own attack.

    Args:
        row: the attack, a row of the result.
        adversarial: what it returned.
        images: clean pixels, (number, height, width, channels).

    Returns:
        The adversarial pixels, float32, of the shape of `images`.

    Raises:
        UserError: if they have another shape, or lie outside the ball or the pixel
            range.
    """
    found = np.asarray(adversarial, np.float32)
    if found.shape != images.shape:
        raise UserError(
            f"--attacks={row['name']} must return pixels of the shape of the images, "
            f"{images.shape}; got {found.shape}"
        )
    try:
        attacks.check(found, images, row["eps"], order=norm_order(row["norm"]))
    except attacks.AttackError as error:
        raise UserError(f"--attacks={row['name']}: {error}") from error
    return found


def _by(shape: Sequence[int | None]) -> str:
    """Formats a shape, as in `8x8x1`; `any` stands for None."""
    return "x".join("any" if size is None else str(size) for size in shape)
