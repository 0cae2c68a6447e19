"""Comparison of results: which belong together, their intervals, their differences."""

import collections
import dataclasses
import functools
import statistics

from inres_tf.errors import UserError
from inres_tf.reporting.measurements import CLEAN, Column, EvaluatedRun
from inres_tf.reporting.statistics import holm, mcnemar, wilson

LEVEL = 0.95
_GROUPS = ("clean", "mCA", "mCE", "worst", "corruption", "attack", "severity")
# What results must share to stand in one table.
_SHARED = ("dataset", "protocol", "num_examples", "fingerprint")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model's accuracy of one column.

    Attributes:
        accuracies: one a seed, in [0, 1].
        low: lower end of Wilson's 95% interval; of several seeds mean − s.d.
        high: likewise the upper end.
    """

    accuracies: tuple[float, ...]
    low: float
    high: float

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.accuracies)


@dataclasses.dataclass(frozen=True)
class Difference:
    """A model's accuracy beside the baseline's on the same images.

    Attributes:
        model: its name.
        column: what was measured.
        points: its accuracy less the baseline's, in [-1, 1].
        better: images on which more of its answers are right; None without a test.
        worse: images on which more of the baseline's are.
        p: of the exact McNemar test.
        adjusted: Holm's, over all tests of the comparison.
    """

    model: str
    column: Column
    points: float
    better: int | None = None
    worse: int | None = None
    p: float | None = None
    adjusted: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Models that were evaluated on the same images in the same way.

    Attributes:
        models: the runs of each by its name, one a seed of its training.
        baseline: the name of the one that the others are compared with.
        notes: what a reader must know, a sentence each.
    """

    models: dict[str, list[EvaluatedRun]]
    baseline: str
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def runs(self) -> list[EvaluatedRun]:
        """All runs."""
        return [run for runs in self.models.values() for run in runs]

    @property
    def title(self) -> str:
        """Data, number of images and protocol."""
        first = self.runs[0].result
        return (
            f"{first['dataset']}, {first['num_examples']} images, "
            f"{first['protocol']} protocol"
        )

    @functools.cached_property
    def columns(self) -> list[Column]:
        """Every column of any model: by group, curve and strength."""
        found = dict.fromkeys(c for run in self.runs for c in run.accuracies)
        curves = list(dict.fromkeys(column.curve for column in found))
        return sorted(
            found,
            key=lambda c: (_GROUPS.index(c.group), curves.index(c.curve), c.strength),
        )

    def label(self, column) -> str:
        """A column's heading, with its settings where others have the same."""
        same = [c for c in self.columns if _named(c) == _named(column)]
        alone = len(same) == 1
        return column.heading if alone else f"{column.heading} ({column.settings})"

    def cell(self, model: str, column) -> Cell | None:
        """A model's accuracy, or None if not each of its seeds has it."""
        runs = self.models[model]
        if not all(column in run.accuracies for run in runs):
            return None
        found = tuple(run.accuracies[column] for run in runs)
        mean = statistics.fmean(found)
        if len(found) > 1:
            deviation = statistics.stdev(found)
            return Cell(found, mean - deviation, mean + deviation)
        if column.group == "mCE":
            return Cell(found, mean, mean)
        number = runs[0].result["num_examples"]
        return Cell(found, *wilson(mean * number, number, LEVEL))

    def curves(self, group: str) -> dict[str, dict[str, dict[float, Cell]]]:
        """Cells of a group by strength, by model, by curve; with clean at strength 0.

        A curve of which models have points with other settings is there for each.
        """
        settings, found = {}, {}
        for model in self.models:
            points = {}
            for column in self.columns:
                if column.group == group and self.cell(model, column):
                    points.setdefault(column.curve, {})[column.strength] = column
            for title, columns in points.items():
                mine = {s: c.settings for s, c in columns.items()}
                known = settings.get(title, {})
                if any(known.get(s, theirs) != theirs for s, theirs in mine.items()):
                    title = f"{title} ({_described(mine)})"
                settings.setdefault(title, {}).update(mine)
                cells = {s: self.cell(model, c) for s, c in columns.items()}
                clean = {0.0: self.cell(model, CLEAN)}
                found.setdefault(title, {})[model] = clean | cells
        return found

    @functools.cached_property
    def differences(self) -> list[Difference]:
        """Every model's differences from the baseline, with Holm over all tests."""
        found = []
        for model in self.models:
            for column in self.columns if model != self.baseline else ():
                mine, theirs = (self.cell(m, column) for m in (model, self.baseline))
                if column.group in ("severity", "mCE") or not mine or not theirs:
                    continue
                test = self._test(model, column)
                found.append(Difference(model, column, mine.mean - theirs.mean, *test))
        tested = [i for i, row in enumerate(found) if row.p is not None]
        for i, adjusted in zip(tested, holm([found[i].p for i in tested])):
            found[i] = dataclasses.replace(found[i], adjusted=adjusted)
        return found

    def _test(self, model, column) -> tuple:
        """McNemar's test against the baseline; nothing where it cannot be made."""
        both = self.models[model], self.models[self.baseline]
        runs = [run for of_model in both for run in of_model]
        known = {run.result.get("fingerprint") for run in runs}
        # More seeds would be favoured: their answers are seldom all right or all wrong.
        if None in known or len(known) > 1 or len(both[0]) != len(both[1]):
            return ()
        if not all(column in run.right for run in runs):
            return ()
        return mcnemar(*(sum(run.right[column] for run in of) for of in both))

    @property
    def raised(self) -> list[str]:
        """The checks of evaluations that were raised, by model."""
        return [
            f"{name}{_of_seed(run)}: {check['name']}: {check['message']}"
            for name, runs in self.models.items()
            for run in runs
            for check in run.result.get("checks", [])
            if check["raised"]
        ]

    def as_json(self) -> dict:
        """All numbers, for JSON."""
        models = {}
        for name, runs in self.models.items():
            cells = [(column, self.cell(name, column)) for column in self.columns]
            models[name] = {
                "files": [str(run.file) for run in runs],
                "seeds": [run.seed for run in runs],
                "accuracies": [
                    dataclasses.asdict(column) | _numbers(cell, column)
                    for column, cell in cells
                    if cell
                ],
            }
        shared = {key: self.runs[0].result.get(key) for key in _SHARED}
        return shared | {
            "level": LEVEL,
            "baseline": self.baseline,
            "models": models,
            "differences": [dataclasses.asdict(row) for row in self.differences],
            "raised": self.raised,
            "notes": self.notes,
        }


