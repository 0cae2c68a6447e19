"""Reports of comparisons: tables as markdown, plots as PNGs, both as one HTML page."""

import os
import pathlib

from inres_tf import markdown as md
from inres_tf import pages, plotting
from inres_tf.files import write_text
from inres_tf.reporting import _sections, plots, tables, verdicts
from inres_tf.reporting.comparison import Comparison
from inres_tf.training import metrics_log
from inres_tf.training.plots import training_curves
from inres_tf.training.run_folder import METRICS


def write(
    folder: str | os.PathLike[str],
    stem: str,
    title: str,
    facts: dict[str, str],
    comparisons: list[Comparison],
    histories: dict[str, list[dict]] | None = None,
) -> pathlib.Path:
    """Writes the tables as markdown, the plots as PNGs and `report.html`.

    Args:
        folder: folder to write to.
        stem: name of the markdown file, without suffix.
        title: heading of the report.
        facts: facts shown at the end, by name.
        comparisons: the comparisons, as `inres_tf.reporting.compare` returns them.
        histories: rows of `metrics.jsonl` by model, to plot training curves.

    Returns:
        Path of the report.
    """
    folder = pathlib.Path(folder)
    for number, comparison in enumerate(comparisons, start=1):
        suffix = f"_{number}" if len(comparisons) > 1 else ""
        for name, drawing in plots.drawings(comparison).items():
            plotting.save(drawing.figure(), folder / f"{name}{suffix}.png")
    if histories:
        plotting.save(training_curves(histories), folder / "training_curves.png")
    write_text(folder / f"{stem}.md", markdown(title, facts, comparisons))
    path = folder / "report.html"
    write_text(path, page(title, facts, comparisons, histories))
    return path


def facts_of(comparisons: list[Comparison]) -> dict[str, str]:
    """Data, commands, machine, versions and code of the results, by name."""
    facts = {"data": "; ".join(c.title for c in comparisons)}
    values: dict[str, dict[str, list[str]]] = {}
    for comparison in comparisons:
        for model, runs in comparison.models.items():
            for run in runs:
                versions = run.result.get("versions") or {}
                recorded = {
                    "fingerprint of the images": run.result.get("fingerprint"),
                    "evaluation command": run.result.get("command"),
                    "machine": run.result.get("processor"),
                    "versions": ", ".join(f"{k} {v}" for k, v in versions.items()),
                    "code": run.result.get("git_revision"),
                }
                for key, value in recorded.items():
                    if value:
                        values.setdefault(key, {}).setdefault(value, []).append(model)
    for key, by_value in values.items():
        listed = [f"{v} ({', '.join(dict.fromkeys(m))})" for v, m in by_value.items()]
        facts[key] = "; ".join(by_value if len(by_value) == 1 else listed)
    dead = [
        f"{model} {text}"
        for comparison in comparisons
        for model, runs in comparison.models.items()
        if (text := plots.dead_block_counts(runs))
    ]
    if dead:
        facts["damped blocks with λ = 0"] = ", ".join(dead)
    return facts


def markdown(title: str, facts: dict[str, str], comparisons: list[Comparison]) -> str:
    """The tables as a markdown document, with the arguments of `write`."""
    parts = [f"# {title}"]
    for comparison in comparisons:
        if len(comparisons) > 1:
            parts.append(f"# {comparison.title}")
        first, *others = tables.comparison(comparison).items()
        parts += verdicts.verdict(comparison)
        note = f"{_sections.note(comparison)} {_sections.PLOTS}"
        parts += [f"## {first[0]}", md.table(*first[1]), note]
        for heading, lines in _sections.warnings(comparison).items():
            parts += [f"## {heading}", "\n".join(f"- {line}" for line in lines)]
        for heading, table in others:
            parts += [f"## {heading}", md.table(*table)]
        if comparison.differences:
            parts.append(_sections.note_on_differences(comparison))
    parts += ["## Facts", "\n".join(f"- {k}: {v}" for k, v in facts.items())]
    return "\n\n".join(parts) + "\n"


def notes(found: Comparison) -> list[str]:
    """What the accuracies of a comparison mean, and what the differences and tests."""
    differences = [_sections.note_on_differences(found)] if found.differences else []
    return [_sections.note(found), *differences]


def histories_of(comparisons: list[Comparison]) -> dict[str, list[dict]]:
    """Rows of the `metrics.jsonl` beside each model's first result, by model."""
    return {
        model: rows
        for comparison in comparisons
        for model, runs in comparison.models.items()
        if (file := runs[0].file.parent / METRICS).is_file()
        and runs[0].seed is not None
        and (rows := metrics_log.read(file))  # none before the first epoch ends
    }


def page(
    title: str,
    facts: dict[str, str],
    comparisons: list[Comparison],
    histories: dict[str, list[dict]] | None = None,
) -> str:
    """The report as one self-contained HTML page, with the arguments of `write`."""
    verdict, sections = [], []
    raised, alert = 0, None
    for number, comparison in enumerate(comparisons, start=1):
        alone = len(comparisons) == 1
        headline, *more = verdicts.verdict(comparison)
        suffix = "" if alone else f"-{number}"
        raised += len(comparison.raised)
        if raised:
            checks = "1 check warns" if raised == 1 else f"{raised} checks warn"
            anchor = alert[1] if alert else f"warnings{suffix}"
            alert = f"{checks}: some figures may be misleading", anchor
        verdict += [headline if alone else f"{comparison.title}: {headline}", *more]
        sections += _sections.of_comparison(
            comparison,
            suffix=suffix,
            heading="" if alone else f" ({comparison.title})",
        )
    if histories:
        sections.append(_sections.training(histories))
    sections.append(pages.Section("facts", "Facts", [pages.Facts(facts)]))
    subtitle = "; ".join(comparison.title for comparison in comparisons)
    return pages.report(title, subtitle, verdict, sections, alert)
