"""Base of the settings dataclasses, whose fields are flags with accepted values."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from inres_tf import files, pixels
from inres_tf.errors import UserError


def config_field(
    default: Any,
    help: str,
    *,
    choices: Iterable[str] | None = None,
    bounds: str | None = None,
    path: bool = False,
    pixels: float | None = None,
) -> Any:
    """A field of a `Config`, which the command-line programs offer as a flag.

    For a tuple, `choices`, `bounds` and `pixels` apply to each item. None is always
    accepted, and choices in any case.

    Args:
        default: default of the flag.
        help: help text of the flag.
        choices: the accepted values, if there are only a few.
        bounds: the interval of accepted numbers in mathematical notation, such as
            `"[0, 1)"` or `"(0, inf)"`.
        path: whether the value may be a path, or `folder:` and a path, in which `~`
            means the home.
        pixels: for a distance in 1/255 of the pixel range, the smallest plausible one.
            A smaller one is warned of, and the flag takes `8/255` for 8.

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
    metadata |= {"path": path, "pixels": pixels}
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
        self._use_listed_choices()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else [value]:
                if item is not None:
                    _check(field, item)
            if field.metadata.get("path") and isinstance(value, str):
                object.__setattr__(self, field.name, files.expand(value))

    def _use_listed_choices(self) -> None:
        """Replaces each choice that is given in another case by the one listed."""
        for field in dataclasses.fields(self):
            value = _in_any_case(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)


def _in_any_case(field: dataclasses.Field, value: Any) -> Any:
    """Returns the choice that a value is in another case, or else the value."""
    if isinstance(value, tuple):
        return tuple(_in_any_case(field, item) for item in value)
    choices = field.metadata.get("choices")
    if choices is None or value in choices or not isinstance(value, str):
        return value
    return next((c for c in choices if c.lower() == value.lower()), value)


def _check(field: dataclasses.Field, value: Any) -> None:
    choices, bounds, least = map(field.metadata.get, ("choices", "bounds", "pixels"))
    if choices is not None and value not in choices:
        raise UserError(
            f"--{field.name} must be one of {', '.join(choices)}; got {value!r}"
        )
    if bounds is not None and value not in bounds:
        shown = f"{value:g}" if isinstance(value, float) else value
        finite = " and finite" if value == math.inf else ""
        raise UserError(f"--{field.name} must be {bounds}{finite}; got {shown}")
    if least is not None:
        pixels.check_distance(field.name, value, least)
