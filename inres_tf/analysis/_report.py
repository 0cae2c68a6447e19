"""The analyses of a model as one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inres_tf import pages

# The heading of each analysis, and what it shows in words, from its rows of numbers, in
# the order of the verdict.
_WORDS = {
    "calibration": (
        "Calibration",
        "Of the clean images {clean[accuracy]:.1%} are classified correctly, at a mean "
        "confidence of {clean[confidence]:.1%}; the expected calibration error is "
        "{clean[ece]:.1%}.",
    ),
    "landscape": (
        "Loss landscape",
        "At the end of the attack direction the accuracy is "
        "{attack direction, +eps[accuracy]:.1%} and the cross-entropy "
        "{attack direction, +eps[loss]:.3g}; at that of the random direction "
        "{random direction, +eps[accuracy]:.1%} and "
        "{random direction, +eps[loss]:.3g}.",
    ),
    "lyapunov": (
        "Growth by depth",
        "Through all blocks PGD's perturbation grows to "
        "{λ as trained[median growth, PGD]:.3g} times its size, and random signs to "
        "{λ as trained[median growth, random]:.3g} times (medians).",
    ),
    "lipschitz": (
        "Lipschitz constants",
        "The local Lipschitz constant of the logits reaches {logits[max]:.3g} per "
        "1/255 (median {logits[median]:.3g}): the global one is at least that.",
    ),
    "gradients": (
        "Input gradients",
        "{share of zeros[mean]:.1%} of the entries of the input gradients are exactly "
        "0; many of them would mask the gradient from attacks.",
    ),
    "continuous": (
        "Continuous time",
        "The logits are {network[mean distance]:.3g} (relative) from those of the "
        "network in continuous time; the classes agree on {network[agreement]:.1%} of "
        "the images.",
    ),
}


def page(
    summary: Mapping[str, Any],
    titles: Mapping[str, str],
    plots: Mapping[str, pages.Plot],
) -> str:
    """The page.

    Args:
        summary: the content of `analysis.json`, as `analyze` returns it.
        titles: title of each analysis.
        plots: its plot.
    """
    analyses = summary["analyses"]
    sections = []
    raised = [check for check in summary["checks"] if check["raised"]]
    if raised:
        lists = [pages.Items(check["name"], [check["message"]]) for check in raised]
        sections.append(pages.Section("warnings", "Warnings", [pages.Warned(lists)]))
    for name, rows in analyses.items():
        header = [name, *next(iter(rows.values()), {})]
        cells = [[row, *map(_cell, numbers.values())] for row, numbers in rows.items()]
        table = pages.Table(titles[name], header, cells)
        long = len(cells) > 12
        shown = pages.Folded(f"All {len(cells)} rows", [table]) if long else table
        blocks = [plots[name], shown]
        sections.append(pages.Section(name, _WORDS[name][0], blocks))
    facts = {
        "data": f"{summary['dataset']}, {summary['num_examples']} images",
        "λ": ", ".join(f"{rate:.3g}" for rate in summary["lambda"].values()),
        "settings": json.dumps(summary["settings"], ensure_ascii=False),
        "versions": ", ".join(f"{k} {v}" for k, v in summary["versions"].items()),
        "code": summary["git_revision"],
        "machine": summary["processor"],
        "duration": f"{summary['seconds']:g} s",
    }
    known = {name: str(value) for name, value in facts.items() if value}
    sections.append(pages.Section("facts", "Facts", [pages.Facts(known)]))
    checks = "1 check warns" if len(raised) == 1 else f"{len(raised)} checks warn"
    return pages.report(
        f"Analysis of {summary['model']}",
        f"{summary['dataset']}, {summary['num_examples']} test images",
        verdict(analyses) or ["Nothing was analysed."],
        sections,
        (f"{checks}: some figures may be misleading", "warnings") if raised else None,
    )


def verdict(analyses: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the analyses show, one sentence each.

    Those whose numbers are undefined are left out.

    Args:
        analyses: rows of numbers by name of the analysis.
    """
    sentences = []
    for name, (_, words) in _WORDS.items():
        try:
            sentences.append(words.format(**analyses[name]))
        except (KeyError, TypeError):  # not run, or None for a number
            continue
    return sentences


def _cell(value) -> pages.Cell:
    if value is None:
        return pages.Cell("–", value=-1.0)
    return pages.Cell(f"{value:.3g}", value=value)
