"""Sections of the HTML report of a comparison."""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from inres_tf.evaluation import results
from inres_tf.pages import (
    Cell,
    Folded,
    Gallery,
    Image,
    Items,
    Row,
    Section,
    Table,
    Text,
    Warned,
    plot,
)
from inres_tf.reporting import plots, tables
from inres_tf.reporting.comparison import HEADLINE, Comparison
from inres_tf.training.plots import rates_by_epoch, training_curves

# More panels or classes than these are folded away.
_PANELS = 6
_CLASSES = 20
# The most frequent confusions that are listed if there are more classes.
_CONFUSIONS = 15


def of_comparison(found: Comparison, suffix: str, heading: str) -> list[Section]:
    """The sections of a comparison.

    Args:
        found: the comparison.
        suffix: end of their anchors.
        heading: end of their titles.
    """
    drawings = plots.drawings(found)

    def figure(name: str) -> list[Any]:
        """The blocks of a plot, if there is one."""
        if name not in drawings:
            return []
        heading, count = drawings[name].heading, len(drawings[name].panels)
        block = plot(drawings[name].figure(), f"{name}{suffix}", heading)
        return [_folded(count > _PANELS, f"{heading}: {count} panels", [block])]

    sections = {
        "accuracy": ("Accuracy", _main(found)),
        "warnings": ("Warnings", _warned(found)),
        "differences": ("Differences", _differences(found)),
        "attacks": (
            "Attacks",
            [
                *_details(found, tables.ATTACKS),
                *figure("accuracy_over_eps"),
                *figure("trade_off"),
            ],
        ),
        "certificates": (
            "Certificates",
            [*_details(found, tables.CERTIFICATES), *figure("certified_over_radius")],
        ),
        "corruptions": (
            "Corruptions",
            [*_details(found, tables.CORRUPTIONS), *figure("accuracy_over_severity")],
        ),
        "classes": ("Classes", _classes(found)),
        "lambda": ("Damping rates", figure("lambda_by_depth")),
        "samples": ("Adversarial examples", _samples(found)),
        "networks": (
            "Networks and attack budget",
            [*_networks(found), *_budget(found)],
        ),
    }
    return [
        Section(f"{name}{suffix}", f"{title}{heading}", blocks)
        for name, (title, blocks) in sections.items()
    ]


def training(histories: dict[str, list[dict]]) -> Section:
    """Loss and accuracy by epoch, and λ of the damped blocks."""
    caption = "Loss and accuracy by epoch, first seed"
    blocks: list[Any] = [plot(training_curves(histories), "training", caption)]
    damped = {name: rows for name, rows in histories.items() if rows[0].get("lambda")}
    if damped:
        caption = "λ of each damped block by epoch, first seed"
        blocks.append(plot(rates_by_epoch(damped), "lambda_by_epoch", caption))
    return Section("training", "Training", blocks)


def warnings(found: Comparison) -> dict[str, list[str]]:
    """Warnings and notes by heading, without empty lists."""
    listed = {"Warnings": found.raised, "Notes": found.notes}
    return {heading: lines for heading, lines in listed.items() if lines}


PLOTS = "Plots show the intervals or deviations as bands or bars."


def note(found: Comparison) -> str:
    """What the accuracies and their intervals mean."""
    several = any(len(runs) > 1 for runs in found.models.values())
    single = any(len(runs) == 1 for runs in found.models.values())
    parts = []
    if single:
        parts.append(
            "In brackets: Wilson's 95% confidence interval of a single network, which "
            "reflects the choice of test images."
        )
    if several:
        numbers = {name: len(runs) for name, runs in found.models.items()}
        if len(set(numbers.values())) == 1:
            seeds = f"the {numbers[found.baseline]} seeds"
        else:
            counts = ", ".join(f"{name}: {n}" for name, n in numbers.items())
            seeds = f"the seeds ({counts})"
        parts.append(
            f"±: standard deviation over {seeds}, on the same images; it does not "
            "reflect the choice of test images."
        )
    if any(c.group == "worst" for c in found.columns):
        parts.append(
            "Worst: the share of images that are classified correctly both unattacked "
            "and under every attack within that ball, with ε in 1/255."
        )
    return " ".join(parts)


