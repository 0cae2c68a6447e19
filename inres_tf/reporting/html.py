"""Reports of comparisons: tables as markdown, plots as PNGs, both as one HTML page."""

import base64
import functools
import html
import io
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

from inres_tf import markdown as md
from inres_tf import plotting
from inres_tf.files import write_text
from inres_tf.layers import dead_blocks
from inres_tf.reporting import plots, tables
from inres_tf.reporting.comparison import Comparison
from inres_tf.reporting.measurements import CLEAN
from inres_tf.training.plots import rates_by_depth, training_curves

_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --back: #fff; --line: #dde1e6;
        --soft: #f3f5f7; --warn: #fff3d6; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --back: #16181b; --line: #3a3f45; --soft: #23272b;
          --warn: #453a1c; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto;
       padding: 1rem; color: var(--text); background: var(--back);
       overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
.scroll { overflow-x: auto; max-width: 100%; background:
    linear-gradient(to left, var(--back) 1rem, transparent 2rem) right / 2rem 100%
      no-repeat local,
    linear-gradient(to left, #8889, transparent) right / 1rem 100% no-repeat; }
.long { max-height: 40rem; overflow-y: auto; }
.long th { position: sticky; top: 0; z-index: 1; }
.long th:first-child { z-index: 2; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th { background: var(--soft); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; }
td:first-child { background: var(--back); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; }
.warn { background: var(--warn); padding: .6rem .6rem .6rem 2rem; border-radius: 4px; }
.plots, .samples { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots img { flex: 1 1 17rem; min-width: 0; max-width: 25rem; background: #fff;
             border-radius: 4px; }
.plots img.wide { flex-basis: 100%; max-width: 60rem; }
.samples table { font-size: .8rem; line-height: 1.3; }
.samples td { text-align: center; white-space: normal; max-width: 7rem; }
.samples img { display: block; width: 5.5rem; margin: 0 auto .2rem;
               image-rendering: pixelated; }
@media (max-width: 40rem) {
  dl { display: block; } dd { margin: 0 0 .5rem; }
  th, td { padding: .3rem .4rem; font-size: .85rem; }
  td:first-child, th:first-child { white-space: normal; min-width: 5.5rem; }
  .samples img { width: 4rem; }
}
"""

_NOTE = (
    "A single network's accuracy is shown with Wilson's 95% confidence interval, which "
    "reflects the choice of test images; that of several seeds with their standard "
    "deviation. Plots show the same as bands. Worst: the share of images that are "
    "classified correctly both unattacked and under every attack within that ball, "
    "with ε in 1/255."
)
_NOTE_ON_DIFFERENCES = (
    "Points: accuracy minus the baseline's. Better and worse on: number of images with "
    "more, or fewer, correct answers than the baseline. p: exact McNemar test of these "
    "two numbers, and adjusted by Holm's method for all tests of the table. The tests "
    "are about these networks, not about others trained the same way."
)


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
        facts: facts shown above the tables, by name.
        comparisons: the comparisons, as `inres_tf.reporting.compare` returns them.
        histories: rows of `metrics.jsonl` by model, to plot training curves.

    Returns:
        Path of the report.
    """
    folder = pathlib.Path(folder)
    for number, comparison in enumerate(comparisons, start=1):
        suffix = f"_{number}" if len(comparisons) > 1 else ""
        for name, (_, draw, panels) in _drawings(comparison).items():
            plotting.save(draw(panels), folder / f"{name}{suffix}.png")
    if histories:
        plotting.save(training_curves(histories), folder / "training_curves.png")
    write_text(folder / f"{stem}.md", markdown(title, facts, comparisons))
    path = folder / "report.html"
    write_text(path, page(title, facts, comparisons, histories))
    return path


def facts_of(comparisons: list[Comparison]) -> dict[str, str]:
    """Data, machine, versions and code of the results, by name."""
    facts = {"data": "; ".join(c.title for c in comparisons)}
    values: dict[str, dict[str, list[str]]] = {}
    for comparison in comparisons:
        for model, runs in comparison.models.items():
            for run in runs:
                versions = run.result.get("versions") or {}
                recorded = {
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
        f"{model} {dead_blocks(rates)} of {len(rates)}"
        for comparison in comparisons
        for model, rates in _rates(comparison).items()
        if rates
    ]
    if dead:
        facts["damped blocks with λ = 0"] = ", ".join(dead)
    return facts


def markdown(title: str, facts: dict[str, str], comparisons: list[Comparison]) -> str:
    """The tables as a markdown document, with the arguments of `write`."""
    parts = [f"# {title}", "\n".join(f"- {k}: {v}" for k, v in facts.items())]
    for comparison in comparisons:
        if len(comparisons) > 1:
            parts.append(f"# {comparison.title}")
        first, *others = tables.comparison(comparison).items()
        parts += [f"## {first[0]}", md.table(*first[1]), _NOTE]
        for heading, lines in _warnings(comparison).items():
            parts += [f"## {heading}", "\n".join(f"- {line}" for line in lines)]
        for heading, table in others:
            parts += [f"## {heading}", md.table(*table)]
        if comparison.differences:
            parts.append(_NOTE_ON_DIFFERENCES)
    return "\n\n".join(parts) + "\n"


def page(
    title: str,
    facts: dict[str, str],
    comparisons: list[Comparison],
    histories: dict[str, list[dict]] | None = None,
) -> str:
    """The report as one self-contained HTML page, with the arguments of `write`."""
    body = [f"<h1>{html.escape(title)}</h1>", "<dl>"]
    for key, value in facts.items():
        body.append(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>")
    body.append("</dl>")
    for comparison in comparisons:
        if len(comparisons) > 1:
            body.append(f"<h2>{html.escape(comparison.title)}</h2>")
        body += _sections(comparison)
    if histories:
        body += [
            "<h2>Training</h2>",
            _images("Training", [training_curves(histories)], "wide"),
        ]
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _rates(comparison) -> dict[str, dict[str, float]]:
    """λ by layer of each model's first run; nan where it is not finite."""
    rates = {
        model: runs[0].result.get("lambda", {})
        for model, runs in comparison.models.items()
    }
    return {
        model: {k: math.nan if v is None else v for k, v in by_layer.items()}
        for model, by_layer in rates.items()
    }


def _drawings(comparison) -> dict[str, tuple[str, Callable, dict]]:
    """The plots of a comparison by file name: heading, function of panels, panels."""
    models = list(comparison.models)
    drawings: dict[str, tuple[str, Callable, dict]] = {}
    for name, heading, groups, xlabel in (
        ("accuracy_over_eps", "Accuracy over ε", ("worst", "attack"), "ε (1/255)"),
        ("accuracy_over_severity", "Accuracy over severity", ("severity",), "severity"),
    ):
        curves: dict[str, Any] = {}
        for group in groups:
            curves |= comparison.curves(group)
        if curves:
            draw = functools.partial(plots.accuracy_over, xlabel=xlabel, models=models)
            drawings[name] = heading, draw, curves
    certified = comparison.curves("certified_curve")
    if certified:
        attacked: dict[str, Any] = {}
        for curve, by_model in comparison.curves("certificate").items():
            attacked |= by_model if curve.startswith("attacked") else {}
        draw = functools.partial(plots.certified_over, attacked=attacked, models=models)
        heading = "Certified accuracy over radius"
        drawings["certified_over_radius"] = heading, draw, certified
    panels = {}
    for column in comparison.columns:
        if column.group == "worst":
            cells = {
                model: (comparison.cell(model, CLEAN), comparison.cell(model, column))
                for model in models
            }
            title = comparison.label(column)
            panels[title] = {model: pair for model, pair in cells.items() if all(pair)}
    if panels:
        draw = functools.partial(plots.trade_off, models=models)
        drawings["trade_off"] = "Worst case over clean accuracy", draw, panels
    rates = _rates(comparison)
    if any(rates.values()):
        draw_rates = lambda panels: rates_by_depth(panels["λ"])
        drawings["lambda_by_depth"] = "λ by depth", draw_rates, {"λ": rates}
    return drawings


def _warnings(comparison) -> dict[str, list[str]]:
    """Warnings and notes by heading, without empty lists."""
    listed = {"Warnings": comparison.raised, "Notes": comparison.notes}
    return {heading: lines for heading, lines in listed.items() if lines}


def _sections(comparison) -> list[str]:
    """HTML of one comparison: tables, warnings, plots, samples."""
    first, *others = tables.comparison(comparison).items()
    body = [f"<h2>{html.escape(first[0])}</h2>", _table(*first[1])]
    body.append(f"<p>{html.escape(_NOTE)}</p>")
    for heading, lines in _warnings(comparison).items():
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        body.append(f'<h3>{heading}</h3><ul class="warn">{items}</ul>')
    for heading, table in others:
        body += [f"<h2>{html.escape(heading)}</h2>", _table(*table)]
    if comparison.differences:
        body.append(f"<p>{html.escape(_NOTE_ON_DIFFERENCES)}</p>")
    for heading, draw, panels in _drawings(comparison).values():
        # One figure per panel, so that narrow screens show them below each other.
        figures = [draw({name: panel}) for name, panel in panels.items()]
        body += [f"<h2>{heading}</h2>", _images(heading, figures)]
    return body + _samples(comparison)


def _table(header, rows) -> str:
    """An HTML table in a scrollable box."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
        for row in rows
    )
    kind = "scroll long" if len(rows) > 30 else "scroll"
    return (
        f'<div class="{kind}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _images(alt: str, figures, kind: str = "panel") -> str:
    """Figures as inline SVG images, side by side where they fit."""
    images = []
    for figure in figures:
        file = io.BytesIO()
        figure.savefig(file, format="svg")
        data = base64.b64encode(file.getvalue()).decode()
        images.append(
            f'<img class="{kind}" alt="{alt}" src="data:image/svg+xml;base64,{data}">'
        )
    return f'<div class="plots">{"".join(images)}</div>'


def _samples(comparison) -> list[str]:
    """Adversarial examples of each model's first run."""
    by_model = []
    for model, runs in comparison.models.items():
        result = runs[0].result
        rows = "".join(_sample(s, result) for s in result.get("samples", []))
        if rows:
            heads = "<th>attack</th><th>clean</th><th>adversarial</th>"
            by_model.append(
                f'<div class="scroll"><h3>{html.escape(model)}</h3><table><thead><tr>'
                f"{heads}<th>perturbation</th></tr></thead><tbody>{rows}</tbody>"
                "</table></div>"
            )
    if not by_model:
        return []
    return [
        "<h2>Adversarial examples</h2><p>Perturbations are shown around grey, scaled "
        "by their largest value, which is given below them in 1/255.</p>",
        f'<div class="samples">{"".join(by_model)}</div>',
    ]


def _sample(sample, result) -> str:
    """One adversarial example as a row of its model's table."""
    classes = result.get("class_names") or []

    def name(label):
        return classes[label] if 0 <= label < len(classes) else label

    norm = sample["norm"].replace("linf", "L∞").replace("l", "L")
    captions = {
        "clean": f"label {name(sample['label'])}",
        "adversarial": f"predicted {name(sample['predicted'])}",
        "perturbation": f"{sample['largest']:.1f}",
    }
    attack = f"{sample['attack']} {norm} {sample['eps']:g}, image {sample['index']}"
    cells = "".join(
        f'<td><img alt="{kind}" src="data:image/png;base64,{sample[kind]}">'
        f"{html.escape(text)}</td>"
        for kind, text in captions.items()
    )
    return f"<tr><td>{html.escape(attack)}</td>{cells}</tr>"
