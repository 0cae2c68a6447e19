"""Comparison of results: grouping, confidence intervals, differences with tests."""

import collections
import dataclasses
import functools
import statistics
from collections.abc import Iterable
from typing import Any

from inres_tf.errors import UserError
from inres_tf.reporting.measurements import CLEAN, Column, EvaluatedRun
from inres_tf.reporting.statistics import holm, over_images, over_seeds, wilson

LEVEL = 0.95
# The columns that the verdict is about.
HEADLINE = ("clean", "mCA", "worst", "certificate")
_GROUPS = (
    *("clean", "mCA", "mCE", "worst", "corruption", "attack"),
    *("certificate", "severity", "certified_curve"),
)
# What results must have in common to be compared.
_SHARED = ("dataset", "protocol", "num_examples", "fingerprint")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model's accuracy in one column.

    Attributes:
        accuracies: accuracies in [0, 1], one per seed.
        low: lower end of Wilson's 95% interval; of several seeds, mean − s.d.
        high: upper end of Wilson's 95% interval; of several seeds, mean + s.d.
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
    """Difference of a model's accuracy from the baseline's on the same images.

    Attributes:
        model: name of the model.
        column: what was measured.
        points: its accuracy minus the baseline's, in [-1, 1].
        better: number of images on which it has more correct answers than the baseline;
            None if the answers are unknown.
        worse: number of images on which it has fewer; None if they are unknown.
        p: p value of the test; None without a test.
        adjusted: p value adjusted by Holm's method for all tests over images of the
            comparison. Of the tests over seeds, which need large differences, those of
            the `HEADLINE` groups are adjusted for each other, and so are the others.
        test: if both models have one seed, `"McNemar"`, or `"t over images"` for means
            over several versions of each image; `"paired t"` over the seeds if they
            have the same ones; otherwise `"Welch t"`. Empty without a test.
        low: lower end of the 95% interval of the mean difference over seeds, or None.
        high: its upper end, or None.
        by_seed: differences of the same seeds; empty if they differ.
    """

    model: str
    column: Column
    points: float
    better: int | None = None
    worse: int | None = None
    p: float | None = None
    adjusted: float | None = None
    test: str = ""
    low: float | None = None
    high: float | None = None
    by_seed: tuple[float, ...] = ()

    @property
    def significant(self) -> bool:
        """Whether the adjusted p value is below 0.05."""
        return self.adjusted is not None and self.adjusted < 1 - LEVEL

    @property
    def over_images(self) -> bool:
        """Whether the test is over images, not over seeds."""
        return self.test in ("McNemar", "t over images")


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Models evaluated on the same images with the same protocol.

    Attributes:
        models: the runs of each model, by its name; one run per seed of its training.
        baseline: name of the model that the others are compared with.
        notes: remarks for the reader, one sentence each.
    """

    models: dict[str, list[EvaluatedRun]]
    baseline: str
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def runs(self) -> list[EvaluatedRun]:
        """The runs of all models."""
        return [run for runs in self.models.values() for run in runs]

    @property
    def title(self) -> str:
        """Data set, number of images and protocol."""
        first = self.runs[0].result
        return (
            f"{first['dataset']}, {first['num_examples']} images, "
            f"{first['protocol']} protocol"
        )

    @functools.cached_property
    def columns(self) -> list[Column]:
        """The columns of all models, sorted by group, curve and strength."""
        columns = dict.fromkeys(c for run in self.runs for c in run.accuracies)
        curves = list(dict.fromkeys(column.curve for column in columns))
        return sorted(
            columns,
            key=lambda c: (_GROUPS.index(c.group), curves.index(c.curve), c.strength),
        )

    def label(self, column: Column) -> str:
        """Heading of a column, with its settings if other columns share the heading."""
        same = [c for c in self.columns if _named(c) == _named(column)]
        alone = len(same) == 1
        return column.heading if alone else f"{column.heading} ({column.settings})"

    def cell(self, model: str, column: Column) -> Cell | None:
        """Accuracy of a model, or None unless all of its seeds have the column."""
        runs = self.models[model]
        if not all(column in run.accuracies for run in runs):
            return None
        accuracies = tuple(run.accuracies[column] for run in runs)
        mean = statistics.fmean(accuracies)
        if len(accuracies) > 1:
            deviation = statistics.stdev(accuracies)
            return Cell(accuracies, mean - deviation, mean + deviation)
        if column.group == "mCE":
            return Cell(accuracies, mean, mean)
        number = runs[0].result["num_examples"]
        return Cell(accuracies, *wilson(mean * number, number, LEVEL))

    def curves(self, group: str) -> dict[str, dict[str, dict[float, Cell]]]:
        """Cells of a group by title of the curve, by model and by strength.

        Strength 0 is clean. Models evaluated with different settings have separate
        curves, whose titles include the settings.
        """
        settings: dict[str, dict[float, str]] = {}
        curves: dict[str, dict[str, dict[float, Cell]]] = {}
        for model in self.models:
            points: dict[str, dict[float, tuple[Column, Cell]]] = {}
            for column in self.columns:
                cell = self.cell(model, column)
                if column.group == group and cell:
                    points.setdefault(column.curve, {})[column.strength] = column, cell
            clean = self.cell(model, CLEAN)
            start = {0.0: clean} if clean else {}
            for title, by_strength in points.items():
                own = {s: column.settings for s, (column, _) in by_strength.items()}
                known = settings.get(title, {})
                if any(known.get(s, text) != text for s, text in own.items()):
                    title = f"{title} ({_described(own)})"
                settings.setdefault(title, {}).update(own)
                cells = {s: cell for s, (_, cell) in by_strength.items()}
                curves.setdefault(title, {})[model] = start | cells
        return curves

    @functools.cached_property
    def differences(self) -> list[Difference]:
        """Differences of all models from the baseline, with adjusted p values."""
        differences = []
        for model in self.models:
            for column in self.columns if model != self.baseline else ():
                cell, base = (self.cell(m, column) for m in (model, self.baseline))
                untested = column.group in ("severity", "mCE", "certified_curve")
                if untested or not cell or not base:
                    continue
                points = cell.mean - base.mean
                tested = self._tested(model, column)
                differences.append(Difference(model, column, points, **tested))
        families: dict[bool | None, dict[int, float]] = collections.defaultdict(dict)
        for i, row in enumerate(differences):
            if row.p is not None:
                headline = row.column.group in HEADLINE
                families[None if row.over_images else headline][i] = row.p
        for family in families.values():
            for i, p in zip(family, holm([*family.values()])):
                differences[i] = dataclasses.replace(differences[i], adjusted=p)
        return differences

    def _tested(self, model, column) -> dict[str, Any]:
        """Fields of the difference from the baseline that depend on a test."""
        ours, base = self.models[model], self.models[self.baseline]
        fields: dict[str, Any] = {}
        prints = {run.result.get("fingerprint") for run in (*ours, *base)}
        known = all(column in run.right for run in (*ours, *base))
        # With unequal numbers of seeds, fewer of the more are all correct or all wrong.
        if known and len(prints) == 1 and None not in prints and len(ours) == len(base):
            images = over_images(
                sum(run.right[column] for run in ours),
                sum(run.right[column] for run in base),
            )
            fields = {"better": images.better, "worse": images.worse}
            if len(ours) == 1:
                fields |= {"p": images.p, "test": images.name}
        first, second = ([run.accuracies[column] for run in x] for x in (ours, base))
        paired = [run.seed for run in ours] == [run.seed for run in base]
        test = over_seeds(first, second, paired, LEVEL)
        if test:
            fields |= {"p": test.p, "test": test.name, "low": test.low}
            fields |= {"high": test.high}
        if paired and len(ours) > 1:
            fields["by_seed"] = tuple(a - b for a, b in zip(first, second))
        return fields

    @property
    def raised(self) -> list[str]:
        """Messages of the evaluations' checks that raised a warning, with the model."""
        return [f"{of}: {c['name']}: {c['message']}" for of, c in self.findings]

    @property
    def findings(self) -> list[tuple[str, dict]]:
        """Checks that raised a warning, each after the name of the network."""
        return [
            (f"{name}{_of_seed(run)}", check)
            for name, runs in self.models.items()
            for run in runs
            for check in run.result.get("checks", [])
            if check["raised"]
        ]

    def as_json(self) -> dict:
        """All numbers of the comparison, ready for JSON."""
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
    """Settings by strength, in short."""
    if len(set(settings.values())) == 1:
        return next(iter(settings.values()))
    return ", ".join(f"{strength:g}: {text}" for strength, text in settings.items())