def _named(column):
    return column.group, column.heading


def _described(settings) -> str:
    """Settings by strength in a few words."""
    if len(set(settings.values())) == 1:
        return next(iter(settings.values()))
    return ", ".join(f"{strength:g}: {text}" for strength, text in settings.items())


def _of_seed(run) -> str:
    return "" if run.seed is None else f", seed {run.seed}"


def _numbers(cell, column) -> dict:
    """A cell for JSON: its interval or, of several seeds, their deviation."""
    found = {"mean": cell.mean, "by_seed": list(cell.accuracies)}
    if len(cell.accuracies) > 1:
        return found | {"standard_deviation": statistics.stdev(cell.accuracies)}
    return (
        found if column.group == "mCE" else found | {"low": cell.low, "high": cell.high}
    )


def compare(runs, baseline=None, allow_different=False) -> list[Comparison]:
    """Puts runs together that may be compared.

    Runs of one name are seeds of one model if their trainings are known to differ in
    the seed alone; if not, each stands for itself, called by its file too.

    Args:
        runs: as `gathering.gather` gives them.
        baseline: name of the model that the others are compared with; the first one by
            default, and wherever there is none of that name.
        allow_different: whether runs of other images or protocols, in place of an
            error, have a comparison of their own.

    Returns:
        The comparisons, one unless `allow_different`.

    Raises:
        UserError: if the runs are of other images or protocols, naming two of them and
            the difference, or there is no such baseline.
    """
    parts: list[list[EvaluatedRun]] = []
    for run in runs:
        fitting = [part for part in parts if not _unlike(part, run)]
        if fitting:
            fitting[0].append(run)
        elif parts and not allow_different:
            other, what = _unlike(parts[0], run)
            raise UserError(
                f"{other.file} and {run.file} cannot stand in one table: {what}; "
                "--allow_different gives each its own"
            )
        else:
            parts.append([run])
    found = []
    for part in parts:
        models, notes = _by_model(part)
        chosen = baseline if baseline in models else next(iter(models))
        comparison = Comparison(models, chosen, notes)
        notes += _notes(comparison)
        found.append(comparison)
    names = [name for comparison in found for name in comparison.models]
    if baseline and baseline not in names:
        raise UserError(f"--baseline={baseline} is none of {', '.join(names)}")
    return found