def note_on_differences(found: Comparison) -> str:
    """What the differences and their tests mean."""
    over_images = {row.over_images for row in found.differences if row.test}
    parts = [f"Points: accuracy minus that of {found.baseline}."]
    if True in over_images:
        parts.append(
            "Better and worse on: number of images with more, or fewer, correct "
            "answers than the baseline. p: exact McNemar test of these two numbers, "
            "or, for means over several corrupted sets, Student's paired t test over "
            "the images; adjusted by Holm's method for all tests over images. These "
            "tests are about these networks, not about others trained the same way."
        )
    if False in over_images:
        parts.append(
            "Over seeds: Student's t test, paired where the seeds match, otherwise "
            "Welch's, and the 95% interval of the mean difference, which is not "
            "adjusted. p (Holm): adjusted by Holm's method among the columns of the "
            "main table and the certificates, and separately among all others."
        )
    if tables.by_seed(found)[1]:
        parts.append(
            "By seed: the networks of one seed, with the exact McNemar test or, for "
            "means over several corrupted sets, Student's paired t test over the "
            "images. These are about the two networks, not about others trained the "
            "same way."
        )
    return " ".join(parts)


def _warned(found) -> list[Any]:
    """All warnings and notes."""
    by_check: dict[str, list[str]] = {}
    for network, check in found.findings:
        by_check.setdefault(check["name"], []).append(f"{network}: {check['message']}")
    blocks: list[Any] = []
    if by_check:
        blocks.append(Warned([Items(name, items) for name, items in by_check.items()]))
    if found.notes:
        blocks.append(Items("Notes", found.notes))
    return blocks


def _main(found) -> list[Any]:
    """The main table."""
    columns, rows = tables.accuracies(found, tables.MAIN)
    header = ["model", *map(found.label, columns)]
    text = [note(found), PLOTS]
    if len(found.models) > 1:
        text.append(_marks(found))
    body = [[name, *row] for name, row in zip(found.models, rows)]
    return [Table(tables.MAIN, header, body, " ".join(text))]


def _marks(found) -> str:
    return (
        "Bold: the best of each column. ▲ ▼: significantly better or worse than "
        f"{found.baseline} (adjusted p < 0.05)."
    )


def _details(found, title: str) -> list[Any]:
    """A table with a row for each column of the comparison."""
    columns, rows = tables.accuracies(found, title)
    if not columns:
        return []
    # By radius, severity or name rather than by model.
    body = [
        [Cell(found.label(column), value=float(i)), *cells]
        for i, (column, cells) in enumerate(zip(columns, zip(*rows)))
    ]
    return [Table(title, ["measured on", *found.models], body)]


def _differences(found) -> list[Any]:
    """Significant differences of the main table, and the others folded away."""
    if not found.differences:
        return []
    rows = sorted(found.differences, key=lambda row: -abs(row.points))
    parts = {
        "Significant differences": [
            row for row in rows if row.significant and row.column.group in HEADLINE
        ],
        "Significant differences under single attacks and corruptions": [
            row for row in rows if row.significant and row.column.group not in HEADLINE
        ],
        "Differences that are not significant": [
            row for row in rows if not row.significant
        ],
    }
    blocks: list[Any] = []
    for title, chosen in parts.items():
        caption = f"{title}, from {found.baseline}, largest first"
        header, body = tables.differences(found, chosen)
        table = Table(caption, header, body, kind="sortable named")
        if not blocks:
            none = Text(f"No difference from {found.baseline} above is significant.")
            blocks.append(table if chosen else none)
        elif chosen:
            blocks.append(Folded(f"{title}: {len(chosen)}", [table]))
    header, body = tables.by_seed(found)
    if body:
        table = Table(tables.BY_SEED, header, body, kind="sortable named")
        blocks.append(Folded(tables.BY_SEED, [table]))
    return [*blocks, Text(note_on_differences(found), quiet=True)]


