"""Models by name, for the binaries: the zoo's constructors with users' errors."""

import difflib

import zoo
from inres_tf.errors import UserError


def check(name: str) -> None:
    """Raises UserError, naming close ones, if the zoo has no model of this name."""
    known = zoo.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
        raise UserError(
            f"there is no model {name!r} in the zoo; --model takes "
            f"{', '.join(close)}{'' if close is known else ', ...'}"
        )


def builder(name: str, **kwargs):
    """A function of (input shape, classes) that builds a model of the zoo."""

    def build(shape, classes):
        try:
            return zoo.get_model(name, input_shape=shape, classes=classes, **kwargs)
        except ValueError as error:
            raise UserError(str(error)) from error

    return build