def _of_seed(run) -> str:
    return "" if run.seed is None else f", seed {run.seed}"


def _numbers(cell, column) -> dict:
    """A cell for JSON, with its interval or the standard deviation over seeds."""
    numbers = {"mean": cell.mean, "by_seed": list(cell.accuracies)}
    if len(cell.accuracies) > 1:
        return numbers | {"standard_deviation": statistics.stdev(cell.accuracies)}
    if column.group == "mCE":
        return numbers
    return numbers | {"low": cell.low, "high": cell.high}


def compare(
    runs: Iterable[EvaluatedRun],
    baseline: str | None = None,
    allow_different: bool = False,
) -> list[Comparison]:
    """Groups runs that may be compared.

    Runs with the same name are seeds of one model if their trainings are known to
    differ only in the seed. Otherwise each is a model of its own, named after its file
    as well.

    Args:
        runs: the runs, as `read_measurements` returns them.
        baseline: name of the model that the others are compared with, which comes
            first. By default, and in comparisons without that model, the first without
            damping, or else the first one.
        allow_different: whether runs on different images or with different protocols
            are put into separate comparisons, instead of raising an error.

    Returns:
        The comparisons; exactly one unless `allow_different`.

    Raises:
        UserError: if runs were evaluated on different images or with different
            protocols, naming two of them and the difference, or if no model is called
            `baseline`.

    Example:
        >>> import json, pathlib
        >>> from inres_tf import reporting
        >>> for model, accuracy in (("resnet20", 0.91), ("in_resnet20", 0.90)):
        ...     result = {"model": model, "dataset": "cifar10", "num_examples": 100,
        ...               "protocol": "standard", "clean": {"accuracy": accuracy}}
        ...     _ = pathlib.Path(f"{model}.json").write_text(json.dumps(result))
        >>> runs = reporting.read_measurements(["resnet20.json", "in_resnet20.json"])
        >>> (comparison,) = reporting.compare(runs)
        >>> comparison.title
        'cifar10, 100 images, standard protocol'
        >>> [(d.model, round(d.points, 2)) for d in comparison.differences]
        [('in_resnet20', -0.01)]
    """
    parts: list[list[EvaluatedRun]] = []
    for run in runs:
        conflicts = [_conflict(part, run) for part in parts]
        if None in conflicts:
            parts[conflicts.index(None)].append(run)
        elif conflicts and conflicts[0] and not allow_different:
            other, difference = conflicts[0]
            raise UserError(
                f"{other.file} and {run.file} cannot be compared: they differ in "
                f"{difference}; use --allow_different to report them separately"
            )
        else:
            parts.append([run])
    comparisons = []
    for part in parts:
        models, notes = _by_model(part)
        undamped = (name for name, of_model in models.items() if _undamped(of_model[0]))
        first = next(undamped, next(iter(models)))
        chosen = baseline if baseline in models else first
        models = {chosen: models[chosen]} | models  # the baseline comes first
        comparison = Comparison(models, chosen, notes)
        notes += _notes(comparison)
        comparisons.append(comparison)
    names = [name for comparison in comparisons for name in comparison.models]
    if baseline and baseline not in names:
        raise UserError(f"--baseline must be one of {', '.join(names)}; got {baseline}")
    return comparisons