def _classes(found) -> list[Any]:
    """Accuracy of each class and confusions, summed over the seeds."""
    counts = {m: _confusion(runs) for m, runs in found.models.items()}
    counts = {model: count for model, count in counts.items() if count}
    if not counts:
        return []
    names = found.runs[0].result.get("class_names") or []
    labels = sorted({label for count in counts.values() for label, _ in count})
    body = []
    for label in labels:
        shares = {m: _share(count, label) for m, count in counts.items()}
        shown = {m: round(100 * s, 1) for m, s in shares.items() if s is not None}
        cells = [
            Cell(
                "–" if share is None else f"{shown[model]:.1f}",
                value=-1.0 if share is None else share,
                best=len(set(shown.values())) > 1
                and shown.get(model) == max(shown.values()),
            )
            for model, share in shares.items()
        ]
        body.append([Cell(_name(names, label), value=float(label)), *cells])
    caption = "Clean accuracy of each class in %, over all seeds"
    table = Table(caption, ["class", *counts], body)
    many = len(labels) > _CLASSES
    show = _frequent if many else _matrix
    matrices = [show(model, count, names) for model, count in counts.items()]
    return [
        _folded(many, f"{caption}: {len(labels)} classes", [table]),
        Folded("Confusions", [Row(matrices)]),
    ]


def _confusion(runs) -> dict[tuple[int, str], int]:
    """Number of images by true and predicted class, over all seeds."""
    counts: dict[tuple[int, str], int] = {}
    for run in runs:
        for label, by_prediction in run.result.get("confusion", {}).items():
            for prediction, number in by_prediction.items():
                key = int(label), prediction
                counts[key] = counts.get(key, 0) + number
    return counts


def _share(count, label) -> float | None:
    """Accuracy of a class; None without images of it."""
    total = sum(number for (true, _), number in count.items() if true == label)
    return count.get((label, str(label)), 0) / total if total else None


def _name(names, label) -> str:
    """Name of a class, or its number."""
    known = str(label).isdecimal() and int(label) < len(names)
    return names[int(label)] if known else str(label)


def _matrix(model, count, names) -> Table:
    """A confusion matrix."""
    labels = {str(label) for label, _ in count} | {name for _, name in count}
    order = sorted(labels, key=lambda text: (not text.isdecimal(), len(text), text))
    rows: list[list[str | Cell]] = []
    for true in (int(label) for label in order if label.isdecimal()):
        total = sum(n for (label, _), n in count.items() if label == true)
        numbers = [count.get((true, predicted), 0) for predicted in order]
        cells = [Cell(str(n or ""), shade=n / total if n else 0.0) for n in numbers]
        rows.append([_name(names, true), *cells])
    header = ["true \\ predicted", *(_name(names, label) for label in order)]
    caption = f"Confusion matrix of {model}: images, over all seeds"
    return Table(caption, header, rows, kind="matrix")


def _frequent(model, count, names) -> Table:
    """The most frequent confusions."""
    wrong = {pair: n for pair, n in count.items() if pair[1] != str(pair[0])}
    pairs = sorted(wrong, key=lambda pair: -wrong[pair])[:_CONFUSIONS]
    rows = [[_name(names, t), _name(names, p), str(wrong[t, p])] for t, p in pairs]
    header = ["true", "predicted", "images"]
    return Table(f"Most frequent confusions of {model}", header, rows)


