"""Models of the binaries, by name or by file, with one-line errors."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

import inres_tf
import zoo
from inres_tf import evaluation, spelling, training
from inres_tf.errors import UserError
from zoo import cards, weight_files

if TYPE_CHECKING:
    import keras

    from inres_tf.data.images import Dataset


def check(name: str, flag: str = "--model") -> None:
    """Checks that the zoo has a model.

    Args:
        name: name of the model.
        flag: flag that it is the value of.

    Raises:
        UserError: if the model is unknown; the message suggests similar names.
    """
    known = zoo.list_models()
    if name not in known:
        raise UserError(
            f"{flag} must name a model of the zoo, such as in_resnet20; got {name!r}: "
            f"{spelling.did_you_mean(name, known)}python -m train.list lists them all"
        )


def builder(
    name: str, **kwargs: Any
) -> Callable[[tuple[int, int, int], int], keras.Model]:
    """Returns a function (input shape, classes) that builds a model of the zoo.

    Args:
        name: name of the model.
        **kwargs: other arguments of the constructor.

    Returns:
        Function that raises `UserError` if the constructor raises `ValueError`.
    """

    def build(shape, classes):
        try:
            return zoo.get_model(name, input_shape=shape, classes=classes, **kwargs)
        except ValueError as error:
            raise UserError(str(error)) from error

    return build


def initial(
    name: str, weights: str | None
) -> Callable[[tuple[int, int, int], int], keras.Model]:
    """Returns a function (input shape, classes) that builds a model to train.

    Args:
        name: name of the model.
        weights: None for random weights, the name of shipped weights, a file, or the
            folder of a run. A classifier for another number of classes stays random.

    Raises:
        UserError: if there are no such weights. The returned function raises it if they
            do not fit the model.
    """
    if not weights:
        return builder(name)
    if os.path.isdir(weights) and weights not in cards.shipped(name):
        weights = str(training.checkpoints.find_model(weights, "--weights"))
    saved = _saved_classes(name, weights)

    def build(shape, classes):
        if saved == classes:
            model = builder(name, weights=weights)(shape, classes)
            inres_tf.models.check_weights(model)
            return model
        model = builder(name)(shape, classes)
        body = builder(name, weights=weights, include_top=False)(shape, classes)
        for layer in body.layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
        inres_tf.models.check_weights(model)
        return model

    return build


def from_checkpoint(
    path: str | os.PathLike[str], flag: str = "--checkpoint"
) -> keras.Model:
    """Loads the model of a run, a checkpoint or a `.keras` file.

    Args:
        path: the path.
        flag: flag that it is the value of.

    Raises:
        UserError: if there is no such model.
    """
    file = training.checkpoints.find_model(path, flag)
    return training.checkpoints.load_model(file, compiled=False)


def surrogate(text: str | None, dataset: Dataset) -> keras.Model | None:
    """Loads the model that --transfer_from names; None without one.

    Args:
        text: path of a run, a checkpoint or a `.keras` file, or MODEL:WEIGHTS, such as
            `"resnet20:cifar10"`, for shipped weights.
        dataset: dataset whose image shape and classes a model of the zoo is built for.

    Raises:
        UserError: if there is no such model.
    """
    if not text:
        return None
    name, weights = shipped_name(text)
    if not weights:
        return from_checkpoint(text, "--transfer_from")
    check(name, "--transfer_from")
    if weights not in (known := cards.shipped(name)):
        ending = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(
            f"--transfer_from: {name} has no shipped weights {weights!r}; {ending}"
        )
    shape, classes = dataset.shape, len(dataset.class_names)
    return builder(name, weights=weights)(shape, classes)


def shipped_name(text: str) -> tuple[str, str]:
    """Splits MODEL:WEIGHTS; for a path, the second part is empty."""
    match = re.fullmatch(r"(\w+):(\w+)", text)
    if not match or os.path.exists(text):
        return text, ""
    return match[1], match[2]


def from_flags(dataset: Dataset | None = None) -> keras.Model:
    """Loads the model selected by --checkpoint, or by --model and --weights.

    The modules of --import are imported first. With --solver, its neural ODEs are
    solved by another method; with --preprocessing, it scales pixels in [0, 255].

    Args:
        dataset: dataset whose image shape and classes a model of the zoo is built for,
            and whose test images tell whether the model expects other inputs than
            pixels; None for its default image shape and the classes of --weights.

    Raises:
        UserError: if the flags select no model or two, it cannot be loaded, --solver or
            --preprocessing does not apply to it, or it seems to need --preprocessing.
    """
    from inres_tf.models import custom_objects

    values = flags.FLAGS
    custom_objects.import_modules(values["import"].value or ())
    model = selected(dataset)
    if values.solver:
        model = _solved(model, values.solver)
    if values.preprocessing:
        model = _scaled(model, values.preprocessing)
    elif dataset is not None:
        evaluation.validation.check_preprocessing(model, dataset.test)
    return model


def _solved(model, solver) -> keras.Model:
    from inres_tf.models import with_solver

    try:
        swapped = with_solver(model, solver_settings(solver))
    except ValueError as error:
        raise UserError(f"--solver={solver}: {error}") from error
    # Results of several solvers are not those of one model.
    swapped.name = f"{model.name}-{solver.replace(':', '-')}"
    return swapped


def _scaled(model, name) -> keras.Model:
    from inres_tf.models import with_preprocessing

    try:
        return with_preprocessing(model, name)
    except ValueError as error:
        raise UserError(f"--preprocessing={name}: {error}") from error


def solver_settings(text: str) -> dict[str, Any]:
    """Returns the settings of a solver that a flag names.

    Args:
        text: the name of a method, alone, with the number of its fixed steps, or with
            the tolerance of an adaptive method: `"rk4:16"`, `"dopri5:1e-5"`.

    Raises:
        ValueError: if there is no such method, or it does not take what follows it.
    """
    from inres_tf import solvers

    method, colon, number = text.partition(":")
    settings: dict[str, Any] = {"method": method}
    adaptive = solvers.get(settings).is_adaptive
    kind, example = (float, "1e-5") if adaptive else (int, "16")
    if colon:
        try:
            value = kind(number)
        except ValueError:
            what = "its tolerance" if adaptive else "its number of steps"
            raise ValueError(
                f"{method} must be followed by {what}, such as {method}:{example}; got "
                f"{number!r}"
            ) from None
        settings |= {"rtol": value, "atol": value} if adaptive else {"steps": value}
    return settings


def selected(dataset: Dataset | None = None) -> keras.Model:
    """Loads the model of --checkpoint, or of --model and --weights, as it is.

    Args:
        dataset: as in `from_flags`.

    Raises:
        UserError: if the flags select no model or two, or it cannot be loaded.
    """
    values = flags.FLAGS
    if bool(values.checkpoint) == bool(values.model):
        raise UserError(
            "pass either --checkpoint (a run's --output_dir, a checkpoint or a .keras "
            "file) or --model with --weights"
        )
    if values.checkpoint:
        if values.weights:
            raise UserError(
                "--weights belongs to --model, and does not apply to --checkpoint"
            )
        return from_checkpoint(values.checkpoint)
    check(values.model)
    if not values.weights:
        raise UserError(
            "--model needs --weights, the name of shipped weights or a file"
        )
    card = None
    if values.weights in cards.shipped(values.model):
        card = cards.card(values.model, values.weights)
    if dataset is not None:
        shape, classes = dataset.shape, len(dataset.class_names)
    else:
        shape, classes = _own_shape(values.model, values.weights, card)
    return builder(values.model, weights=values.weights)(shape, classes)


def _own_shape(name, weights, card) -> tuple[tuple[int, int, int], int]:
    """The image shape and number of classes that weights were trained with."""
    if card:
        return tuple(card["input_shape"]), len(card["classes"])
    facts = zoo.describe(name)
    classes, shape = _saved_classes(name, weights), facts["input_shape"]
    if weights != "imagenet":
        try:
            saved = weight_files.saved_shape(weight_files.resolve(name, weights))
        except ValueError as error:
            raise UserError(str(error)) from error
        if saved:
            # A file of another rank of inputs does not fit, as its loading says.
            shape = tuple(side or own for side, own in zip(saved, shape))
        else:
            size = "x".join(map(str, shape))
            print(
                f"{weights} does not record its image size: assuming {size}; "
                "use --checkpoint with a file that does",
                file=sys.stderr,
            )
    return shape, classes or facts["classes"]


def _saved_classes(name, weights) -> int | None:
    """The number of classes of the classifier in weights, if they have one."""
    if weights == "imagenet" and "imagenet" in zoo.describe(name)["weights"]:
        return None
    try:
        return weight_files.saved_classes(weight_files.resolve(name, weights))
    except ValueError as error:
        raise UserError(str(error)) from error
