r"""Compares evaluation results: tables with intervals and tests, plots, a report.

Arguments are RUNs: a RUN is a file of train.evaluate --output, or a folder with
evaluation.json in or below it, such as that of train.reproduce. NAME=RUN shows it under
another name. Runs of the same name that were trained with different seeds share a row,
with mean and standard deviation, and are compared over the seeds. Results on different
images or of different protocols are not compared. --cards prints the leaderboard of the
shipped weights instead, from their cards, with your runs in it, and writes
leaderboard.md and leaderboard.html, a page to sort and filter.

    python -m train.compare resnet20.json in_resnet20.json --baseline=resnet20 \
        --output_dir=comparison
    python -m train.compare --cards result.json
"""

import pathlib
import shlex
import sys

from absl import flags

from inres_tf import files, reporting
from inres_tf.errors import UserError
from inres_tf.training.config import TrainConfig
from train import cli
from zoo import cards

GROUPS = {
    "comparison": "baseline cards allow_different",
    "output": "output_dir title",
}


def define_flags() -> None:
    """Defines the flags of this binary."""
    flags.DEFINE_string(
        "baseline",
        None,
        "Name in the tables of the model that the others are compared with; the first "
        "without damping by default.",
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
    flags.DEFINE_bool(
        "cards", False, "Print the leaderboard of the shipped weights instead."
    )


def main(arguments: list[str]) -> None:
    """Compares the results."""
    folder = pathlib.Path(flags.FLAGS.output_dir)
    if not arguments and not flags.FLAGS.cards:
        raise UserError(
            "name at least one RUN: a file of train.evaluate --output or a run's "
            "folder; or compare the shipped weights with --cards"
        )
    runs = reporting.read_measurements(arguments)
    if flags.FLAGS.cards:
        for name in ("baseline", "title", "allow_different"):
            if flags.FLAGS[name].value != flags.FLAGS[name].default:
                raise UserError(f"--{name} does not apply to --cards")
        cli.check_writable(folder / "leaderboard.html")
        rows = reporting.leaderboard.rank([*shipped(), *_entries(runs)])
        page = reporting.leaderboard.write(folder, rows)
        print((folder / "leaderboard.md").read_text(encoding="utf-8"))
        print(f"page: {page}")
        return
    comparisons = reporting.compare(
        runs, flags.FLAGS.baseline, flags.FLAGS.allow_different
    )
    cli.check_writable(folder / "report.html")
    facts = reporting.html.facts_of(comparisons)
    facts["command"] = shlex.join(["python", "-m", "train.compare", *sys.argv[1:]])
    histories = reporting.html.histories_of(comparisons)
    report = reporting.html.write(
        folder, "comparison", flags.FLAGS.title, facts, comparisons, histories
    )
    numbers = {
        "facts": facts,
        "comparisons": [
            comparison.as_json() | {"verdict": reporting.verdicts.verdict(comparison)}
            for comparison in comparisons
        ],
    }
    files.write_json(folder / "comparison.json", numbers)
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    print(f"report: {report}")


def shipped() -> list[reporting.leaderboard.Entry]:
    """Returns the entries of the shipped weights."""
    return [
        reporting.leaderboard.Entry(
            f"{model} ({weights})",
            reporting.measurements.measure(result, cards.FOLDER / card["file"]),
            card["training"]["command"],
            card["dataset"]["note"],
        )
        for (model, weights), card in cards.shipped_cards().items()
        for result in card["evaluations"]
    ]


def _entries(
    runs: list[reporting.EvaluatedRun],
) -> list[reporting.leaderboard.Entry]:
    """Returns the entries of the user's runs.

    Runs of the same name may be of different networks, so their files tell them apart.
    """
    names = [
        run.name if run.seed is None else f"{run.name}, seed {run.seed}" for run in runs
    ]
    entries = []
    for run, name in zip(runs, names):
        unique = name if names.count(name) == 1 else f"{name} ({run.file})"
        training = ""
        if run.flags is not None:
            values = {**run.flags, "seed": run.seed}
            training = cli.command("train", values, cli.defaults_of(TrainConfig))
        entries.append(reporting.leaderboard.Entry(unique, run, training))
    return entries


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True, groups=GROUPS)