def _networks(found) -> list[Any]:
    """Size and cost of each model."""
    rows: list[list[str | Cell]] = []
    for model, runs in found.models.items():
        facts = runs[0].result.get("model_facts", {})
        dampings = facts.get("dampings")
        seconds = [run.result["seconds"] for run in runs if "seconds" in run.result]
        rows.append(
            [
                model,
                str(len(runs)),
                "–" if dampings is None else ", ".join(dampings) or "none",
                plots.dead_block_counts(runs) or "–",
                _number(facts.get("parameters"), lambda n: f"{n:,}"),
                _number(facts.get("flops"), lambda n: f"{n / 1e6:,.1f}"),
                _number(
                    statistics.fmean(seconds) if seconds else None,
                    lambda n: f"{n:,.0f}",
                ),
            ]
        )
    header = ["model", "seeds", "damping", "blocks with λ = 0", "parameters"]
    header += ["MFLOPs per image", "evaluation (s)"]
    note = "FLOPs: a multiply-add counts as two. Evaluation: mean over the seeds."
    return [Table("Size and cost of the networks", header, rows, note)]


def _number(value, show: Callable[[Any], str]) -> Cell:
    return Cell("–", value=-1.0) if value is None else Cell(show(value), value=value)


def _budget(found) -> list[Any]:
    """The settings of each attack, by its radii and the models."""
    models: dict[tuple[str, str], dict[str, None]] = {}
    radii: dict[tuple[str, str], dict[str, None]] = {}
    for model in found.models:
        for column in found.columns:
            if column.group == "attack" and found.cell(model, column):
                settings = column.settings
                if settings == f"1 step of {column.strength:g}/255":
                    settings = "1 step of ε"
                key = column.curve, settings
                models.setdefault(key, {})[model] = None
                radii.setdefault(key, {})[f"{column.strength:g}"] = None
    rows = [
        [
            curve,
            ", ".join(radii[curve, settings]),
            settings,
            "all" if len(names) == len(found.models) else ", ".join(names),
        ]
        for (curve, settings), names in models.items()
    ]
    header = ["attack", "ε in 1/255", "settings", "models"]
    return (
        [Table("Attack budget per image", header, rows, kind="texts")] if rows else []
    )


def _samples(found) -> list[Any]:
    """Adversarial examples of each model's first run, one of each attack in front."""
    header = ["attack", "clean", "adversarial", "perturbation"]
    front, more = [], []
    for model, runs in found.models.items():
        result = runs[0].result
        samples: dict[str, list] = {}
        for sample in result.get("samples", []):
            row = _sample(model, sample, result)
            samples.setdefault(results.sample_key(sample), []).append(row)
        if samples:
            front.append(Gallery(model, header, [rows[0] for rows in samples.values()]))
        others = [row for rows in samples.values() for row in rows[1:]]
        if others:
            more.append(Gallery(f"{model}, further examples", header, others))
    if not front:
        return []
    text = (
        "Perturbations are shown around grey, scaled by their largest value, which is "
        "given below them in 1/255."
    )
    folded = [Folded("Further examples", [Row(more)])] if more else []
    return [Text(text, quiet=True), Row(front), *folded]


def _sample(model, sample, result) -> tuple[str, list[Image]]:
    """One adversarial example as a row of its model's gallery."""
    names = result.get("class_names") or []
    norm = sample["norm"].replace("linf", "L∞").replace("l", "L")
    attack = f"{sample['attack']} {norm} {sample['eps']:g}, image {sample['index']}"
    captions = {
        "clean": f"label {_name(names, sample['label'])}",
        "adversarial": f"predicted {_name(names, sample['predicted'])}",
        "perturbation": f"{sample['largest']:.1f}",
    }
    return attack, [
        Image(sample[kind], f"{model}, {attack}: {kind}", caption)
        for kind, caption in captions.items()
    ]


def _folded(fold: bool, summary: str, blocks: Iterable[Any]) -> Any:
    """Blocks below a line that opens them if `fold`, and else the only block."""
    blocks = list(blocks)
    return Folded(summary, blocks) if fold else blocks[0]
