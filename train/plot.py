r"""Plots the metrics of runs, finished or still going on.

python -m train.plot [RUN ...] [--output=FILE]

A RUN is a run's folder, its metrics.jsonl, or a folder with runs somewhere below it, as
train.reproduce leaves; runs by default. One colour a run: loss and accuracy, learning
rate, images per second, how many damped blocks have λ = 0, and λ of each of them.
"""

import pathlib

from absl import flags

from inres_tf import plotting, training
from inres_tf.errors import UserError
from train import cli


def define_flags():
    """Defines the flags of this binary."""
    flags.DEFINE_string(
        "output",
        None,
        "A .png or .svg file; by default metrics.png in the folder of the one RUN, or "
        "here if there are several.",
    )


def output_of(runs) -> pathlib.Path:
    """The default of --output."""
    if len(runs) > 1:
        return pathlib.Path("metrics.png")
    (run,) = map(pathlib.Path, runs)
    return run.with_suffix(".png") if run.is_file() else run / "metrics.png"


def main(runs):
    """Plots as the arguments and flags say."""
    runs = runs or ["runs"]
    output = pathlib.Path(flags.FLAGS.output or output_of(runs))
    if output.suffix not in (".png", ".svg"):
        raise UserError(f"--output={output} must end in .png or .svg")
    found = training.metrics_log.find(runs)
    cli.check_writable(output)
    plotting.save(training.plots.training_curves(found, everything=True), output)
    print(output)


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True, tensorflow=False)
