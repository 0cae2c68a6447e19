"""Contenders of a benchmark, each in a process of its own, which take turns.

Imports no framework, so that a contender's process holds only its own.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

# Same for all contenders: the C library keeps large blocks instead of returning them to
# the system after every step, which slows PyTorch down.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**26),
}


def answer(run: Callable[[], object]) -> None:
    """Answers each line of stdin with the seconds of one run."""
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


def compare(
    commands: Mapping[str, Sequence[str]], rounds: int, label: str
) -> dict[str, list[float]]:
    """Times contenders, which take turns, after one warm-up run of each.

    Args:
        commands: by name, the arguments of Python that start a contender, which calls
            `answer`.
        rounds: number of rounds. Each times every contender once, in random order.
        label: label of the progress bar.

    Returns:
        The seconds of each contender, one value per round. Those that do not run here
        are left out.
    """
    from inres_tf import progress

    children = {}
    seconds: dict[str, list[float]] = {}
    try:
        for name, arguments in commands.items():
            children[name] = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | ALLOCATOR,
                text=True,
            )
            try:
                _once(children[name])  # one starts after the other
            except (OSError, ValueError):
                continue
            seconds[name] = []
        for _ in progress.bar(range(rounds), label, "round"):
            for name in random.sample(list(seconds), len(seconds)):
                seconds[name].append(_once(children[name]))
    finally:
        for child in children.values():
            child.kill()
            child.communicate()
    return seconds


def _once(child) -> float:
    """Seconds of one run; ValueError if the contender has ended."""
    child.stdin.write("\n")
    child.stdin.flush()
    return float(child.stdout.readline())
