"""Contenders of a benchmark, each in a process of its own, which take turns.

Imports no framework, so that a contender's process holds only its own.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence

# The same for all contenders: the C library then keeps large blocks. By default it
# returns them to the system after every step, which slows PyTorch down.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**26),
}


def answer(run: Callable[[], object]) -> None:
    """Answers each line of stdin with the seconds of one run.

    Args:
        run: function without arguments to time.
    """
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


def compare(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    label: str,
    optional: Collection[str] = (),
) -> dict[str, list[float]]:
    """Times contenders, which take turns, after one warm-up run of each.

    Args:
        commands: by name, the arguments of Python that start a contender, which calls
            `answer`.
        rounds: number of rounds. Each times every contender once, in random order.
        label: label of the progress bar.
        optional: names of the contenders that are left out if they do not run here.

    Returns:
        The seconds of each contender, one value per round.

    Raises:
        RuntimeError: if another contender, or one that has run before, ends.
    """
    from inres_tf import progress

    children: dict[str, _Child] = {}
    seconds: dict[str, list[float]] = {}
    try:
        for name, arguments in commands.items():
            children[name] = _Child(name, arguments)
            try:
                children[name].once()  # one starts after the other
            except RuntimeError:
                if name not in optional:
                    raise
            else:
                seconds[name] = []
        for _ in progress.bar(range(rounds), label, "round"):
            for name in random.sample(list(seconds), len(seconds)):
                seconds[name].append(children[name].once())
    finally:
        for child in children.values():
            child.close()
    return seconds


class _Child:
    """A contender's process."""

    def __init__(self, name, arguments):
        self._name = name
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | ALLOCATOR,
            text=True,
        )

    def once(self) -> float:
        """Returns the seconds of one run."""
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            self._process.wait()
            self._errors.seek(0)
            message = self._errors.read()[-2000:]
            raise RuntimeError(f"contender {self._name} ended: {message}") from error

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()
