"""All analyses of one model: their settings, their files and their table."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import numpy as np

from inres_tf import corruptions as corruption_module
from inres_tf import plots, runs, tables
from inres_tf.analysis import figures
from inres_tf.analysis.blocks import Chain
from inres_tf.analysis.calibration import corrupted_calibration
from inres_tf.analysis.gradients import gradient_norms
from inres_tf.analysis.landscape import DIRECTIONS, landscape
from inres_tf.analysis.lipschitz import lipschitz
from inres_tf.analysis.lyapunov import lyapunov
from inres_tf.attacks import in_float32
from inres_tf.checkpoints import atomic, write_text
from inres_tf.config import setting
from inres_tf.data import Dataset
from inres_tf.errors import UserError
from inres_tf.evaluation import check_fits, check_number
from inres_tf.layers import damping_rates
from inres_tf.logits import check_classifier


@dataclasses.dataclass(frozen=True)
class AnalysisConfig:
    """What to analyse, and how; each field is a flag of `train.analyze`."""

    landscape: bool = setting(True, "The loss around the images.")
    lyapunov: bool = setting(
        True, "Growth of perturbations and local exponents, block by block and by λ."
    )
    lipschitz: bool = setting(
        True, "Local Lipschitz constants of the network, its margin and its blocks."
    )
    gradients: bool = setting(True, "Norms of the input gradients.")
    calibration: bool = setting(True, "Calibration, clean and corrupted.")
    eps: float = setting(
        8.0,
        "How far the landscape reaches, and the radius of the perturbations that grow, "
        "in 1/255 of the pixel range: an L-infinity distance, and with "
        "--direction=gradient the landscape's L2 distance.",
    )
    grid: int = setting(21, "Points along each axis of the landscape, an odd number.")
    direction: str = setting(
        "sign",
        "The landscape's attack direction: the sign of the gradient, the gradient, or "
        "what PGD adds.",
        DIRECTIONS,
    )
    steps: int = setting(20, "Steps of PGD, each of 2.5 eps / steps.")
    rates: tuple[float, ...] = setting(
        (0.0, 0.5, 1.0),
        "λ to set all damped blocks to, beside λ as trained; none for none. Without a "
        "meaning for a network without damped blocks.",
    )
    iterations: int = setting(50, "Most steps of the power iteration.")
    tolerance: float = setting(
        1e-3, "Relative change at which the power iteration ends."
    )
    corruptions: tuple[str, ...] = setting(
        tuple(corruption_module.CORRUPTIONS),
        f"Corruptions, of {', '.join(corruption_module.CORRUPTIONS)}; none for none.",
    )
    severity: int = setting(5, "Severity in the plot of the reliability, 1 to 5.")
    bins: int = setting(15, "Bins of the confidence.")
    num_examples: int = setting(100, "Test images to use, from the first; 0 for all.")
    batch_size: int = setting(100, "Images at a time.")
    seed: int = setting(0, "Seed of random directions, perturbations and noise.")

    def __post_init__(self):
        if not any(getattr(self, name) for name in ANALYSES):
            raise UserError(
                "every analysis is left out; leave on one of "
                f"{', '.join(f'--{name}' for name in ANALYSES)}"
            )
        for name, low, high in (
            ("eps", 1e-3, 255),
            ("grid", 3, 1001),
            ("steps", 1, 10**6),
            ("iterations", 1, 10**6),
            ("tolerance", 0, 1),
            ("severity", 1, 5),
            ("bins", 1, 10**4),
            ("num_examples", 0, 2**31),
            ("batch_size", 1, 2**31),
            ("seed", 0, 2**31 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    f"--{name} must be from {low:g} to {high:g}; got "
                    f"{getattr(self, name):g}"
                )
        if self.grid % 2 == 0:
            raise UserError(
                "--grid must be odd, so that the clean image is its middle; got "
                f"{self.grid}"
            )
        for flag, names, known in (
            ("direction", (self.direction,), DIRECTIONS),
            ("corruptions", self.corruptions, corruption_module.CORRUPTIONS),
        ):
            for name in names:
                if name not in known:
                    raise UserError(
                        f"--{flag} does not know {name!r}; known: {', '.join(known)}"
                    )
        for rate in self.rates:
            if not 0 <= rate <= 1e6:
                raise UserError(f"--rates must be from 0 to 1e+06; got {rate:g}")


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
        plots.save(analysis.figure(result), folder / f"{name}.png")
        found[name] = _plain(result.summary())
    summary = {
        "model": model.name,
        "dataset": dataset.name,
        "num_examples": len(data),
        "settings": dataclasses.asdict(config),
        "lambda": damping_rates(model),
        "analyses": found,
        "versions": runs.versions(),
        "git_revision": runs.git_revision(),
        "processor": runs.processor(),
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
        parts += [f"{ANALYSES[name].title}:", tables.markdown([name, *columns], cells)]
    return "\n\n".join(parts)


def _number(value):
    return "-" if value is None else f"{value:.3g}"
