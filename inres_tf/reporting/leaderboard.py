"""A leaderboard of evaluated models, as markdown and as one HTML page."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable

from inres_tf import markdown as md
from inres_tf import pages
from inres_tf.corruptions import GROUPS
from inres_tf.evaluation.config import GENERATED
from inres_tf.files import write_text
from inres_tf.reporting.measurements import Column, EvaluatedRun
from inres_tf.reporting.statistics import wilson

# Kinds of accuracy in the order of the tables, with their titles.
KINDS = {
    "certified": "Certified accuracy: proved for every perturbation of the radius",
    "attacked": "Accuracy under attack: an upper bound of the robust accuracy",
    "clean": "Clean and corrupted images",
}
_GROUPS = {"clean": "clean", "mCA": "clean", "certificate": "certified"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model on the leaderboard.

    Attributes:
        name: name of the model, and of its weights.
        run: one of its evaluations.
        training: command of its training; empty if unknown.
        note: how the images differ from the published dataset; empty if they do not.
    """

    name: str
    run: EvaluatedRun
    training: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """An accuracy on the leaderboard.

    Attributes:
        images: test images and protocol. Only rows of equal images are ranked.
        kind: key of `KINDS`.
        norm: `L∞` or `L2`; empty for clean and corrupted images.
        radius: radius of the ball in 1/255 of the pixel range; 0 without one.
        model: name of the model and of its weights.
        accuracy: accuracy in [0, 1].
        low: lower end of Wilson's 95% interval.
        high: upper end of Wilson's 95% interval.
        number: number of images.
        by: attacks, method of the certificate, `clean`, or the corruptions.
        settings: the settings of these.
        checks: names of the checks that the evaluation raised.
        command: command of the evaluation; empty if unknown.
        training: command of the training; empty if unknown.
        note: how the images differ from the published dataset; empty if they do not.
    """

    images: str
    kind: str
    norm: str
    radius: float
    model: str
    accuracy: float
    low: float
    high: float
    number: int
    by: str
    settings: str
    checks: tuple[str, ...]
    command: str
    training: str
    note: str

    @property
    def ball(self) -> str:
        """Norm and radius, such as `L2 36/255`; empty without attack or certificate."""
        return f"{self.norm} {self.radius:g}/255" if self.norm else ""

    @property
    def percent(self) -> str:
        """Accuracy and interval in percent."""
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.accuracy:.1f} [{low:.1f}, {high:.1f}]"


def rank(entries: Iterable[Entry]) -> list[Row]:
    """Returns the rows of a leaderboard.

    Args:
        entries: the evaluated models. A model may have several evaluations.

    Returns:
        Rows sorted by images, kind, norm, radius and, from the best, accuracy. The
        attacks on one model within a ball count as one on equal images: the lowest
        accuracy of its evaluations is kept.
    """
    rows: dict[tuple, Row] = {}
    for entry in entries:
        accuracies = entry.run.accuracies
        # Results without each image's answers have no worst case.
        worst = "worst" if any(c.group == "worst" for c in accuracies) else "attack"
        for column, accuracy in accuracies.items():
            if column.group not in (*_GROUPS, worst):
                continue
            row = _row(entry, column, accuracy)
            key: tuple[str, ...] = (row.images, row.kind, row.ball, row.model)
            if row.kind != "attacked":
                key += (row.by, row.settings)
            if key not in rows or row.accuracy < rows[key].accuracy:
                rows[key] = row
    kinds = list(KINDS)
    return sorted(
        rows.values(),
        key=lambda row: (
            row.images,
            kinds.index(row.kind),
            row.norm,
            row.radius,
            row.by if row.kind == "clean" else "",
            -row.accuracy,
            row.model,
        ),
    )


def _row(entry: Entry, column: Column, accuracy: float) -> Row:
    """The row of one column of an evaluation."""
    result, kind = entry.run.result, _GROUPS.get(column.group, "attacked")
    # The attack beside certificates.
    if column.curve == "attacked":
        kind = "attacked"
    norm, by = "", _corruptions(result) if column.group == "mCA" else column.group
    if kind == "certified":
        norm, by = "L2", result["certificates"]["method"]
    elif kind == "attacked":
        norm = "L2" if column.curve == "attacked" else "L∞"
        norm = "L2" if column.curve.endswith(" L2") else norm
        by = ", ".join(_attacks(result, norm, column))
    number = result["num_examples"]
    low, high = wilson(accuracy * number, number)
    raised = {c["name"] for c in result.get("checks", []) if c["raised"]}
    return Row(
        f"{result['dataset']}, {number} images, {result['protocol']} protocol"
        f"{_fingerprint(result)}",
        kind,
        norm,
        column.strength,
        entry.name,
        accuracy,
        low,
        high,
        number,
        by,
        column.settings,
        tuple(sorted(raised)),
        result.get("command", ""),
        entry.training,
        entry.note,
    )


