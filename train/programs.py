"""The command-line programs: their list, and their console commands."""

import ast
import os
import pathlib
import runpy
import sys

# The most used first.
PROGRAMS = (
    "train.train",
    "train.evaluate",
    "train.compare",
    "train.predict",
    "train.export",
    "train.reproduce",
    "train.list",
    "train.plot",
    "train.analyze",
    "train.verify",
    "train.convert",
    "train.publish",
    "zoo.verify",
)


def command_of(program: str) -> str:
    """Returns the console command of a program.

    Args:
        program: its module, such as `train.evaluate`.
    """
    return "inres-" + program.removeprefix("train.").replace(".", "-")


def table(package: str) -> str:
    """Returns the programs of a package, with a line each.

    Args:
        package: `train` or `zoo`.
    """
    rows = [p for p in PROGRAMS if p.startswith(f"{package}.")]
    width = max(map(len, rows))
    lines = [f"  python -m {p.ljust(width)}  {summary_of(p)}" for p in rows]
    return "\n".join(
        [
            f"Programs of {package}; --help explains the flags of each:",
            "",
            *lines,
            "",
            f"As commands that work in any folder: {', '.join(map(command_of, rows))}.",
        ]
    )


def summary_of(program: str) -> str:
    """Returns the first line of the docstring of a program, which is not loaded.

    Args:
        program: its module, such as `train.evaluate`.
    """
    package, name = program.split(".")
    folder = pathlib.Path(__file__).parents[1] / package
    tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
    return str(ast.get_docstring(tree)).splitlines()[0]


def main() -> None:
    """Runs the program that the console command of this process names.

    `python -m train.train` runs a `train.py` of the user's in the working folder
    instead, as Python looks there first. Console commands do not.
    """
    name = pathlib.Path(sys.argv[0]).stem
    (program,) = (p for p in PROGRAMS if command_of(p) == name)
    # Last, for attacks of the user's own: --attacks=MODULE:FUNCTION.
    sys.path.append(os.getcwd())
    runpy.run_module(program, run_name="__main__", alter_sys=True)
