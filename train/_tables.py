"""Writes the tables of the documents that the zoo and the cards determine.

python -m train._tables
"""

import itertools
import json
import pathlib
import re
from typing import Any

import zoo
from inres_tf import markdown
from inres_tf.evaluation import results
from inres_tf.files import write_text
from inres_tf.reporting import (
    comparison,
    html,
    leaderboard,
    measurements,
    tables,
    verdicts,
)
from train import compare
from train import list as listing

DOCS = pathlib.Path(__file__).parents[1] / "docs"
# The evaluations in docs/claim, by the name of their files.
_CLAIM = {
    "noise": "Noise, all 10,000 images",
    "noise_paper": "Noise, all 10,000 images, normalised by their own statistics",
    "attacks": "Attacks and 18 corruptions, the first 1,000 images",
    "attacks_paper": "Attacks under the protocol of the paper, the first 1,000 images",
    "autoattack": "AutoAttack, the first 100 images",
}
_DEPTHS = (20, 56)
# The columns of the claim's analyses: analysis, row and number in `analysis.json`.
_ANALYSES = {
    "loss at ε": ("landscape", "attack direction, +eps", "loss"),
    "accuracy at ε": ("landscape", "attack direction, +eps", "accuracy"),
    "growth, PGD": ("lyapunov", "λ as trained", "median growth, PGD"),
    "growth, random": ("lyapunov", "λ as trained", "median growth, random"),
    "exponent": ("lyapunov", "λ as trained", "mean exponent"),
    "Lipschitz constant": ("lipschitz", "logits", "median"),
    "gradient, L2": ("gradients", "L2 norm", "median"),
    "ECE": ("calibration", "clean", "ece"),
}


def texts() -> dict[pathlib.Path, str]:
    """Returns the documents with new tables, by path.

    In the README the table of the claim is replaced, in `zoo.md` the table of models,
    in `weights.md` all sections of the third level, in `result_files.md` those of the
    second, in `claim.md` the text after "## The tables"; the leaderboard is written as
    a whole.
    """
    schema = json.loads(results.SCHEMA.read_text(encoding="utf-8"))
    names = zoo.list_models()
    rows = leaderboard.rank(compare.shipped())
    table = r"^\| model .*?(?=\n[^|]|\n\n|\Z)"
    attacks = claimed("attacks", _DEPTHS[0])
    assert attacks is not None
    (_, first), *_ = tables.comparison(attacks).items()
    parts = {
        "../README.md": (table, markdown.table(*first)),
        "zoo.md": (table, listing.table(names)),
        "weights.md": (r"^### .*\Z", listing.shipped(names)),
        "result_files.md": (r"^## .*\Z", keys(schema)),
        "claim.md": (r"^## The tables\n.*\Z", f"## The tables\n\n{claim()}"),
    }
    written = {}
    for name, (pattern, table) in parts.items():
        path = (DOCS / name).resolve()
        text = path.read_text(encoding="utf-8")
        new = re.sub(pattern, lambda _, t=table: t, text, flags=re.S | re.M)  # type: ignore[misc]
        written[path] = new.rstrip("\n") + "\n"
    written[DOCS / "leaderboard.md"] = leaderboard.markdown(rows)
    written[DOCS / "leaderboard.html"] = leaderboard.page(rows)
    return written


def claimed(name: str, depth: int) -> comparison.Comparison | None:
    """Returns the comparison of one kind of the claim's evaluations at one depth."""
    files = sorted((DOCS / "claim").glob(f"*net{depth}_s*/{name}.json"))
    if not files:
        return None
    (found,) = comparison.compare(measurements.read_measurements(files))
    return found


