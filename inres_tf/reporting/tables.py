"""Tables of results for people: per cent with one decimal, in markdown."""

from inres_tf.corruptions import mean_accuracy
from inres_tf.evaluation import results
from inres_tf.markdown import percent, table
from inres_tf.reporting.comparison import Comparison
from inres_tf.reporting.statistics import wilson


def evaluation(result: dict) -> str:
    """One model's result of `evaluation.evaluate` as text for a terminal.

    Args:
        result: the dict that `train.evaluate` writes.
    """
    number = result["num_examples"]
    low, high = wilson(number / 2, number)
    parts = [
        f"{result['model']} on {result['dataset']}: {number} images, "
        f"{result['protocol']} protocol, accuracy in %; 95% intervals (Wilson) reach "
        f"at most {50 * (high - low):.1f} to either side",
        f"clean {percent([result['clean']['accuracy']])}",
    ]
    if result["corruptions"]:
        columns = list(next(iter(result["corruptions"].values())))
        rows = [
            [name, *(percent([by[c]]) for c in columns)]
            for name, by in result["corruptions"].items()
        ]
        header = ["corruption", *(f"severity {c}" for c in columns[:-1]), "mean"]
        parts.append(table(header, rows))
        mean = mean_accuracy(result["corruptions"])
        line = f"mean corruption accuracy {percent([mean])}"
        if "mce" in result:
            line += f"; mean corruption error {percent([result['mce']])}, baseline 100"
        parts.append(line)
    if result["attacks"]:
        radii = list(dict.fromkeys(row["eps"] for row in result["attacks"]))
        rows = [
            [name, *(percent([found[e]]) if e in found else "–" for e in radii)]
            for name, found in _by_attack(result).items()
        ]
        parts.append(table(["attack", *(f"ε = {e:g}/255" for e in radii)], rows))
    raised = [check for check in result.get("checks", []) if check["raised"]]
    if raised:
        lines = (f"- {check['name']}: {check['message']}" for check in raised)
        parts.append(
            "\n".join(["Warnings (docs/evaluation.md explains them):", *lines])
        )
    return "\n\n".join(parts)


def _by_attack(result: dict) -> dict[str, dict[float, float]]:
    """Accuracies by ε of each attack, and of the worst case over the attacks of a norm.

    The worst case is left out where it says nothing more than the only attack.
    """
    found, norms = {}, {}
    for row in result["attacks"]:
        norm = row.get("norm", "linf")
        title = row["name"] if norm == "linf" else f"{row['name']} (L2)"
        found.setdefault(title, {})[row["eps"]] = row["accuracy"]
        norms.setdefault(norm, []).append(row)
    correct = {
        key: results.unpack(packed, result["num_examples"])
        for key, packed in result.get("correct", {}).items()
    }
    if not correct:
        return found
    for norm, rows in norms.items():
        worst = {}
        for eps in dict.fromkeys(row["eps"] for row in rows):
            mine = [row for row in rows if row["eps"] == eps]
            worst[eps] = float(results.robust(correct, mine).mean())
        if worst not in found.values() or len({row["name"] for row in rows}) > 1:
            title = "worst case" if norm == "linf" else "worst case (L2)"
            found[title] = worst
    return found


def comparison(found: Comparison) -> dict[str, tuple[list[str], list[list[str]]]]:
    """A comparison of models as tables: accuracies, and differences with their tests.

    Args:
        found: what `comparison.compare` gives.

    Returns:
        Header and rows of each table by its title; one without columns is left out.
    """
    tables = {}
    for title, groups in _TABLES.items():
        columns = [c for c in found.columns if c.group in groups]
        if all(c.group == "clean" for c in columns) and tables:
            continue
        header = ["model", *(found.label(c) for c in columns)]
        rows = [[m, *(_cell(found.cell(m, c)) for c in columns)] for m in found.models]
        tables[title] = header, rows
    if found.differences:
        header = ["model", "column", "points", "better on", "worse on", "p", "p (Holm)"]
        rows = [
            [
                row.model,
                found.label(row.column),
                f"{100 * row.points:+.1f}",
                *("–" if n is None else str(n) for n in (row.better, row.worse)),
                *("–" if p is None else _probability(p) for p in (row.p, row.adjusted)),
            ]
            for row in found.differences
        ]
        tables[f"Differences from {found.baseline} on the same images"] = header, rows
    return tables


_TABLES = {
    "Accuracy in %": (
        "clean",
        "mCA",
        "mCE",
        "worst",
    ),
    "Corruptions: accuracy in %, mean over the severities": ("clean", "corruption"),
    "Attacks: accuracy in %, by ε in 1/255": ("clean", "attack"),
}


def _cell(cell) -> str:
    """A cell of a comparison: with its interval, or the deviation over seeds."""
    if cell is None:
        return "–"
    text = percent(cell.accuracies)
    if len(cell.accuracies) > 1 or cell.low == cell.high:
        return text
    return f"{text} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def _probability(p) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
