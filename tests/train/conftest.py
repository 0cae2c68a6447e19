import pathlib
import subprocess
import sys

import pytest


@pytest.fixture
def process():
    """Function that starts `python -m` in the root folder and returns the process."""
    processes = []

    def start(*arguments, options=(), **kwargs):
        processes.append(
            subprocess.Popen(
                [sys.executable, *options, "-m", *map(str, arguments)],
                cwd=pathlib.Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **kwargs,
            )
        )
        return processes[-1]

    yield start
    for started in processes:
        started.kill()
        started.communicate()