def _undamped(run) -> bool:
    """Whether a network is known to have neither damped nor missing shortcuts."""
    facts = run.result.get("model_facts", {})
    return run.result.get("lambda") == {} and "plain" not in facts.get("dampings", ())


def _conflict(part, run) -> tuple[EvaluatedRun, str] | None:
    """A run in `part` that `run` cannot be compared with, and why; None if none."""
    for other in part:
        prints = [r.result.get("fingerprint") for r in (other, run)]
        same_images = prints[0] == prints[1] is not None
        for key in _SHARED:
            first, second = (r.result.get(key) for r in (other, run))
            if key == "dataset" and same_images:
                continue  # one folder may have several paths
            # Older files have no fingerprint, as a note says.
            if first != second and not (
                key == "fingerprint" and None in (first, second)
            ):
                name = "the images' fingerprint" if key == "fingerprint" else key
                return other, f"{name} ({first} and {second})"
    return None


def _by_model(runs) -> tuple[dict[str, list[EvaluatedRun]], list[str]]:
    """Runs by model, and notes on runs with the same name that are not seeds."""
    by_name = collections.defaultdict(list)
    for run in runs:
        by_name[run.name].append(run)
    models, notes = {}, []
    for name, same in by_name.items():
        reason = _no_seeds(same)
        if not reason:
            models[name] = sorted(same, key=lambda run: run.seed or 0)
            continue
        notes.append(
            f"The results of {name} are not treated as seeds of one model: {reason}."
        )
        for run in same:
            models[_unique_name(run, same)] = [run]
    return models, notes


