"""What a comparison shows, in words."""

import itertools
from collections.abc import Iterable

from inres_tf.reporting.comparison import HEADLINE, Comparison, Difference
from inres_tf.reporting.measurements import Column


def verdict(found: Comparison) -> list[str]:
    """What a comparison shows and what it rests on, in words.

    A model is only called better or worse where the difference from the baseline is
    significant.

    Args:
        found: a comparison, as `inres_tf.reporting.compare` returns.

    Returns:
        Sentences, of which the first is the headline: which models differ
        significantly from the baseline, the highest accuracies, differences that all
        seeds agree on without being significant, and the tests.

    Example:
        >>> import json, pathlib
        >>> from inres_tf import reporting
        >>> result = {"model": "resnet20", "dataset": "cifar10", "num_examples": 100,
        ...           "protocol": "standard", "clean": {"accuracy": 0.91}}
        >>> _ = pathlib.Path("result.json").write_text(json.dumps(result))
        >>> (found,) = reporting.compare(reporting.read_measurements(["result.json"]))
        >>> reporting.verdicts.verdict(found)
        ['resnet20 has a clean accuracy of 91.0%.']
    """
    if len(found.models) == 1:
        return [_single(found)]
    rows = [d for d in found.differences if d.column.group in HEADLINE]
    lines = [_headline(found, rows), *_best(found)]
    agreed = [d for d in rows if not d.significant and _agree(d)]
    by_seeds = _grouped(agreed, lambda d: (len(d.by_seed), d.p is None))
    for (seeds, untested), part in by_seeds:
        if untested:
            text = "Equal for every seed, and therefore not tested:"
        else:
            text = (
                f"Not significant, but with the same sign for all {seeds} seeds (by "
                f"chance alone, one comparison in {2 ** (seeds - 1)} is):"
            )
        lines.append(f"{text} {_clauses(found, part)}.")
    return lines + _basis(found, rows)


def _clauses(found, rows: list[Difference]) -> str:
    """In what each model is higher or lower than the baseline."""
    return "; ".join(
        f"{model} is {'higher' if higher else 'lower'} than {found.baseline} in "
        f"{in_words([d.column for d in part])}"
        for (model, higher), part in _grouped(rows, lambda d: (d.model, d.points > 0))
    )


def in_words(columns: list[Column], conjunction: str = "and") -> str:
    """Names what was measured, such as "accuracy under attack at ε = 8 and 16/255".

    Args:
        columns: columns of a comparison.
        conjunction: word in front of the last one.
    """
    parts = []
    for (group, curve), part in _grouped(columns, lambda c: (c.group, c.curve)):
        radii = listed(dict.fromkeys(f"{c.strength:g}" for c in part))
        ball = f"L2 radius {radii}/255" if curve.endswith("L2") else f"ε = {radii}/255"
        names = {
            "clean": "clean accuracy",
            "mCA": "mean corruption accuracy",
            "worst": f"accuracy under attack at {ball}",
            "certificate": f"{curve} accuracy at L2 radius {radii}/255",
        }
        parts.append(names.get(group, listed(c.heading for c in part)))
    return listed(parts, conjunction)


def listed(parts: Iterable[str], conjunction: str = "and") -> str:
    """Joins parts of a sentence by commas and a conjunction."""
    *first, last = parts
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def _grouped(items, key) -> list[tuple]:
    """Items with equal keys, by key, in the order of the keys' first appearance."""
    order = {k: i for i, k in enumerate(dict.fromkeys(map(key, items)))}
    by_key = sorted(items, key=lambda item: order[key(item)])
    return [(k, list(part)) for k, part in itertools.groupby(by_key, key)]


def _single(found) -> str:
    """The accuracies of the only model."""
    model = found.baseline
    columns = [c for c in found.columns if c.group in HEADLINE]
    cells = [(c, found.cell(model, c)) for c in columns]
    parts = [
        f"a{'n' if in_words([c])[0] in 'aeiou' else ''} {in_words([c])} of "
        f"{100 * cell.mean:.1f}%"
        for c, cell in cells
        if cell
    ]
    return f"{model} has {listed(parts)}."


