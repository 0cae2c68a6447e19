"""Reports of comparisons: tables and plots, as markdown, PNGs and one HTML page."""

import base64
import functools
import html
import io
import pathlib

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
    "A single network's accuracy stands with Wilson's 95% interval, which is about the "
    "choice of test images; that of several seeds with their standard deviation. Plots "
    "have the same as bands. Worst: an image counts if it is classified rightly as it "
    "is and under every attack of that ball, whose ε is in 1/255."
)
_NOTE_ON_DIFFERENCES = (
    "Points of accuracy more than the baseline; on how many images more, or fewer, of "
    "the answers are right; p of the exact McNemar test of these two numbers, alone "
    "and by Holm's method for all tests of the table. The tests are about these "
    "networks, not about others trained alike."
)


def write(
    folder,
    stem: str,
    title: str,
    facts: dict[str, str],
    comparisons: list[Comparison],
    histories: dict[str, list[dict]] | None = None,
) -> pathlib.Path:
    """Writes the tables as markdown, the plots as PNGs and `report.html`.

    Args:
        folder: where to.
        stem: the markdown file's name without suffix.
        title: the heading.
        facts: what was run where, by name.
        comparisons: what `comparison.compare` gives.
        histories: the rows of `metrics.jsonl` by model, for training curves.

    Returns:
        The report's path.
    """
    folder = pathlib.Path(folder)
    for number, found in enumerate(comparisons, start=1):
        end = f"_{number}" if len(comparisons) > 1 else ""
        for name, (_, draw, panels) in _drawings(found).items():
            plotting.save(draw(panels), folder / f"{name}{end}.png")
    if histories:
        plotting.save(training_curves(histories), folder / "training_curves.png")
    write_text(folder / f"{stem}.md", markdown(title, facts, comparisons))
    path = folder / "report.html"
    write_text(path, page(title, facts, comparisons, histories))
    return path


def facts_of(comparisons: list[Comparison]) -> dict[str, str]:
    """What the results say about how they came about, by name."""
    found = {"data": "; ".join(c.title for c in comparisons)}
    values: dict[str, dict[str, list[str]]] = {}
    for comparison in comparisons:
        for model, runs in comparison.models.items():
            for run in runs:
                versions = run.result.get("versions") or {}
                said = {
                    "machine": run.result.get("processor"),
                    "versions": ", ".join(f"{k} {v}" for k, v in versions.items()),
                    "code": run.result.get("git_revision"),
                }
                for key, value in said.items():
                    if value:
                        values.setdefault(key, {}).setdefault(value, []).append(model)
    for key, by_value in values.items():
        listed = [f"{v} ({', '.join(dict.fromkeys(m))})" for v, m in by_value.items()]
        found[key] = "; ".join(by_value if len(by_value) == 1 else listed)
    dead = [
        f"{model} {dead_blocks(rates)} of {len(rates)}"
        for comparison in comparisons
        for model, rates in _rates(comparison).items()
        if rates
    ]
    if dead:
        found["damped blocks with λ = 0"] = ", ".join(dead)
    return found


def markdown(title: str, facts: dict[str, str], comparisons: list[Comparison]) -> str:
    """The tables as a markdown document; see `write`."""
    parts = [f"# {title}", "\n".join(f"- {k}: {v}" for k, v in facts.items())]
    for found in comparisons:
        if len(comparisons) > 1:
            parts.append(f"# {found.title}")
        first, *others = tables.comparison(found).items()
        parts += [f"## {first[0]}", md.table(*first[1]), _NOTE]
        for heading, lines in _warnings(found).items():
            parts += [f"## {heading}", "\n".join(f"- {line}" for line in lines)]
        for heading, table in others:
            parts += [f"## {heading}", md.table(*table)]
        if found.differences:
            parts.append(_NOTE_ON_DIFFERENCES)
    return "\n\n".join(parts) + "\n"


