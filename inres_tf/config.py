"""Frozen dataclasses of settings: each field is a flag that knows what it accepts."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from inres_tf.errors import UserError


def config_field(
    default: Any,
    help: str,
    *,
    choices: Iterable[str] | None = None,
    bounds: str | None = None,
) -> Any:
    """A field of a `Config`, which the command-line programs offer as a flag.

    Args:
        default: the flag's default. None is accepted whatever the bounds.
        help: the flag's help text.
        choices: the values accepted, where they are few.
        bounds: the interval of numbers accepted, in mathematical notation:
            `"[0, 1)"`, `"(0, inf)"`.

    For a field that holds several values, `choices` and `bounds` are those of each.
    """
    metadata = {"help": help, "choices": None, "bounds": None}
    if choices is not None:
        metadata["choices"] = tuple(choices)
    if bounds is not None:
        metadata["bounds"] = Bounds(bounds)
    return dataclasses.field(default=default, metadata=metadata)


class Bounds:
    """An interval of numbers.

    Args:
        text: in mathematical notation, such as `"[0, 1)"`. Integers stay integers in
            messages.
    """

    def __init__(self, text: str):
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
    """Base of all settings: checks every field against its choices and bounds."""

    def __post_init__(self) -> None:
        """Checks the fields; what several have to do with one another comes after.

        Raises:
            UserError: for a value that its field does not accept.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for one in value if isinstance(value, tuple) else [value]:
                if one is not None:
                    _check(field, one)


def _check(field: dataclasses.Field, value: Any) -> None:
    choices, bounds = (field.metadata.get(key) for key in ("choices", "bounds"))
    if choices is not None and value not in choices:
        raise UserError(
            f"--{field.name} must be one of {', '.join(choices)}; got {value!r}"
        )
    if bounds is not None and value not in bounds:
        shown = f"{value:g}" if isinstance(value, float) else value
        raise UserError(f"--{field.name} must be {bounds}; got {shown}")
