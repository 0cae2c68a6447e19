r"""Plots the metrics of runs, finished or not.

Arguments are RUNs: the folder of a run, its metrics.jsonl, or a folder with runs below
it, such as that of train.reproduce; by default the folder runs. Each run has a colour.
The plots show loss and accuracy, learning rate, images per second, the number of damped
blocks with λ = 0, and λ of each damped block.

    python -m train.plot runs/in_resnet20
    python -m train.plot runs/resnet20 runs/in_resnet20 --output=metrics.svg
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from inres_tf import plotting, training
from inres_tf.errors import UserError
from train import cli

GROUPS = {"output": "output"}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.DEFINE_path(
        "output",
        None,
        "A .png or .svg file; by default metrics.png in the folder of the RUN, or in "
        "the working directory if there are several.",
    )


def output_of(runs: Sequence[str]) -> pathlib.Path:
    """Returns the default of --output."""
    if len(runs) > 1:
        return pathlib.Path("metrics.png")
    (run,) = map(pathlib.Path, runs)
    return run.with_suffix(".png") if run.is_file() else run / "metrics.png"


def main(runs: list[str]) -> None:
    """Plots the metrics of the runs."""
    runs = runs or ["runs"]
    output = pathlib.Path(flags.FLAGS.output or output_of(runs))
    if output.suffix not in (".png", ".svg"):
        raise UserError(f"--output must end in .png or .svg; got {output}")
    histories = training.metrics_log.find(runs)
    cli.check_writable(output)
    plotting.save(training.plots.training_curves(histories, everything=True), output)
    print(output)


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True, tensorflow=False, groups=GROUPS)