def _unlike(part, run) -> tuple[EvaluatedRun, str] | None:
    """A run of a part that another cannot be compared with, and why; or None."""
    for other in part:
        for key in _SHARED:
            first, second = (r.result.get(key) for r in (other, run))
            # Older files have no fingerprint, which a note says.
            if first != second and not (
                key == "fingerprint" and None in (first, second)
            ):
                what = "images, by fingerprint" if key == "fingerprint" else key
                return other, f"{what} {first} and {second}"
    return None


def _by_model(runs) -> tuple[dict[str, list[EvaluatedRun]], list[str]]:
    """Runs by the name they have in tables, and notes on those told apart."""
    by_name = collections.defaultdict(list)
    for run in runs:
        by_name[run.name].append(run)
    models, notes = {}, []
    for name, same in by_name.items():
        why = _no_seeds(same)
        if not why:
            models[name] = sorted(same, key=lambda run: run.seed or 0)
            continue
        notes.append(f"The results of {name} are not taken for seeds of one: {why}.")
        for run in same:
            models[_alone(run, same)] = [run]
    return models, notes


def _no_seeds(same) -> str:
    """Why runs of one name are not seeds of one model; empty if they are."""
    seeds = [run.seed for run in same]
    if len(same) == 1:
        return ""
    if None in seeds:
        return "no config.json of its training lies beside each"
    if len(set(seeds)) < len(seeds):
        return f"their seeds are {', '.join(map(str, seeds))}"
    flags = [run.flags for run in same]
    keys = dict.fromkeys(key for of_run in flags for key in of_run)
    other = [k for k in keys if any(f.get(k) != flags[0].get(k) for f in flags)]
    return f"they were trained with different --{', --'.join(other)}" if other else ""


def _alone(run, same) -> str:
    """The name of a run that shares its model's with others."""
    for call in (
        lambda r: r.file.stem,
        lambda r: r.file.parent.name,
        lambda r: str(r.file),
    ):
        if len({call(other) for other in same}) == len(same):
            break
    return f"{run.name} ({call(run)})"


def _notes(comparison) -> list[str]:
    """What keeps a comparison from being complete."""
    notes = []
    several = {name: len(runs) for name, runs in comparison.models.items()}
    for name, runs in comparison.models.items():
        lost = {
            "fingerprint": "that its images are those of the others is not known",
            "correct": "it has no worst case",
            "checks": "nothing was checked",
        }
        lost = [v for k, v in lost.items() if any(k not in run.result for run in runs)]
        if lost:
            notes.append(f"{name} comes from an older version: {', '.join(lost)}.")
        if several[name] != several[comparison.baseline]:
            notes.append(
                f"{name} has {several[name]} seeds and {comparison.baseline} "
                f"{several[comparison.baseline]}: differences without a test."
            )
        some = [
            column.heading
            for column in comparison.columns
            if any(column in run.accuracies for run in runs)
            and not comparison.cell(name, column)
        ]
        if some:
            notes.append(f"Not all seeds of {name} have {', '.join(some)}: left out.")
    clashing = [
        column.heading
        for column in comparison.columns
        if comparison.label(column) != column.heading
    ]
    if clashing:
        notes.append(
            f"Evaluated with different settings, a column for each: "
            f"{', '.join(dict.fromkeys(clashing))}."
        )
    seeds = {str(run.result.get("seed")) for run in comparison.runs}
    if len(seeds) > 1:
        listed = ", ".join(sorted(seeds))
        notes.append(f"Noise and random starts were drawn from other seeds: {listed}.")
    return notes
