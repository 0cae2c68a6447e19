"""All analyses of one model: their settings, their files and their table."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import numpy as np

from inres_tf import environment, markdown, plotting
from inres_tf.analysis import figures
from inres_tf.analysis._calibration import corrupted_calibration
from inres_tf.analysis._landscape import landscape
from inres_tf.analysis._lipschitz import lipschitz
from inres_tf.analysis._lyapunov import lyapunov
from inres_tf.analysis.blocks import Chain
from inres_tf.analysis.config import AnalysisConfig
from inres_tf.analysis.gradients import gradient_norms
from inres_tf.data.images import Dataset
from inres_tf.errors import UserError
from inres_tf.evaluation.validation import check_fits, check_number
from inres_tf.files import atomic, write_text
from inres_tf.layers import damping_rates
from inres_tf.models.logits import check_classifier
from inres_tf.models.precision import in_float32


@dataclasses.dataclass(frozen=True)
class Analysis:
    """An analysis by name.

    Attributes:
        function: the analysis, of a model, images and labels.
        settings: those of `AnalysisConfig` that it takes.
        figure: the plot of what it gives.
        title: what its table shows, with units.
        progress: whether it can show a progress bar.
    """

    function: Callable
    settings: tuple[str, ...]
    figure: Callable
    title: str
    progress: bool = True


_ITERATION = ("iterations", "tolerance", "seed")
ANALYSES = {
    "landscape": Analysis(
        landscape,
        ("eps", "grid", "direction", "steps", "seed"),
        figures.landscape,
        "Loss landscape: mean cross-entropy (nats) and accuracy in [0, 1]",
    ),
    "lyapunov": Analysis(
        lyapunov,
        ("eps", "rates", "steps", *_ITERATION),
        figures.lyapunov,
        "Growth of perturbations through the blocks, and log of the blocks' largest "
        "singular values",
    ),
    "lipschitz": Analysis(
        lipschitz,
        _ITERATION,
        figures.lipschitz,
        "Local Lipschitz constants in L2 (logits and margin by 1/255 of the pixel "
        "range), lower bounds of the global ones",
        progress=False,
    ),
    "gradients": Analysis(
        gradient_norms,
        (),
        figures.gradients,
        "Input gradients of the cross-entropy (nats by 1/255 of the pixel range)",
        progress=False,
    ),
    "calibration": Analysis(
        corrupted_calibration,
        ("corruptions", "severity", "bins", "seed"),
        figures.calibration,
        "Calibration: all in [0, 1], but for the Brier score in [0, 2] and nats",
    ),
}


def analyze(
    model, dataset: Dataset, config: AnalysisConfig, output_dir, progress=True
) -> dict:
    """Analyses a model on test images, and writes arrays, plots and numbers.

    Each analysis writes `NAME.npz` and `NAME.png` to the folder as soon as it is done;
    `analysis.json` comes last.

    Args:
        model: functional Keras classifier of pixels in [0, 255].
        dataset: whose test images.
        config: what to analyse.
        output_dir: the folder, made if need be. What it holds of these names is
            replaced.
        progress: whether to show progress bars.

    Returns:
        The dict that `analysis.json` holds: `model`, `dataset`, `num_examples`,
        `settings`, `lambda`, `analyses` (rows of numbers by name; None for one that is
        not finite), `versions`, `git_revision`, `processor` and `seconds`.

    Raises:
        UserError: if the model is no classifier of these images, has no residual blocks
            for `lyapunov`, or there are fewer images than `num_examples`.
    """
    began, folder = time.time(), pathlib.Path(output_dir)
    chosen = [name for name in ANALYSES if getattr(config, name)]
    check_number(config, dataset.test)
    data = dataset.test
    if config.num_examples:
        data = data.take(slice(config.num_examples))
    try:
        check_classifier(model)
        check_fits(model, data)
        if config.lyapunov:
            Chain(model).require()
    except ValueError as error:
        raise UserError(str(error)) from error
    model = in_float32(model)  # once for all
    found = {}
    for name in chosen:
        analysis = ANALYSES[name]
        options = {key: getattr(config, key) for key in analysis.settings}
        if analysis.progress:
            options["progress"] = progress
        result = analysis.function(
            model, data.images, data.labels, batch_size=config.batch_size, **options
        )
        with atomic(folder / f"{name}.npz") as temporary:
            np.savez_compressed(temporary, **result.arrays())
        plotting.save(analysis.figure(result), folder / f"{name}.png")
        found[name] = _plain(result.summary())
    summary = {
        "model": model.name,
        "dataset": dataset.name,
        "num_examples": len(data),
        "settings": dataclasses.asdict(config),
        "lambda": damping_rates(model),
        "analyses": found,
        "versions": environment.versions(),
        "git_revision": environment.git_revision(),
        "processor": environment.processor(),
        "seconds": round(time.time() - began, 1),
    }
    write_text(folder / "analysis.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _plain(rows):
    """Rows of numbers for JSON, which knows neither nan nor infinity."""
    return {
        name: {k: float(v) if np.isfinite(v) else None for k, v in row.items()}
        for name, row in rows.items()
    }


def table(summary: dict) -> str:
    """The numbers of `analyze` as text for a terminal.

    Args:
        summary: what `analyze` gives.
    """
    parts = [
        f"{summary['model']} on {summary['dataset']}: {summary['num_examples']} images"
    ]
    for name, rows in summary["analyses"].items():
        columns = list(next(iter(rows.values())))
        cells = [[row, *(_number(v) for v in by.values())] for row, by in rows.items()]
        parts += [f"{ANALYSES[name].title}:", markdown.table([name, *columns], cells)]
    return "\n\n".join(parts)


def _number(value):
    return "-" if value is None else f"{value:.3g}"
