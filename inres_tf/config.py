"""Base of the settings dataclasses, whose fields are flags with accepted values."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from inres_tf import files
from inres_tf.errors import UserError


def config_field(
    default: Any,
    help: str,
    *,
    choices: Iterable[str] | None = None,
    bounds: str | None = None,
    path: bool = False,
) -> Any:
    """A field of a `Config`, which the command-line programs offer as a flag.

    For a tuple, `choices` and `bounds` apply to each item. None is always accepted.

    Args:
        default: default of the flag.
        help: help text of the flag.
        choices: the accepted values, if there are only a few.
        bounds: the interval of accepted numbers in mathematical notation, such as
            `"[0, 1)"` or `"(0, inf)"`.
        path: whether the value may be a path, or `folder:` and a path, in which `~`
            means the home.

    Example:
        >>> import dataclasses
        >>> from inres_tf.config import Config, config_field
        >>> @dataclasses.dataclass(frozen=True)
        ... class NoiseConfig(Config):
        ...     scale: float = config_field(0.1, "Scale of noise.", bounds="[0, 1)")
        >>> NoiseConfig(scale=1.0)
        Traceback (most recent call last):
            ...
        inres_tf.errors.UserError: --scale must be in [0, 1); got 1
    """
    metadata: dict[str, Any] = {"help": help, "choices": None, "bounds": None}
    metadata["path"] = path
    if choices is not None:
        metadata["choices"] = tuple(choices)
    if bounds is not None:
        metadata["bounds"] = Bounds(bounds)
    return dataclasses.field(default=default, metadata=metadata)


class Bounds:
    """An interval of numbers.

    Args:
        text: the interval in mathematical notation, such as `"[0, 1)"`. Messages show
            its ends as they are written there.
    """

    def __init__(self, text: str) -> None:
        low, high = text[1:-1].split(", ")
        self.text, self.low, self.high = text, float(low), float(high)
        self.open_low, self.open_high = text[0] == "(", text[-1] == ")"
        self._low, self._high = low, high

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return "positive" if self.open_low else f"at least {self._low}"
        if self.open_low or self.open_high:
            return f"in {self.text}"
        return f"from {self._low} to {self._high}"


@dataclasses.dataclass(frozen=True)
class Config:
    """Base class of all settings: checks each field against its choices and bounds."""

    def __post_init__(self) -> None:
        """Checks the fields, and expands `~` in paths.

        Subclasses extend it to check how fields combine.

        Raises:
            UserError: if a field does not accept its value.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else [value]:
                if item is not None:
                    _check(field, item)
            if field.metadata.get("path") and isinstance(value, str):
                object.__setattr__(self, field.name, files.expand(value))


def _check(field: dataclasses.Field, value: Any) -> None:
    choices, bounds = (field.metadata.get(key) for key in ("choices", "bounds"))
    if choices is not None and value not in choices:
        raise UserError(
            f"--{field.name} must be one of {', '.join(choices)}; got {value!r}"
        )
    if bounds is not None and value not in bounds:
        shown = f"{value:g}" if isinstance(value, float) else value
        raise UserError(f"--{field.name} must be {bounds}; got {shown}")
