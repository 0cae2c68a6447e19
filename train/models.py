"""Models by name, for the binaries: the zoo's constructors with users' errors."""

import difflib

from absl import flags

import zoo
from inres_tf import training
from inres_tf.errors import UserError
from zoo import weight_files


def check(name: str, flag: str = "--model") -> None:
    """Raises UserError, naming close ones, if the zoo has no model of this name."""
    known = zoo.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise UserError(
            f"there is no model {name!r} in the zoo; {flag} takes "
            f"{', '.join([*(close or ['in_resnet20']), '...'])} "
            "(python -m train.list shows all)"
        )


def builder(name: str, **kwargs):
    """A function of (input shape, classes) that builds a model of the zoo."""

    def build(shape, classes):
        try:
            return zoo.get_model(name, input_shape=shape, classes=classes, **kwargs)
        except ValueError as error:
            raise UserError(str(error)) from error

    return build


def from_checkpoint(path):
    """The model of a run, a checkpoint or a file; None for no path."""
    return path and training.checkpoints.load_model(
        training.checkpoints.find_model(path)
    )


def from_flags(dataset=None):
    """The model that --checkpoint, or --model and --weights, mean.

    Args:
        dataset: whose image shape and classes a model of the zoo is built for; None
            for its usual images and the classes of --weights.

    Raises:
        UserError: if it is neither or both, or cannot be loaded.
    """
    values = flags.FLAGS
    if bool(values.checkpoint) == bool(values.model):
        raise UserError(
            "give either --checkpoint (a run's --output_dir, a checkpoint or a .keras "
            "file) or --model with --weights"
        )
    if values.checkpoint:
        return from_checkpoint(values.checkpoint)
    check(values.model)
    if not values.weights:
        raise UserError(
            "--model needs --weights: the name of shipped weights or a file; a network "
            "of random weights has nothing to evaluate"
        )
    build = builder(values.model, weights=values.weights)
    if dataset is not None:
        return build(dataset.shape, len(dataset.class_names))
    facts, classes = zoo.describe(values.model), None
    if values.weights != "imagenet" or "imagenet" not in facts["weights"]:
        try:
            file = weight_files.resolve(values.model, values.weights)
            classes = weight_files.saved_classes(file)
        except ValueError as error:
            raise UserError(str(error)) from error
    return build(facts["input_shape"], classes or facts["classes"])
