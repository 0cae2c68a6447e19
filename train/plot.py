r"""Plots the metrics of runs, finished or not, or several analyses together.

Arguments are RUNs: the folder of a run, its metrics.jsonl, or a folder with runs below
it, such as that of train.reproduce; by default the folder runs. Each run has a colour.
The plots show loss and accuracy, learning rate, images per second, the number of damped
blocks with λ = 0, and λ of each damped block. Folders of train.analyze instead show the
loss and the accuracy along the attack, the growth of perturbations and λ by depth.

    python -m train.plot runs/resnet20 runs/in_resnet20 --output=metrics.svg
    python -m train.plot runs/resnet20/analysis runs/in_resnet20/analysis
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from inres_tf import files, plotting, training
from inres_tf.analysis import comparison
from inres_tf.errors import UserError
from train import cli

GROUPS = {"output": "output"}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.DEFINE_path(
        "output",
        None,
        "A .png or .svg file; by default metrics.png in the folder of the RUN, or in "
        "the working directory if there are several; analyses.png for analyses.",
    )


def output_of(paths: Sequence[str], name: str) -> pathlib.Path:
    """Returns the default of --output.

    Args:
        paths: the arguments.
        name: name of the plot without its suffix.
    """
    if len(paths) > 1:
        return pathlib.Path(f"{name}.png")
    (path,) = map(pathlib.Path, paths)
    return path.with_suffix(".png") if path.is_file() else path / f"{name}.png"


def main(paths: list[str]) -> None:
    """Plots the metrics of the runs, or the analyses together."""
    paths = [files.expand(path) for path in paths] or ["runs"]
    analyses = [path for path in paths if comparison.is_analysis(path)]
    name = "analyses" if analyses else "metrics"
    output = pathlib.Path(flags.FLAGS.output or output_of(paths, name))
    if output.suffix not in (".png", ".svg"):
        raise UserError(f"--output must end in .png or .svg; got {output}")
    if not analyses:
        histories = training.metrics_log.find(paths)
        figure = training.plots.training_curves(histories, everything=True)
    elif len(analyses) == len(paths):
        figure = comparison.figure(comparison.read(paths))
    else:
        (other, *_) = (path for path in paths if path not in analyses)
        raise UserError(
            f"{analyses[0]} is an analysis but {other} is not; plot either analyses or "
            "runs"
        )
    cli.check_writable(output)
    plotting.save(figure, output)
    print(output)


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True, tensorflow=False, groups=GROUPS)