def page(
    title: str,
    facts: dict[str, str],
    comparisons: list[Comparison],
    histories: dict[str, list[dict]] | None = None,
) -> str:
    """The report as one HTML page that needs no other file; see `write`."""
    body = [f"<h1>{html.escape(title)}</h1>", "<dl>"]
    for key, value in facts.items():
        body.append(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>")
    body.append("</dl>")
    for found in comparisons:
        if len(comparisons) > 1:
            body.append(f"<h2>{html.escape(found.title)}</h2>")
        body += _sections(found)
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


def _rates(found) -> dict[str, dict[str, float]]:
    """λ by layer of each model's first run."""
    return {m: runs[0].result.get("lambda", {}) for m, runs in found.models.items()}


def _drawings(found) -> dict[str, tuple]:
    """The plots of a comparison by file name: heading, function of panels, panels."""
    models = list(found.models)
    drawings = {}
    for name, heading, groups, xlabel in (
        ("accuracy_over_eps", "Accuracy over ε", ("worst", "attack"), "ε (1/255)"),
        ("accuracy_over_severity", "Accuracy over severity", ("severity",), "severity"),
    ):
        panels = {}
        for group in groups:
            panels |= found.curves(group)
        if panels:
            draw = functools.partial(plots.accuracy_over, xlabel=xlabel, models=models)
            drawings[name] = heading, draw, panels
    panels = {}
    for column in found.columns:
        if column.group == "worst":
            cells = {m: (found.cell(m, CLEAN), found.cell(m, column)) for m in models}
            panels[found.label(column)] = {m: c for m, c in cells.items() if all(c)}
    if panels:
        draw = functools.partial(plots.trade_off, models=models)
        drawings["trade_off"] = "Worst case over clean accuracy", draw, panels
    rates = _rates(found)
    if any(rates.values()):
        draw = lambda panels: rates_by_depth(panels["λ"])
        drawings["lambda_by_depth"] = "λ by depth", draw, {"λ": rates}
    return drawings


def _warnings(found) -> dict[str, list[str]]:
    """What a reader must be warned of, by heading; empty lists are left out."""
    listed = {"Checks that were raised": found.raised, "Notes": found.notes}
    return {heading: lines for heading, lines in listed.items() if lines}


def _sections(found) -> list[str]:
    """HTML of one comparison: tables, warnings, plots, samples."""
    first, *others = tables.comparison(found).items()
    body = [f"<h2>{html.escape(first[0])}</h2>", _table(*first[1])]
    body.append(f"<p>{html.escape(_NOTE)}</p>")
    for heading, lines in _warnings(found).items():
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        body.append(f'<h3>{heading}</h3><ul class="warn">{items}</ul>')
    for heading, table in others:
        body += [f"<h2>{html.escape(heading)}</h2>", _table(*table)]
    if found.differences:
        body.append(f"<p>{html.escape(_NOTE_ON_DIFFERENCES)}</p>")
    for heading, draw, panels in _drawings(found).values():
        # A figure a panel, so that a phone has them one below the other.
        figures = [draw({name: panel}) for name, panel in panels.items()]
        body += [f"<h2>{heading}</h2>", _images(heading, figures)]
    return body + _samples(found)


def _table(header, rows) -> str:
    """An HTML table in a box of its own in which it scrolls."""
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
    """Figures side by side as far as there is room."""
    found = []
    for figure in figures:
        file = io.BytesIO()
        figure.savefig(file, format="svg")
        data = base64.b64encode(file.getvalue()).decode()
        found.append(
            f'<img class="{kind}" alt="{alt}" src="data:image/svg+xml;base64,{data}">'
        )
    return f'<div class="plots">{"".join(found)}</div>'


def _samples(found) -> list[str]:
    """Adversarial examples of each model's first run."""
    tables_ = []
    for model, runs in found.models.items():
        result = runs[0].result
        rows = "".join(_sample(s, result) for s in result.get("samples", []))
        if rows:
            heads = "<th>attack</th><th>clean</th><th>adversarial</th>"
            tables_.append(
                f'<div class="scroll"><h3>{html.escape(model)}</h3><table><thead><tr>'
                f"{heads}<th>perturbation</th></tr></thead><tbody>{rows}</tbody>"
                "</table></div>"
            )
    if not tables_:
        return []
    return [
        "<h2>Adversarial examples</h2><p>Perturbations are drawn around grey, scaled "
        "to their largest value, which stands below, in 1/255.</p>",
        f'<div class="samples">{"".join(tables_)}</div>',
    ]


def _sample(sample, result) -> str:
    """One adversarial example as a row of its model's table."""
    classes = result.get("class_names") or []

    def name(label):
        return classes[label] if 0 <= label < len(classes) else label

    norm = sample["norm"].replace("linf", "L∞").replace("l", "L")
    said = {
        "clean": f"label {name(sample['label'])}",
        "adversarial": f"taken for {name(sample['predicted'])}",
        "perturbation": f"{sample['largest']:.1f}",
    }
    attack = f"{sample['attack']} {norm} {sample['eps']:g}, image {sample['index']}"
    cells = "".join(
        f'<td><img alt="{kind}" src="data:image/png;base64,{sample[kind]}">'
        f"{html.escape(text)}</td>"
        for kind, text in said.items()
    )
    return f"<tr><td>{html.escape(attack)}</td>{cells}</tr>"
