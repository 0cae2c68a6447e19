"""What the benchmarks share: taking turns, ratios beside their goals, the machine."""

import os
import random
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from inres_tf import progress

# How every document of figures begins, after its title and command.
METHOD = """Medians of {rounds} rounds in which the things compared take turns; a ratio
is the median of the rounds' ratios, with their quartiles after it. The machine is
shared, so the ratios say more than the times."""


def compare(things: dict, rounds: int, label: str) -> dict[str, list[float]]:
    """Seconds of each of several functions that take turns, after one call of each.

    Args:
        things: functions without arguments by name.
        rounds: how many times each is timed, in an order drawn anew each round.
        label: what the progress bar says.
    """
    for thing in things.values():
        thing()
    seconds = {name: [] for name in things}
    for _ in progress.bar(range(rounds), label, "round"):
        for name in random.sample(list(things), len(things)):
            start = time.perf_counter()
            things[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(above, below, scale=1.0) -> list[float]:
    """Quotients of two lists of as many seconds, round by round, times `scale`."""
    return [scale * a / b for a, b in zip(above, below, strict=True)]


def verdict(values, goal=None, at_least=False) -> str:
    """Median of several ratios, beside its goal if there is one, and the quartiles.

    Args:
        values: the ratios.
        goal: what the median should not exceed; None if nothing was set.
        at_least: whether the goal is what it should reach instead.
    """
    value = statistics.median(values)
    low, high = np.quantile(values, [0.25, 0.75])
    beside = ""
    if goal is not None:
        met = value >= goal if at_least else value <= goal
        bound = "at least" if at_least else "at most"
        beside = f" ({'met' if met else 'missed'}: {bound} {goal:g})"
    return f"{value:.3f}{beside} {low:.2f}-{high:.2f}"


def machine() -> str:
    """The processor, its cores and the versions of TensorFlow and Keras."""
    name = "unknown processor"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [
                x.split(":")[1].strip() for x in file if x.startswith("model name")
            ]
        name = names[0] if names else name
    gpus = len(tf.config.list_physical_devices("GPU"))
    return (
        f"{name}, {os.cpu_count()} logical cores, {gpus} GPUs; TensorFlow "
        f"{tf.__version__}, Keras {keras.__version__}"
    )


def write(text: str, path: str | None) -> None:
    """Prints a document, and writes it to a file if there is a path."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    print(text)