def claim() -> str:
    """Returns the tables of the claim's evaluations, with what they show in words."""
    parts: list[str] = []
    explained: dict[str, list[str]] = {}
    for (name, title), depth in itertools.product(_CLAIM.items(), _DEPTHS):
        found = claimed(name, depth)
        if found is None:
            continue
        rows = [d for d in found.differences if d.column.group in comparison.HEADLINE]
        header, cells = tables.differences(found, rows)
        all_tables = tables.comparison(found)
        by_seed = all_tables.pop(tables.BY_SEED, None)
        accuracies = [
            markdown.table(*table)
            for heading, table in all_tables.items()
            if not heading.startswith("Differences")
        ]
        differences = [[cell.text for cell in row] for row in cells]
        parts += [
            f"### {title}; depth {depth}, {_seeds(found)}",
            " ".join(verdicts.verdict(found)),
            *accuracies,
            f"Differences from {found.baseline} on the same images:",
            markdown.table(header, differences),
        ]
        if by_seed:
            parts += [f"{tables.BY_SEED}:", markdown.table(*by_seed)]
        remarks = [*found.notes, *found.raised]
        if remarks:
            parts.append("\n".join(f"- {remark}" for remark in remarks))
        explained.setdefault(f"depth {depth}, {_seeds(found)}", []).extend(
            html.notes(found)
        )
    notes = []
    for networks, found_notes in explained.items():
        # Without those that others contain.
        kept = [
            text
            for text in dict.fromkeys(found_notes)
            if not any(text != other and text in other for other in found_notes)
        ]
        notes += [f"**For {networks}.** {kept[0]}", *kept[1:]]
    return "\n\n".join([*notes, *parts, *analyses()])


def _seeds(found: comparison.Comparison) -> str:
    """Names the seeds of the networks that are compared."""
    seeds = sorted({run.seed for run in found.runs if run.seed is not None})
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def analyses() -> list[str]:
    """Returns a heading and the table of the claim's analyses, if there are any."""
    read = [
        (file.parent.name, json.loads(file.read_text(encoding="utf-8")))
        for file in sorted((DOCS / "claim").glob("*/analysis.json"))
    ]
    if not read:
        return []
    rows = []
    for name, summary in read:
        numbers = [
            summary["analyses"][a][row][key] for a, row, key in _ANALYSES.values()
        ]
        rates = ", ".join(f"{rate:.2f}" for rate in summary["lambda"].values())
        rows.append([name, *(f"{n:.3g}" for n in numbers), rates or "-"])
    count, eps = read[0][1]["num_examples"], read[0][1]["settings"]["eps"]
    return [
        f"### Analyses, the first {count} images, ε = {eps:g}",
        "Loss in nats and accuracy in [0, 1] at the end of the attack direction; "
        "median growth through the blocks; mean exponent; median local Lipschitz "
        "constant of the logits and median norm of the input gradient, per 1/255; "
        "ECE in [0, 1].",
        markdown.table(["run", *_ANALYSES, "λ of the damped blocks"], rows),
    ]


def keys(schema: dict[str, Any]) -> str:
    """Returns tables of the keys of result files, one per object, from their schema."""
    objects = {"The result": schema} | {
        f"An {name} in `attacks`": part for name, part in schema["$defs"].items()
    }
    for key, value in schema["properties"].items():
        inner = value.get("items", value)
        if len(inner.get("properties", ())) > 1:
            objects[f"In `{key}`"] = inner
    tables = []
    for title, part in objects.items():
        rows = [
            [
                f"`{key}`",
                _kind(value),
                "yes" if key in part["required"] else "",
                value.get("description", ""),
            ]
            for key, value in part["properties"].items()
        ]
        table = markdown.table(["key", "type", "always", "meaning"], rows)
        tables.append(f"## {title}\n\n{table}")
    return "\n\n".join(tables)


def _kind(value) -> str:
    """The type of a value, in words."""
    if "enum" in value:
        return " or ".join(f"`{choice}`" for choice in value["enum"])
    kinds = value.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join(kinds)


if __name__ == "__main__":
    for path, text in texts().items():
        write_text(path, text)