def _no_seeds(same) -> str:
    """Why runs with the same name are not seeds of one model; empty if they are."""
    seeds = [run.seed for run in same]
    if len(same) == 1:
        return ""
    if None in seeds:
        return "the config.json of their training is not next to all of them"
    if len(set(seeds)) < len(seeds):
        return f"their seeds are {', '.join(map(str, seeds))}"
    flags = [run.flags for run in same]
    keys = dict.fromkeys(key for of_run in flags for key in of_run)
    other = [k for k in keys if any(f.get(k) != flags[0].get(k) for f in flags)]
    return f"they were trained with different --{', --'.join(other)}" if other else ""


def _unique_name(run, same) -> str:
    """A name that tells a run from others of the same name."""
    for describe in (
        lambda r: r.file.stem,
        lambda r: r.file.parent.name,
        lambda r: str(r.file),
    ):
        if len({describe(other) for other in same}) == len(same):
            break
    return f"{run.name} ({describe(run)})"


def _notes(comparison) -> list[str]:
    """What limits a comparison, one sentence each."""
    notes = []
    seeds = {name: len(runs) for name, runs in comparison.models.items()}
    missing = {
        "fingerprint": "its images may differ from those of the others",
        "correct": "it has no worst case",
        "checks": "no checks were run",
    }
    baseline = comparison.baseline
    for name, runs in comparison.models.items():
        effects = [
            effect
            for key, effect in missing.items()
            if any(key not in run.result for run in runs)
        ]
        if effects:
            notes.append(
                f"{name} was evaluated by an older version: {', '.join(effects)}."
            )
        images = sorted({run.trained_on or "unknown" for run in runs})
        if len(images) > 1:
            notes.append(
                f"The seeds of {name} were not all trained on the same images, as far "
                f"as is recorded: their fingerprints are {', '.join(images)}."
            )
        if seeds[name] != seeds[baseline] and 1 in (seeds[name], seeds[baseline]):
            notes.append(
                f"{name} has {seeds[name]} seed{'s' * (seeds[name] > 1)} and "
                f"{baseline} {seeds[baseline]}: "
                "their differences are not tested."
            )
        incomplete = [
            column.heading
            for column in comparison.columns
            if any(column in run.accuracies for run in runs)
            and not comparison.cell(name, column)
            and column.group != "certified_curve"
        ]
        if incomplete:
            notes.append(
                f"Not all seeds of {name} have "
                f"{', '.join(dict.fromkeys(incomplete))}: left out."
            )
    clashing = [
        column.heading
        for column in comparison.columns
        if comparison.label(column) != column.heading
        and column.group != "certified_curve"
    ]
    if clashing:
        notes.append(
            "Evaluated with different settings, in separate columns: "
            f"{', '.join(dict.fromkeys(clashing))}."
        )
    unchanged = {
        name: severities
        for run in comparison.runs
        for name, severities in run.result.get("unchanged_corruptions", {}).items()
    }
    if unchanged:
        listed = "; ".join(f"{k} at {', '.join(v)}" for k, v in unchanged.items())
        notes.append(
            f"Severities at which a corruption changes no image: {listed}. If it "
            "changes none at any, it does not count in the mean."
        )
    evaluation_seeds = {str(run.result.get("seed")) for run in comparison.runs}
    if len(evaluation_seeds) > 1:
        listed = ", ".join(sorted(evaluation_seeds))
        notes.append(f"Noise and random starts were drawn with seeds {listed}.")
    return notes
