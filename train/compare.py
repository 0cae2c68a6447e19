r"""Compares evaluation results: tables with intervals and tests, plots, a report.

python -m train.compare RUN ... [--baseline=NAME] [--output_dir=comparison]

A RUN is a file of train.evaluate --output, the folder of a run, or a folder with runs
below it, such as that of train.reproduce. NAME=RUN shows it under another name. Runs of
the same name that were trained with different seeds share a row, with mean and standard
deviation. Results on different images or of different protocols are not compared.
"""

import pathlib
import shlex
import sys

from absl import flags

from inres_tf import files, reporting
from inres_tf.errors import UserError
from train import cli


def define_flags() -> None:
    """Defines the flags of this binary."""
    flags.DEFINE_string(
        "baseline",
        None,
        "Name in the tables of the model that the others are compared with; the first "
        "by default.",
    )
    cli.DEFINE_path(
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
        "Accept different images or protocols, with one table for each.",
    )


def main(arguments: list[str]) -> None:
    """Compares the results."""
    if not arguments:
        raise UserError(
            "name at least one RUN: a file of train.evaluate --output or a run's folder"
        )
    folder = pathlib.Path(flags.FLAGS.output_dir)
    runs = reporting.read_measurements(arguments)
    comparisons = reporting.compare(
        runs, flags.FLAGS.baseline, flags.FLAGS.allow_different
    )
    cli.check_writable(folder / "report.html")
    facts = reporting.html.facts_of(comparisons)
    facts["command"] = shlex.join(["python", "-m", "train.compare", *sys.argv[1:]])
    report = reporting.html.write(
        folder, "comparison", flags.FLAGS.title, facts, comparisons
    )
    numbers = {
        "facts": facts,
        "comparisons": [comparison.as_json() for comparison in comparisons],
    }
    files.write_json(folder / "comparison.json", numbers)
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    print(f"report: {report}")


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True)
