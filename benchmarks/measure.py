"""Shared by the benchmarks: interleaved timing, ratios and goals, the machine."""

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from inres_tf import progress

# The introduction of every document, after its title and command.
METHOD = """Medians of {rounds} rounds in which the variants take turns. A ratio is the
median of the ratios of the rounds, followed by their quartiles. The machine is shared,
so the ratios are more reliable than the times."""


def compare(
    functions: dict[str, Callable[[], object]], rounds: int, label: str
) -> dict[str, list[float]]:
    """Times several functions, which take turns, after one warm-up call of each.

    Args:
        functions: functions without arguments by name.
        rounds: number of rounds. Each times every function once, in random order.
        label: label of the progress bar.

    Returns:
        The seconds of each function, one value per round.
    """
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in progress.bar(range(rounds), label, "round"):
        for name in random.sample(list(functions), len(functions)):
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(
    numerators: Sequence[float], denominators: Sequence[float], scale: float = 1.0
) -> list[float]:
    """Ratios of two lists of seconds, round by round, multiplied by `scale`."""
    pairs = zip(numerators, denominators, strict=True)
    return [scale * above / below for above, below in pairs]


def verdict(
    values: Sequence[float], goal: float | None = None, at_least: bool = False
) -> str:
    """Formats the median of several ratios, whether it met its goal, and the quartiles.

    Args:
        values: the ratios.
        goal: an upper bound of the median; None for no goal.
        at_least: whether the goal is a lower bound instead.
    """
    value = statistics.median(values)
    low, high = np.quantile(values, [0.25, 0.75])
    outcome = ""
    if goal is not None:
        met = value >= goal if at_least else value <= goal
        bound = "at least" if at_least else "at most"
        outcome = f" ({'met' if met else 'missed'}: {bound} {goal:g})"
    return f"{value:.3f}{outcome} {low:.2f}-{high:.2f}"


def machine() -> str:
    """The processor, its cores and the versions of TensorFlow and Keras."""
    name = "unknown processor"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":")[1].strip()
                for line in file
                if line.startswith("model name")
            ]
        name = names[0] if names else name
    gpus = len(tf.config.list_physical_devices("GPU"))
    return (
        f"{name}, {os.cpu_count()} logical cores, {gpus} GPUs; TensorFlow "
        f"{tf.__version__}, Keras {keras.__version__}"
    )


def write(text: str, path: str | None) -> None:
    """Prints a document, and writes it to a file if a path is given."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    print(text)
