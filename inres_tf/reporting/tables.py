"""Tables of results, in percent with one decimal."""

from collections.abc import Sequence

from inres_tf import corruptions
from inres_tf.evaluation import results
from inres_tf.markdown import percent, table
from inres_tf.pages import Cell
from inres_tf.reporting.comparison import HEADLINE, Comparison, Difference
from inres_tf.reporting.measurements import Column
from inres_tf.reporting.statistics import wilson


def evaluation(result: dict) -> str:
    """The result of one model's evaluation as text for a terminal.

    Args:
        result: the dict that `train.evaluate` writes, such as from
            `inres_tf.evaluation.evaluate_model`.
    """
    number = result["num_examples"]
    low, high = wilson(number / 2, number)
    parts = [
        f"{result['model']} on {result['dataset']}: {number} images, "
        f"{result['protocol']} protocol, accuracy in %; 95% intervals (Wilson): at "
        f"most ±{50 * (high - low):.1f}",
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
        parts += _corruption_means(result)
    if result["attacks"]:
        radii = list(dict.fromkeys(row["eps"] for row in result["attacks"]))
        rows = [
            [name, *(percent([by[eps]]) if eps in by else "–" for eps in radii)]
            for name, by in _by_attack(result).items()
        ]
        parts.append(table(["attack", *(f"ε = {e:g}/255" for e in radii)], rows))
    if "certificates" in result:
        parts += _certificates(result["certificates"])
    raised = [check for check in result.get("checks", []) if check["raised"]]
    if raised:
        lines = (f"- {check['name']}: {check['message']}" for check in raised)
        parts.append("\n".join(["Warnings (explained in docs/evaluation.md):", *lines]))
    return "\n\n".join(parts)


def _corruption_means(result: dict) -> list[str]:
    """The means over the corruptions, and which of them change no image."""
    counted, lines = corruptions.effective(result), []
    if counted:
        line = (
            f"mean corruption accuracy {percent([corruptions.mean_accuracy(counted)])}"
        )
        if "mce" in result:
            line += f"; mean corruption error {percent([result['mce']])}, baseline 100"
        lines.append(line)
    unchanged = result.get("unchanged_corruptions", {})
    left_out = [name for name in result["corruptions"] if name not in counted]
    if left_out:
        lines.append(
            f"not in the mean: {', '.join(left_out)}, which leaves these images as "
            "they are (saturate does so with grey ones, and others with tiny ones)"
        )
    partly = [
        f"{name} at severity {', '.join(severities)}"
        for name, severities in unchanged.items()
        if name in counted
    ]
    if partly:
        lines.append(f"no effect on these images: {'; '.join(partly)}")
    return lines


def _certificates(certificates: dict) -> list[str]:
    """What certifies the images, and the certified accuracy by radius."""
    header, attacked = ["L2 radius", "certified"], certificates.get("attacked", {})
    if certificates["method"] == "lipschitz":
        bound = certificates["bound"]["logits"]
        line = f"certified by a Lipschitz constant of {bound:.3g} per 1/255"
    else:
        settings = certificates["settings"]
        line = (
            f"certified after smoothing with noise of {settings['sigma']:g}/255, "
            f"{settings['samples']} samples; abstained on "
            f"{percent([certificates['abstained']])}"
        )
    if attacked:
        header.append(f"under {certificates['attacks'][0]['name']}")
    rows = [
        [
            f"{radius}/255",
            percent([accuracy]),
            *(percent([attacked[radius]]) for _ in header[2:]),
        ]
        for radius, accuracy in certificates["radii"].items()
    ]
    return [line, table(header, rows)]


def _by_attack(result: dict) -> dict[str, dict[float, float]]:
    """Accuracies by ε, for each attack and for the worst case over those of a norm.

    The worst case is left out where it would repeat that of the only attack.
    """
    accuracies: dict[str, dict[float, float]] = {}
    norms: dict[str, list[dict]] = {}
    for row in result["attacks"]:
        norm = row.get("norm", "linf")
        title = row["name"] if norm == "linf" else f"{row['name']} (L2)"
        accuracies.setdefault(title, {})[row["eps"]] = row["accuracy"]
        norms.setdefault(norm, []).append(row)
    correct = {
        key: results.unpack(packed, result["num_examples"])
        for key, packed in result.get("correct", {}).items()
    }
    if not correct:
        return accuracies
    for norm, rows in norms.items():
        worst = {}
        for eps in dict.fromkeys(row["eps"] for row in rows):
            same_eps = [row for row in rows if row["eps"] == eps]
            worst[eps] = float(results.robust(correct, same_eps).mean())
        if worst not in accuracies.values() or len({row["name"] for row in rows}) > 1:
            title = "worst case" if norm == "linf" else "worst case (L2)"
            accuracies[title] = worst
    return accuracies


def comparison(found: Comparison) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Tables of a comparison: accuracies, and differences with their tests.

    Args:
        found: a comparison, as `inres_tf.reporting.compare` returns.

    Returns:
        Header and rows of each table, by its title. Tables without columns are left
        out.
    """
    tables: dict[str, tuple[list[str], list[list[str]]]] = {}
    for title in _TABLES:
        columns, rows = accuracies(found, title)
        if columns:
            header = ["model", *map(found.label, columns)]
            tables[title] = header, _texts(zip(found.models, rows))
    if found.differences:
        header, rows = differences(found, found.differences)
        title = f"Differences from {found.baseline} on the same images"
        tables[title] = header, _texts((first.text, rest) for first, *rest in rows)
    header, rows = by_seed(found)
    if rows:
        tables[BY_SEED] = header, _texts((first.text, rest) for first, *rest in rows)
    return tables


def _texts(rows) -> list[list[str]]:
    """Rows of cells as text, each after its heading."""
    return [
        [name, *(f"{c.text} {c.detail}".strip() for c in row)] for name, row in rows
    ]


def accuracies(found: Comparison, title: str) -> tuple[list[Column], list[list[Cell]]]:
    """The accuracies of a table.

    Args:
        found: a comparison.
        title: title of the table, such as `MAIN`.

    Returns:
        The columns, and for each model the cells. The best of a column are marked,
        unless all are equal, and so are significant differences from the baseline.
        Both are empty if there is nothing but clean accuracy in a later table.
    """
    columns = [
        column
        for column in found.columns
        if column.group in _TABLES[title]
        and any(found.cell(model, column) for model in found.models)
    ]
    if all(c.group == "clean" for c in columns) and title != MAIN:
        return [], []
    marks = {
        (d.model, d.column): "better" if d.points > 0 else "worse"
        for d in found.differences
        if d.significant
    }
    by_column = []
    for column in columns:
        cells = {model: found.cell(model, column) for model in found.models}
        # Equal if the table shows them as equal.
        shown = {m: round(100 * cell.mean, 1) for m, cell in cells.items() if cell}
        best = (min if column.group == "mCE" else max)(shown.values(), default=None)
        by_column.append(
            [
                _cell(
                    cell,
                    best=len(set(shown.values())) > 1 and shown.get(model) == best,
                    mark=marks.get((model, column), ""),
                )
                for model, cell in cells.items()
            ]
        )
    return columns, [list(row) for row in zip(*by_column)]


def differences(
    found: Comparison, rows: Sequence[Difference]
) -> tuple[list[str], list[list[Cell]]]:
    """Differences from the baseline, with their tests.

    Args:
        found: a comparison.
        rows: some of its differences.

    Returns:
        Header and rows. Tests over seeds have an interval and a name; without any, the
        numbers of images are shown.
    """
    seeds = any(row.low is not None for row in found.differences)
    middle = ["95% interval", "test"] if seeds else ["better on", "worse on"]
    header = ["model", "column", "points", *middle, "p", "p (Holm)"]
    table = []
    for row in rows:
        interval = Cell("–", value=-2.0)  # below any other; scripts know no "-inf"
        if row.low is not None and row.high is not None:
            # "-0.0" says that 0 is inside.
            text = f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
            interval = Cell(text, value=row.low)
        mark = ("better" if row.points > 0 else "worse") if row.significant else ""
        table.append(
            [
                Cell(row.model),
                Cell(found.label(row.column)),
                Cell(_points(row.points), value=row.points, mark=mark),
                *(
                    [interval, Cell(row.test or "–")]
                    if seeds
                    else map(_count, (row.better, row.worse))
                ),
                *map(_probability, (row.p, row.adjusted)),
            ]
        )
    return header, table


def by_seed(found: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """Differences of the networks of each seed, with tests over the images.

    Args:
        found: a comparison.

    Returns:
        Header and rows, for clean accuracy, means, worst cases and certificates of the
        models with the same seeds as the baseline. Both are empty if it has only one.
    """
    seeds = [run.seed for run in found.models[found.baseline]]
    paired = {
        model: runs
        for model, runs in found.models.items()
        if [run.seed for run in runs] == seeds
    }
    if len(seeds) < 2 or len(paired) < 2:
        return [], []
    single = [
        Comparison({m: [runs[i]] for m, runs in paired.items()}, found.baseline)
        for i in range(len(seeds))
    ]
    found_by = [{(d.model, d.column): d for d in one.differences} for one in single]
    body = []
    for row in found.differences:
        if row.model not in paired or row.column.group not in HEADLINE:
            continue
        of_seeds = [by_column[row.model, row.column] for by_column in found_by]
        cells = [
            Cell(
                _points(d.points),
                "" if d.p is None else f"({_probability(d.p).text})",
                d.points,
            )
            for d in of_seeds
        ]
        body.append([Cell(row.model), Cell(found.label(row.column)), *cells])
    return ["model", "column", *(f"seed {seed}" for seed in seeds)], body


def summary(found: Comparison) -> str:
    """A comparison in a few lines: clean, corrupted and worst-case accuracy.

    Args:
        found: a comparison, as `inres_tf.reporting.compare` returns.

    Returns:
        Text for a terminal: a title, a markdown table and how many checks warn.
    """
    title, (header, rows) = next(iter(comparison(found).items()))
    parts = [f"{found.title}: {title[0].lower()}{title[1:]}", table(header, rows)]
    if found.raised:
        parts.append(f"Checks that warn: {len(found.raised)}; the report lists them.")
    return "\n\n".join(parts)


BY_SEED = "By seed: points (p over the images, not adjusted)"
# Groups of the columns of each table, by its title.
MAIN = "Accuracy in %"
CORRUPTIONS = "Corruptions: accuracy in %, mean over the severities"
ATTACKS = "Attacks: accuracy in %, by ε in 1/255"
CERTIFICATES = "Certificates: accuracy in %, by L2 radius in 1/255"
_TABLES = {
    MAIN: ("clean", "mCA", "mCE", "worst"),
    CORRUPTIONS: ("clean", "corruption"),
    ATTACKS: ("clean", "attack"),
    CERTIFICATES: ("clean", "certificate"),
}


def _cell(cell, best, mark) -> Cell:
    """A cell's accuracy with its interval, or its standard deviation over seeds."""
    if cell is None:
        return Cell("–", value=-1.0)
    text, _, detail = percent(cell.accuracies).partition(" ")
    if len(cell.accuracies) == 1 and cell.low != cell.high:
        detail = f"[{100 * cell.low:.1f}, {100 * cell.high:.1f}]"
    return Cell(text, detail, cell.mean, best, mark)


def _points(difference) -> str:
    """A difference of accuracies in points, without a negative zero."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}"


def _count(number) -> Cell:
    return Cell("–", value=-1.0) if number is None else Cell(str(number))


def _probability(p) -> Cell:
    if p is None:
        return Cell("–", value=2.0)
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}", value=p)