def _corruptions(result) -> str:
    """The corruptions of a mean, by the name of their group if they are one."""
    names = set(result["corruptions"])
    groups = [group for group, members in GROUPS.items() if names == set(members)]
    named = groups or [name.removesuffix("_noise") for name in sorted(names)]
    source = result.get("corruption_source", GENERATED)
    of = "" if source == GENERATED else f" of {source}"
    return f"corruptions: {', '.join(named)}{of}"


def _attacks(result, norm, column) -> list[str]:
    """Names of the attacks behind a column."""
    if column.curve == "attacked":
        return [row["name"] for row in result["certificates"]["attacks"][:1]]
    if column.group == "attack":
        return [column.curve.removesuffix(" L2")]
    wanted = norm.replace("L∞", "linf").lower()
    return [
        row["name"]
        for row in result["attacks"]
        if row.get("norm", "linf") == wanted and row["eps"] == column.strength
    ]


def _fingerprint(result) -> str:
    fingerprint = result.get("fingerprint")
    return f" ({fingerprint[:8]})" if fingerprint else ""


def markdown(rows: list[Row]) -> str:
    """Returns a leaderboard as a markdown document.

    Args:
        rows: rows in the order of `rank`.
    """
    parts, notes = ["# Leaderboard", _NOTE], _notes(rows)
    for images in dict.fromkeys(row.images for row in rows):
        parts += [f"## {images}", *notes.get(images, [])]
        for kind, title in KINDS.items():
            chosen = [row for row in rows if (row.images, row.kind) == (images, kind)]
            if not chosen:
                continue
            ball = [] if kind == "clean" else ["ball"]
            header = [*ball, "model", "accuracy in %", "by", "checks raised"]
            body = [
                [
                    *([row.ball] if ball else []),
                    row.model,
                    row.percent,
                    row.by,
                    ", ".join(row.checks) or "-",
                ]
                for row in chosen
            ]
            parts += [f"### {title}", md.table(header, body)]
    commands = {(row.model, row.training): None for row in rows if row.training}
    commands |= {(row.model, row.command): None for row in rows if row.command}
    if commands:
        lines = (f"- {model}: `{command}`" for model, command in sorted(commands))
        about = "Of training and evaluation, as far as known; `--data_dir` is left out."
        parts += ["## Commands", about, "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _notes(rows) -> dict[str, list[str]]:
    """Sentences about the images of each heading that are not those published."""
    notes: dict[str, list[str]] = {}
    for images, note in dict.fromkeys((row.images, row.note) for row in rows):
        if note:
            sentence = f"These images differ from those published: {note}."
            notes.setdefault(images, []).append(sentence)
    return notes


_NOTE = (
    "Accuracies with Wilson's 95% intervals, which reflect the choice of test images. "
    "Only models on the same images are ranked. Under attack: the share of images that "
    "are classified correctly both unattacked and under all listed attacks; a stronger "
    "attack may lower it. Certified: the share for which a proof excludes every "
    "adversarial example within the radius; by smoothing, those of the smoothed "
    "classifier, where each proof is wrong with a small probability. A raised check "
    "says why a figure may be too high; docs/evaluation.md explains each. The code in "
    "brackets is the fingerprint of the images."
)


def page(rows: list[Row]) -> str:
    """Returns a leaderboard as one self-contained HTML page.

    Its table can be sorted by each column and filtered by images, kind and ball;
    without scripts it shows all rows.

    Args:
        rows: rows in the order of `rank`.
    """
    filters = {
        "images": list(dict.fromkeys(row.images for row in rows)),
        "kind": [kind for kind in KINDS if any(row.kind == kind for row in rows)],
        "norm": sorted({row.norm for row in rows if row.norm}),
        "radius": [f"{r:g}" for r in sorted({row.radius for row in rows if row.norm})],
    }
    noted = {row.note: row.images.split(",")[0] for row in rows if row.note}
    differing = [
        f"Images of {dataset} that differ from those published: {note}."
        for note, dataset in noted.items()
    ]
    return pages.render(
        "leaderboard.html",
        title="Leaderboard",
        rows=rows,
        filters=filters,
        note=" ".join([_NOTE, *differing]),
    )


def write(folder: str | os.PathLike[str], rows: list[Row]) -> pathlib.Path:
    """Writes `leaderboard.md` and `leaderboard.html`.

    Args:
        folder: folder to write to.
        rows: rows in the order of `rank`.

    Returns:
        Path of the page.
    """
    folder = pathlib.Path(folder)
    write_text(folder / "leaderboard.md", markdown(rows))
    write_text(folder / "leaderboard.html", page(rows))
    return folder / "leaderboard.html"
