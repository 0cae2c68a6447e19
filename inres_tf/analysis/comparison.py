"""Analyses of several networks in one figure. Does not load TensorFlow."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from inres_tf.errors import UserError
from inres_tf.plotting import color_cycle, make_axes, plain_logarithm, shared_legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = "analysis.json"
# Settings that must agree, by the analysis whose arrays they determine.
_SETTINGS = {
    "landscape": ("eps", "grid", "direction", "steps", "seed"),
    "lyapunov": ("eps", "steps", "seed"),
}


def is_analysis(folder: str | os.PathLike[str]) -> bool:
    """Returns whether a folder is one that `analyze` wrote."""
    return pathlib.Path(folder, SUMMARY).is_file()


def read(folders: Iterable[str | os.PathLike[str]]) -> dict[str, dict[str, Any]]:
    """Reads analyses that are comparable.

    Args:
        folders: folders that `analyze` wrote, with `--landscape` or `--lyapunov`.

    Returns:
        The arrays of each, `landscape` and `lyapunov` where they exist, by name: that
        of the folder; if some are called the same, that of the folder above it; if
        these are the same too, the path.

    Raises:
        UserError: if a folder holds neither analysis, they are of other images or
            settings, or `analysis.json` is damaged.

    Example:
        >>> from inres_tf.analysis import comparison
        >>> comparison.read([])
        {}
    """
    paths = [pathlib.Path(folder) for folder in folders]
    names = _names(paths)
    found: dict[str, dict[str, Any]] = {}
    settings: dict[str, tuple[pathlib.Path, dict[str, Any]]] = {}
    for name, path in zip(names, paths):
        found[name] = {}
        for analysis, own in _analyses(path).items():
            with np.load(path / f"{analysis}.npz") as arrays:
                found[name][analysis] = dict(arrays)
            first, expected = settings.setdefault(analysis, (path, own))
            for key, value in expected.items():
                if own.get(key, value) != value:
                    raise UserError(
                        f"{path} is not comparable with {first}: {key} is {own[key]} "
                        f"instead of {value}"
                    )
        if not found[name]:
            raise UserError(f"{path} holds neither a landscape nor growth by depth")
    return found


def figure(analyses: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> Figure:
    """Plots analyses of several networks together, in one colour per network.

    Along the attack direction the mean loss and the accuracy, through the blocks the
    median growth of PGD's perturbation and of random signs, and λ by block. A panel is
    left out if no network has its values.

    Args:
        analyses: arrays of the analyses by name of the network, as `read` returns them.
    """
    panels: list[tuple[str, Callable]] = []
    if any("landscape" in arrays for arrays in analyses.values()):
        panels += [("landscape", _loss), ("landscape", _accuracy)]
    depths = [a["lyapunov"] for a in analyses.values() if "lyapunov" in a]
    if depths:
        panels.append(("lyapunov", _growth))
    if any(np.isfinite(_as_trained(arrays, "rates")).any() for arrays in depths):
        panels.append(("lyapunov", _rates))
    drawn, axes = make_axes(len(panels), columns=2)
    for (name, draw), ax in zip(panels, axes):
        for (label, arrays), color in zip(analyses.items(), color_cycle()):
            if name in arrays:
                draw(ax, arrays[name], {"label": label, "color": color})
    shared_legend(drawn, *axes)
    return drawn


def through_blocks(growth: np.ndarray) -> np.ndarray:
    """Growth relative to the first block's input.

    Args:
        growth: result of `inres_tf.analysis.growth`, (..., 1 + blocks).

    Returns:
        Growth divided by its first column; nan where the difference does not reach the
        blocks.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return growth / growth[..., :1]


def _analyses(path):
    """Images and settings of a folder's analyses, by name."""
    file = path / SUMMARY
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        images = {key: summary[key] for key in ("dataset", "num_examples")}
        if "fingerprint" in summary:  # none in older versions
            images["fingerprint"] = summary["fingerprint"]
        return {
            name: images | {key: summary["settings"][key] for key in keys}
            for name, keys in _SETTINGS.items()
            if name in summary["analyses"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error!r}") from error


def _names(paths):
    """Names of the folders; those of their runs, if folders are called the same."""
    full = [pathlib.Path(os.path.abspath(path)) for path in paths]
    for names in ([p.name for p in full], [p.parent.name for p in full]):
        if len(set(names)) == len(names):
            return names
    return list(map(str, paths))


def _along_attack(arrays, key):
    """The mean over the images along the attack direction."""
    middle = len(arrays["steps"]) // 2
    return arrays[key].mean(0, dtype=np.float64)[:, middle]


def _loss(ax, arrays, style):
    ax.plot(arrays["steps"], _along_attack(arrays, "loss"), **style)
    ax.set(xlabel=_attack(arrays), ylabel="cross-entropy (nats)")


def _accuracy(ax, arrays, style):
    ax.plot(arrays["steps"], 100 * _along_attack(arrays, "correct"), **style)
    ax.set(xlabel=_attack(arrays), ylabel="accuracy (%)")


def _attack(arrays):
    return f"attack direction, {arrays['direction']} (1/255)"


def _as_trained(arrays, key):
    """The values in the setting in which λ is as trained."""
    (trained,) = np.isnan(arrays["settings"]).nonzero()[0]
    return arrays[key][trained]


def _growth(ax, arrays, style):
    depth = np.arange(len(arrays["names"]) + 1)
    for key, line in (("growth_pgd", "o-"), ("growth_random", "o:")):
        growth = through_blocks(_as_trained(arrays, key))
        ax.plot(depth, np.median(growth, axis=0), line, ms=3, **style)
        style = style | {"label": None}
    ax.set(xlabel="blocks passed", ylabel="growth of the difference (L2)")
    ax.set_yscale("log")
    plain_logarithm(ax.yaxis)
    ax.locator_params(axis="x", integer=True)
    ax.set_title("solid: PGD, dotted: random signs; medians", fontsize=9)


def _rates(ax, arrays, style):
    rates = _as_trained(arrays, "rates")
    ax.plot(np.arange(1, len(rates) + 1), rates, "o-", ms=3, **style)
    ax.set(xlabel="block", ylabel="λ")
    ax.locator_params(axis="x", integer=True)
    ax.set_title("gaps: blocks that are never damped", fontsize=9)
