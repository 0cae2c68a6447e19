"""Schedules of the learning rate and of λ over a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from inres_tf.errors import UserError

if TYPE_CHECKING:
    import keras

SCHEDULES = ("step", "cosine")


def learning_rate(
    schedule: str, peak: float, steps: int, warmup: float = 0.0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Creates the schedule of the learning rate.

    Args:
        schedule: `"step"` as in the paper, which divides the rate by 10 after 1/2 and
            again after 3/4 of the run; or `"cosine"`, which decays it to 0 without
            restarts.
        peak: the highest learning rate.
        steps: number of optimiser steps of the whole run.
        warmup: fraction of the run, in [0, 1), in which the rate first grows linearly
            from 0; for `"cosine"` only.

    Returns:
        The learning rate by optimiser step.

    Reference:
        Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts,
        ICLR 2017.
    """
    import keras  # here, since it is slow and the settings only need the names

    if schedule == "cosine":
        warmup_steps = round(warmup * steps)
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else peak,
            max(1, steps - warmup_steps),
            warmup_target=peak if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    # Keras keeps a value up to and including its boundary.
    boundaries = [max(0, math.ceil(steps * part) - 1) for part in (1 / 2, 3 / 4)]
    values = [peak, peak / 10, peak / 100]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


# No larger λ is useful: 1 - λ is already far below 0.
_LARGEST = 100.0


class LambdaSchedule:
    """λ of all damped blocks by optimiser step, unless it is trained.

    Args:
        text: `"learn"` (trained), `"fixed:V"`, `"linear:A:B"` (from A to B over the
            run) or `"warm:P"` (0, a ResNet, for the first fraction P of the run, then
            trained).
        steps: number of optimiser steps of the whole run.

    Raises:
        UserError: if `text` has another form, or a number is out of range.
    """

    def __init__(self, text: str, steps: int = 1):
        kind, *numbers = text.split(":")
        counts = {"learn": 0, "fixed": 1, "linear": 2, "warm": 1}
        if counts.get(kind) != len(numbers):
            raise UserError(
                "--lambda_schedule must be learn, fixed:V, linear:A:B or warm:P, such "
                f"as linear:0:0.2; got {text!r}"
            )
        self._kind, self._steps = kind, steps
        largest = 1.0 if kind == "warm" else _LARGEST
        self._numbers = [_parse_number(number, largest) for number in numbers]

    def at(self, step: int) -> float | None:
        """Returns λ at an optimiser step, from 0; None if it is trained there."""
        if self._kind == "fixed":
            return self._numbers[0]
        if self._kind == "linear":
            start, end = self._numbers
            return start + (end - start) * min(1.0, step / max(1, self._steps - 1))
        if self._kind == "warm" and step < self._numbers[0] * self._steps:
            return 0.0
        return None

    def constant_for(self, step: int) -> int:
        """Returns the number of steps, from this one, with the same value of `at`."""
        if self._kind == "linear":
            return 1
        if self.at(step) == 0.0 and self._kind == "warm":
            return math.ceil(self._numbers[0] * self._steps) - step
        return 2**31 - 1


def _parse_number(text: str, largest: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= largest:
        raise UserError(
            f"numbers of --lambda_schedule must be from 0 to {largest:g}; got {text!r}"
        )
    return value