def _headline(found, rows: list[Difference]) -> str:
    """Which models are significantly better or worse than the baseline, and where."""
    if not any(d.p is not None for d in rows):
        return (
            f"Whether the networks differ from {found.baseline} was not tested: the "
            "accuracies alone do not show it."
        )
    models: dict[str, list[str]] = {}  # by what is said of them
    for model, part in _grouped([d for d in rows if d.significant], lambda d: d.model):
        clauses = [
            f"{word} than {found.baseline} in {in_words(columns)}"
            for word, columns in (
                ("better", [d.column for d in part if d.points > 0]),
                ("worse", [d.column for d in part if d.points < 0]),
            )
            if columns
        ]
        models.setdefault(", but ".join(clauses), []).append(model)
    sentences = [
        f"{listed(names)} {'is' if len(names) == 1 else 'are'} significantly {clauses}."
        for clauses, names in models.items()
    ]
    tested = dict.fromkeys(d.model for d in rows if d.p is not None)
    different = {name for names in models.values() for name in names}
    columns = list(dict.fromkeys(d.column for d in rows if d.p is not None))
    others: dict[tuple[Column, ...], list[str]] = {}  # by what was tested
    for name in tested:
        if name not in different:
            own = tuple(d.column for d in rows if d.model == name and d.p is not None)
            others.setdefault(own, []).append(name)
    if not sentences and len(others) == 1:
        sentences.append(
            f"No network differs significantly from {found.baseline} in "
            f"{in_words(columns, 'or')}."
        )
    else:
        for own, names in others.items():
            verb = "does" if len(names) == 1 else "do"
            where = "" if len(own) == len(columns) else f" in {in_words([*own], 'or')}"
            sentences.append(
                f"{listed(names)} {verb} not differ significantly from "
                f"{found.baseline}{where}."
            )
    unknown = [m for m in found.models if m not in (found.baseline, *tested)]
    if unknown:
        verb = "was" if len(unknown) == 1 else "were"
        sentences.append(f"{listed(unknown)} {verb} not tested.")
    return " ".join(sentences)


def _best(found) -> list[str]:
    """The model with the highest clean, corrupted and worst-case accuracy."""
    columns: dict[tuple[str, str], list[Column]] = {}
    for column in found.columns:
        if column.group in HEADLINE and column.curve != "attacked":
            columns.setdefault((column.group, column.curve), []).append(column)
    parts = []
    for same in columns.values():
        strengths = [column.strength for column in same]
        if len(strengths) > len(set(strengths)):
            continue  # evaluated with different settings, so nothing is highest
        # The largest radius at which the tables show different accuracies, if any.
        for column in reversed(same):
            cells = {m: found.cell(m, column) for m in found.models}
            shown = {m: f"{100 * cell.mean:.1f}" for m, cell in cells.items() if cell}
            if len(set(shown.values())) > 1:
                break
        if len(shown) < 2:
            continue
        highest = max(shown.values(), key=float)
        best = [m for m, text in shown.items() if text == highest]
        names = listed(best) if len(best) < len(shown) else "all equal"
        parts.append(f"{in_words([column])}: {names} ({highest}%)")
    return [f"Highest {'; '.join(parts)}."] if parts else []


def _agree(row: Difference) -> bool:
    """Whether the difference has the same sign for all of several seeds."""
    return len(row.by_seed) > 1 and (
        all(d > 0 for d in row.by_seed) or all(d < 0 for d in row.by_seed)
    )


def _basis(found, rows: list[Difference]) -> list[str]:
    """What the tests are about."""
    over_images = {d.over_images for d in rows if d.test}
    lines = []
    if True in over_images:
        number = found.runs[0].result["num_examples"]
        lines.append(
            f"Tested over {number} images with one network each: this is about these "
            "networks, not about others trained the same way."
        )
    if False in over_images:
        seeds = sorted({len(runs) for runs in found.models.values() if len(runs) > 1})
        lines.append(
            f"Tested over {listed(map(str, seeds))} seeds, not over images: this is "
            "about training with any seed, evaluated on these images. Few seeds show "
            "only differences that are large compared with their spread over the "
            "seeds: without significance, the networks need not be equal."
        )
    return lines
