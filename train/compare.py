r"""Compares results of evaluations: tables with intervals and tests, plots, a report.

python -m train.compare RUN ... [--baseline=NAME] [--output_dir=comparison]

A RUN is a file of train.evaluate --output, a run's folder, or a folder with runs
somewhere below it, as train.reproduce leaves. NAME=RUN gives it another name in tables.
Runs of the same name whose trainings differ in the seed alone make one row: mean and
standard deviation. Results on other images, or of another protocol, are refused.
"""

import json
import pathlib
import shlex
import sys

from absl import flags

from inres_tf import files, reporting
from inres_tf.errors import UserError
from train import cli


def define_flags():
    """Defines the flags of this binary."""
    flags.DEFINE_string(
        "baseline",
        None,
        "The model with which the others are compared, by its name in the tables; the "
        "first by default.",
    )
    flags.DEFINE_string(
        "output_dir",
        "comparison",
        "Folder for comparison.md, comparison.json, report.html and the plots.",
    )
    flags.DEFINE_string(
        "title", "Comparison of robustness", "Heading of the tables and the report."
    )
    flags.DEFINE_bool(
        "allow_different",
        False,
        "Give results on other images or of another protocol tables of their own.",
    )


def main(arguments):
    """Compares as the arguments and flags say."""
    if not arguments:
        raise UserError(
            "name what to compare: files of train.evaluate --output, or runs' folders"
        )
    folder = pathlib.Path(flags.FLAGS.output_dir)
    runs = reporting.read_measurements(arguments)
    found = reporting.compare(runs, flags.FLAGS.baseline, flags.FLAGS.allow_different)
    cli.check_writable(folder / "report.html")
    facts = reporting.html.facts_of(found)
    facts["command"] = shlex.join(["python", "-m", "train.compare", *sys.argv[1:]])
    path = reporting.html.write(folder, "comparison", flags.FLAGS.title, facts, found)
    numbers = {"facts": facts, "comparisons": [one.as_json() for one in found]}
    files.write_text(folder / "comparison.json", json.dumps(numbers, indent=2) + "\n")
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    print(f"report: {path}")


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True, tensorflow=False)
