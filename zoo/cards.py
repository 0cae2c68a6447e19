"""Weights that ship with the package, and the cards that describe them.

Each card is a JSON file in `zoo/weights`, next to its `.weights.h5` file.
`zoo/weights/schema.json` describes its content.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inres_tf import spelling

FOLDER = pathlib.Path(__file__).parent / "weights"
SCHEMA = FOLDER / "schema.json"


@functools.cache
def read_cards(folder: pathlib.Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Reads the cards in a folder, once.

    Args:
        folder: the folder.

    Returns:
        Cards by (model, weights), such as `("in_resnet20", "cifar10")`. Other JSON
        files are skipped.

    Raises:
        ValueError: if a file is not JSON.
    """
    cards = {}
    for path in sorted(folder.glob("[!.]*.json")):  # not those being written
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"The card {path} is damaged: {error}") from error
        if isinstance(card, dict) and {"model", "weights", "file"} <= set(card):
            cards[card["model"], card["weights"]] = card
    return cards


def shipped_cards() -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the package's cards by (model, weights)."""
    return read_cards(FOLDER)


def shipped(model: str) -> list[str]:
    """Returns the names of a model's shipped weights.

    Args:
        model: name of the model, such as `"in_resnet20"`.
    """
    return [weights for name, weights in shipped_cards() if name == model]


def card(model: str, weights: str) -> dict[str, Any]:
    """Returns the card of shipped weights.

    Args:
        model: name of a model, such as `"cpl_tiny"`.
        weights: name of its weights, such as `"mnist"`.

    Returns:
        Dict with `file`, `sha256`, `bytes`, `input_shape`, `classes`, how the network
        was trained (`training`), its accuracies with intervals (`summary`), and the
        results of `train.evaluate` that they come from (`evaluations`).
        `zoo/weights/schema.json` describes all of it.

    Raises:
        ValueError: if there are no such weights; the message lists those that exist.

    Example:
        >>> import zoo
        >>> card = zoo.card("cpl_tiny", "mnist")
        >>> card["input_shape"], card["classes"][:3]
        ([28, 28, 1], ['0', '1', '2'])
    """
    cards = shipped_cards()
    if (model, weights) in cards:
        return copy.deepcopy(cards[model, weights])
    names = shipped(model)
    if names:
        raise ValueError(
            f"There are no weights {weights!r} of {model}: {', '.join(names)} are "
            "shipped."
        )
    close = spelling.similar(model, {name for name, _ in cards})
    hint = f"Did you mean {', '.join(close)}? " if close else ""
    raise ValueError(
        f"No weights of {model!r} are shipped. {hint}zoo.list_models(weights="
        f"{weights!r}) returns the models with such weights."
    )


def models_with(weights: str) -> list[str]:
    """Returns the sorted names of the models that have shipped weights of a name.

    Args:
        weights: name of weights, such as `"cifar10"`.

    Raises:
        ValueError: if no model has such weights.
    """
    models = sorted(model for model, name in shipped_cards() if name == weights)
    if not models:
        known = sorted({name for _, name in shipped_cards()})
        raise ValueError(
            f"No model has weights {weights!r}; there are {', '.join(known) or 'none'}."
        )
    return models


def decode_predictions(
    preds: npt.ArrayLike, weights: str | Sequence[str], top: int = 5
) -> list[list[tuple[str, float]]]:
    """Names the most probable classes of each image.

    Args:
        preds: probabilities or logits, (number, classes).
        weights: name of shipped weights, such as `"cifar10"`; `"imagenet"`, whose
            class names Keras downloads; or the class names, as `model.class_names`.
        top: number of classes to return for each image, at least 1; if there are fewer,
            all are returned.

    Returns:
        For each image, `top` pairs of a class name and its value in `preds`, in
        descending order.

    Raises:
        ValueError: if `preds` has another shape than (number, classes), `top` is not
            positive, or no model has such weights.

    Example:
        >>> import zoo
        >>> zoo.decode_predictions([[0.1, 0.7, 0.2]], ["cat", "dog", "ship"], top=2)
        [[('dog', 0.7), ('ship', 0.2)]]
    """
    if top < 1:
        raise ValueError(f"`top` must be at least 1. Received: top={top}")
    if isinstance(weights, str) and weights == "imagenet":
        return _decode_imagenet(preds, top)
    if isinstance(weights, str):
        classes = card(models_with(weights)[0], weights)["classes"]
    else:
        classes = list(weights)
    values = np.asarray(preds, np.float64)
    if values.ndim != 2 or values.shape[1] != len(classes):
        raise ValueError(
            f"`preds` must have the shape (number, {len(classes)}), one column for "
            f"each class. Received: preds of shape {values.shape}"
        )
    best = np.argsort(-values, axis=1, kind="stable")[:, :top]
    return [
        [(classes[i], float(row[i])) for i in order] for row, order in zip(values, best)
    ]


def _decode_imagenet(preds, top) -> list[list[tuple[str, float]]]:
    from keras.applications import imagenet_utils

    rows = imagenet_utils.decode_predictions(np.asarray(preds), top)
    return [[(name, float(value)) for _, name, value in row] for row in rows]


def file_of(card: dict[str, Any]) -> pathlib.Path:
    """Returns the weights file of a shipped card once its content is checked.

    Args:
        card: the card.

    Raises:
        ValueError: if the file is missing, truncated or has another content than the
            card says.
    """
    path = FOLDER / card["file"]
    what = f"The {card['weights']!r} weights of {card['model']}"
    if not path.is_file():
        raise ValueError(f"{what} are missing: there is no file {path}.")
    content = path.read_bytes()
    if len(content) != card["bytes"]:
        raise ValueError(
            f"{what} are damaged: {path} has {len(content):,} bytes, its card says "
            f"{card['bytes']:,}. Install inres-tf again."
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != card["sha256"]:
        raise ValueError(
            f"{what} are damaged: {path} has the SHA-256 {digest[:16]}…, its card says "
            f"{card['sha256'][:16]}…. Install inres-tf again."
        )
    return path


def check_fit(
    card: dict[str, Any], input_shape: Sequence[int | None], classes: int | None
) -> None:
    """Checks that weights fit a network before they are read.

    Args:
        card: their card.
        input_shape: the network's (height, width, channels); None for any size.
        classes: its number of classes; None without a classifier.

    Raises:
        ValueError: if the classes, the channels or, for a network whose layers depend
            on the size of the images, the shape differs.
    """
    what = f"The {card['weights']!r} weights of {card['model']}"
    needed = tuple(card["input_shape"])
    shape = tuple(input_shape)
    fits = shape == needed if card["fixed_size"] else shape[-1] == needed[-1]
    if not fits:
        part = "images" if card["fixed_size"] else "channels"
        raise ValueError(
            f"{what} are for {part} of input_shape={needed}. Received: "
            f"input_shape={shape}"
        )
    if classes is not None and classes != len(card["classes"]):
        raise ValueError(
            f"{what} are for classes={len(card['classes'])}: pass that, or "
            "include_top=False to add your own classifier. Received: "
            f"classes={classes}"
        )
