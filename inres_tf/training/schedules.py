"""What changes over a run by a plan: the learning rate, and λ if it is not trained."""

import math

from inres_tf.errors import UserError

SCHEDULES = ("step", "cosine")


def learning_rate(schedule: str, peak: float, steps: int, warmup: float = 0.0):
    """The learning rate by optimiser step.

    Args:
        schedule: `"step"`, the paper's: a tenth after half of the run, again after 3/4;
            or `"cosine"`, to 0 (Loshchilov & Hutter 2017, without restarts).
        peak: the highest rate.
        steps: optimiser steps of the whole run.
        warmup: part of the run, in [0, 1), in which the rate first grows linearly from
            0; for `"cosine"` only.

    Returns:
        A Keras schedule.
    """
    import keras  # which takes seconds, and the settings need only the names

    if schedule == "cosine":
        rising = round(warmup * steps)
        return keras.optimizers.schedules.CosineDecay(
            0.0 if rising else peak,
            max(1, steps - rising),
            warmup_target=peak if rising else None,
            warmup_steps=rising,
        )
    # Keras keeps a value up to and including its boundary.
    boundaries = [max(0, math.ceil(steps * part) - 1) for part in (1 / 2, 3 / 4)]
    values = [peak, peak / 10, peak / 100]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


# λ beyond it is no damping: 1 - λ is already far below 0.
_LARGEST = 100.0


def _number(text, largest):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= largest:
        raise UserError(
            f"--lambda_schedule takes numbers from 0 to {largest:g} there; got {text!r}"
        )
    return value


class LambdaSchedule:
    """λ of all damped blocks by a plan, or trained.

    Args:
        text: `"learn"`, `"fixed:V"`, `"linear:A:B"` (from A to B over the run) or
            `"warm:P"` (0, a ResNet, for the first part P of the run, then trained).
        steps: optimiser steps of the whole run.

    Raises:
        UserError: if `text` is none of these, or a number is out of range.
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
        self._numbers = [
            _number(n, 1.0 if kind == "warm" else _LARGEST) for n in numbers
        ]

    def at(self, step: int) -> float | None:
        """λ at an optimiser step, from 0; None where it is trained."""
        if self._kind == "fixed":
            return self._numbers[0]
        if self._kind == "linear":
            start, end = self._numbers
            return start + (end - start) * min(1.0, step / max(1, self._steps - 1))
        if self._kind == "warm" and step < self._numbers[0] * self._steps:
            return 0.0
        return None

    def constant_for(self, step: int) -> int:
        """For how many steps, from this one on, `at` returns the same value."""
        if self._kind == "linear":
            return 1
        if self.at(step) == 0.0 and self._kind == "warm":
            return math.ceil(self._numbers[0] * self._steps) - step
        return 2**31 - 1
