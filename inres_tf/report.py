"""The report of a reproduction: tables and plots, as markdown and one HTML file."""

import base64
import html
import io
import statistics

from inres_tf import plots, tables

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto;
       padding: 1rem; color: #1c2024; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #dde1e6;
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; }
code, pre { background: #f3f5f7; border-radius: 4px; }
pre { padding: .8rem; overflow-x: auto; }
"""


def figures(results: dict, histories: dict, rates: dict) -> dict:
    """The plots of a reproduction, by file name without suffix.

    Args:
        results: for each model, its results of `evaluation.evaluate`, one a seed.
        histories: for each model, the rows of `metrics.jsonl` of its first seed.
        rates: for each model, λ by layer of its first seed, as `damping_rates` gives.
    """
    found = {"training_curves": plots.training_curves(histories)}
    first = next(iter(results.values()))[0]

    def clean(model):
        return statistics.fmean(r["clean"]["accuracy"] for r in results[model])

    if first["attacks"]:
        names = list(dict.fromkeys(a["name"] for a in first["attacks"]))
        panels = {}
        for name in names:
            rows = [i for i, a in enumerate(first["attacks"]) if a["name"] == name]
            panels[name] = {
                model: {0.0: clean(model)}
                | {
                    first["attacks"][i]["eps"]: statistics.fmean(
                        r["attacks"][i]["accuracy"] for r in runs
                    )
                    for i in rows
                }
                for model, runs in results.items()
            }
        found["accuracy_over_eps"] = plots.accuracy_over(panels, "ε (1/255)")
    if first["corruptions"]:
        panels = {
            name: {
                model: {0.0: clean(model)}
                | {
                    float(severity): statistics.fmean(
                        r["corruptions"][name][severity] for r in runs
                    )
                    for severity in first["corruptions"][name]
                    if severity != "mean"
                }
                for model, runs in results.items()
            }
            for name in first["corruptions"]
        }
        found["accuracy_over_severity"] = plots.accuracy_over(panels, "severity")
    if any(rates.values()):
        found["lambda_by_depth"] = plots.rates_by_depth(rates)
    return found


_CAPTIONS = {
    "training_curves": "Training curves",
    "accuracy_over_eps": "Accuracy over ε",
    "accuracy_over_severity": "Accuracy over noise severity",
    "lambda_by_depth": "λ by depth",
}


def markdown(title: str, facts: dict[str, str], results: dict) -> str:
    """The tables as a markdown document.

    Args:
        title: its heading.
        facts: what was run where, by name.
        results: as in `figures`.
    """
    parts = [f"# {title}", "\n".join(f"- {k}: {v}" for k, v in facts.items())]
    for heading, table in tables.comparison(results).items():
        parts.append(f"## {heading}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def page(title: str, facts: dict[str, str], results: dict, drawn: dict) -> str:
    """The report as one HTML page that needs no other file.

    Args:
        title: its heading.
        facts: what was run where, by name.
        results: as in `figures`.
        drawn: what `figures` gives.
    """
    body = [f"<h1>{html.escape(title)}</h1>", "<ul>"]
    body += [f"<li>{html.escape(k)}: {html.escape(v)}</li>" for k, v in facts.items()]
    body.append("</ul>")
    for heading, table in tables.comparison(results).items():
        body += [f"<h2>{html.escape(heading)}</h2>", _html_table(table)]
    for name, figure in drawn.items():
        body += [f"<h2>{_CAPTIONS[name]}</h2>", _image(figure, _CAPTIONS[name])]
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _html_table(table: str) -> str:
    lines = [
        [html.escape(cell.strip()) for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    ]
    header = "".join(f"<th>{cell}</th>" for cell in lines[0])
    rows = ("".join(f"<td>{cell}</td>" for cell in line) for line in lines[2:])
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{header}</tr>{body}</table></div>'


def _image(figure, alt: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}">'
