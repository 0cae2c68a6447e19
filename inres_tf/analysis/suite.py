"""Runs all analyses of a model and writes their arrays, plots and tables."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from inres_tf import class_names, digests, environment, markdown, pages, plotting
from inres_tf.analysis import _report, compiled, figures
from inres_tf.analysis._calibration import (
    CorruptedCalibration,
    corrupted_calibration,
)
from inres_tf.analysis._continuous import continuous, require_limit
from inres_tf.analysis._landscape import landscape
from inres_tf.analysis._lipschitz import lipschitz
from inres_tf.analysis._lyapunov import lyapunov
from inres_tf.analysis.blocks import Chain
from inres_tf.analysis.comparison import SUMMARY
from inres_tf.analysis.config import AnalysisConfig
from inres_tf.analysis.gradients import gradient_norms
from inres_tf.attacks.engine import NonFiniteError
from inres_tf.data.images import Dataset
from inres_tf.errors import UserError
from inres_tf.evaluation import checks
from inres_tf.evaluation._findings import finding
from inres_tf.evaluation.validation import check_fits, check_number
from inres_tf.files import atomic, write_json, write_text
from inres_tf.layers import damping_rates
from inres_tf.models.logits import check_classifier
from inres_tf.models.precision import in_float32

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Analysis:
    """An analysis that `analyze` runs.

    Attributes:
        function: function of a model, images and labels.
        settings: names of the `AnalysisConfig` fields that it takes.
        figure: function that plots its result.
        title: title of its table, with units.
        caption: caption of its plot.
        progress: whether it takes `progress`.
    """

    function: Callable
    settings: tuple[str, ...]
    figure: Callable
    title: str
    caption: str
    progress: bool = True


_REPORT = "report.html"
_ITERATION = ("iterations", "tolerance", "seed")
ANALYSES = {
    "landscape": Analysis(
        landscape,
        ("eps", "grid", "direction", "steps", "seed"),
        figures.landscape,
        "Loss landscape: mean cross-entropy (nats) and accuracy in [0, 1]",
        "Mean loss over a plane of the attack direction and a random one",
    ),
    "lyapunov": Analysis(
        lyapunov,
        ("eps", "rates", "steps", *_ITERATION),
        figures.lyapunov,
        "Growth of perturbations through the blocks, and log of the blocks' largest "
        "singular values",
        "Growth of perturbations, exponents and λ by block",
    ),
    "lipschitz": Analysis(
        lipschitz,
        _ITERATION,
        figures.lipschitz,
        "Local Lipschitz constants in L2 (logits and margin per 1/255 of the pixel "
        "range), lower bounds of the global ones",
        "Local Lipschitz constants of the images, and by block",
        progress=False,
    ),
    "gradients": Analysis(
        gradient_norms,
        (),
        figures.gradients,
        "Input gradients of the cross-entropy (nats per 1/255 of the pixel range)",
        "Norms of the input gradients, and how many of their entries are 0",
        progress=False,
    ),
    "calibration": Analysis(
        corrupted_calibration,
        ("corruptions", "severity", "bins", "seed"),
        figures.calibration,
        "Calibration: in [0, 1], except brier in [0, 2] and nll in nats",
        "Accuracy by confidence, and both by severity of the corruptions",
    ),
    "continuous": Analysis(
        continuous,
        ("solvers", "solver_steps"),
        figures.continuous,
        "Distance of the logits to the network in continuous time, relative; agreement "
        "with its classes and accuracy in [0, 1]; observed order of convergence",
        "Distance to the network in continuous time, by steps of the solvers",
    ),
}


def analyze(
    model: keras.Model,
    dataset: Dataset,
    config: AnalysisConfig,
    output_dir: str | os.PathLike[str],
    progress: bool = True,
) -> dict:
    """Analyses a model on test images and writes arrays, plots and numbers.

    Each analysis writes `NAME.npz` and `NAME.png` to the folder as soon as it is done;
    `analysis.json` and `report.html` are written last.

    Args:
        model: functional Keras classifier of pixels in [0, 255].
        dataset: the data set, of which the test images are used.
        config: which analyses to run, and their settings.
        output_dir: folder to write to, created if missing. Existing files of these
            names are replaced.
        progress: whether to show progress bars.

    Returns:
        The content of `analysis.json`: `model`, `dataset`, `num_examples`, `settings`,
        `lambda`, `class_names`, `analyses` (rows of numbers by name, None for
        non-finite ones), `checks` (whether outputs or weights are not finite, and
        the analyses that this prevented),
        `versions`, `git_revision`, `processor` and `seconds`.

    Raises:
        UserError: if the model is not a classifier of these images or has no residual
            blocks for `lyapunov` or `continuous`, or if there are fewer images than
            `num_examples`.

    Example:
        >>> from inres_tf import analysis, data
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> config = analysis.AnalysisConfig(
        ...     landscape=False, lyapunov=False, lipschitz=False, calibration=False,
        ...     num_examples=2)
        >>> summary = analysis.analyze(
        ...     model, data.load("digits"), config, "analysis", progress=False)
        >>> list(summary["analyses"]["gradients"])
        ['L1 norm', 'L2 norm', 'L∞ norm', 'share of zeros']
    """
    start, folder = time.time(), pathlib.Path(output_dir)
    chosen = [name for name in ANALYSES if getattr(config, name)]
    check_number(config, dataset.test)
    data = dataset.test
    if config.num_examples:
        data = data.take(slice(config.num_examples))
    class_names.check_dataset(model, dataset)
    try:
        check_classifier(model)
        check_fits(model, data)
        if config.lyapunov:
            Chain(model).require()
        if config.continuous:
            require_limit(model)
    except ValueError as error:
        raise UserError(str(error)) from error
    model = in_float32(model)  # once for all analyses
    # Until all is written, the folder holds no comparable analysis.
    for name in (SUMMARY, _REPORT):
        (folder / name).unlink(missing_ok=True)
    logits = compiled.logits(model, data.images.astype(np.float32), config.batch_size)
    non_finite = {"clean": int((~np.isfinite(logits).all(-1)).sum())}
    analyses, plots, failed = {}, {}, []
    for name in chosen:
        analysis = ANALYSES[name]
        options = {key: getattr(config, key) for key in analysis.settings}
        if analysis.progress:
            options["progress"] = progress
        try:
            result = analysis.function(
                model, data.images, data.labels, batch_size=config.batch_size, **options
            )
        except NonFiniteError as error:  # gradients that are not finite
            failed.append(finding(name, True, None, str(error)))
            continue
        with atomic(folder / f"{name}.npz") as temporary:
            np.savez_compressed(temporary, **result.arrays())
        figure = analysis.figure(result)
        plotting.save(figure, folder / f"{name}.png")
        plots[name] = pages.plot(figure, f"{name}-plot", analysis.caption)
        analyses[name] = _plain(result.summary())
        if isinstance(result, CorruptedCalibration):
            non_finite |= {key: c.non_finite for key, c in result.sets().items()}
    summary = {
        "model": model.name,
        "dataset": dataset.name,
        "num_examples": len(data),
        "fingerprint": digests.fingerprint(data.images, data.labels),
        "settings": dataclasses.asdict(config),
        "lambda": damping_rates(model),
        "class_names": list(dataset.class_names),
        "analyses": analyses,
        "checks": [
            checks.of_outputs(non_finite, len(data), model.get_weights()),
            *failed,
        ],
        **environment.describe(),
        "seconds": round(time.time() - start, 1),
    }
    write_json(folder / SUMMARY, summary)
    titles = {name: ANALYSES[name].title for name in analyses}
    write_text(folder / _REPORT, _report.page(summary, titles, plots))
    return summary


def _plain(rows):
    """Rows of numbers for JSON, with None for non-finite ones."""
    return {
        name: {k: float(v) if np.isfinite(v) else None for k, v in row.items()}
        for name, row in rows.items()
    }


def table(summary: dict) -> str:
    """The numbers of an analysis as text for a terminal.

    Args:
        summary: the dict that `analyze` returns.

    Example:
        >>> from inres_tf import analysis
        >>> summary = {
        ...     "model": "in_resnet8", "dataset": "digits", "num_examples": 2,
        ...     "analyses": {"gradients": {"L1 norm": {"mean": 0.125, "max": 0.5}}}}
        >>> print(analysis.table(summary))
        in_resnet8 on digits: 2 images
        <BLANKLINE>
        Input gradients of the cross-entropy (nats per 1/255 of the pixel range):
        <BLANKLINE>
        | gradients | mean  | max |
        |-----------|-------|-----|
        | L1 norm   | 0.125 | 0.5 |
    """
    parts = [
        f"{summary['model']} on {summary['dataset']}: {summary['num_examples']} images"
    ]
    for name, rows in summary["analyses"].items():
        columns = list(next(iter(rows.values())))
        cells = [[row, *(_number(v) for v in by.values())] for row, by in rows.items()]
        parts += [f"{ANALYSES[name].title}:", markdown.table([name, *columns], cells)]
    parts += [
        f"{check['name']}: {check['message']}"
        for check in summary.get("checks", [])
        if check["raised"]
    ]
    return "\n\n".join(parts)


def _number(value):
    return "-" if value is None else f"{value:.3g}"
