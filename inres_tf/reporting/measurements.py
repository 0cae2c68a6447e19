"""Finding result files of several models and taking them apart by column."""

import base64
import dataclasses
import json
import os
import pathlib
import statistics

import numpy as np

from inres_tf.errors import UserError
from inres_tf.evaluation import results
from inres_tf.training.config import CHANGEABLE_ON_RESUME
from inres_tf.training.run_folder import CONFIG

_RESULT = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class Column:
    """What an accuracy is of. Only those of equal columns are ever compared.

    Attributes:
        group: `clean`; `corruption`, a mean over severities; `mCA`, the mean over all
            corruptions; `mCE`, the mean corruption error, of which less is better;
            `severity`, of one corruption; `attack`; or `worst`, all attacks of a ball.
        heading: its name for people, such as `pgd 8`.
        settings: what must be alike too, for people, such as `20 steps of 1/255`.
        curve: what it is a point of, such as `pgd`.
        strength: where on that curve: ε in 1/255, or the severity.
    """

    group: str
    heading: str
    settings: str = ""
    curve: str = ""
    strength: float = 0.0


CLEAN = Column("clean", "clean")


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """One result file.

    Attributes:
        name: the model's, or that given to it.
        file: where it was read.
        seed: of its training; None where that is not known.
        flags: those of its training but for the seed, or None.
        result: what the file holds.
        accuracies: by column, in [0, 1].
        right: by column, how many answers about each image are right, (number,): 0 or
            1, or up to the number of corrupted sets of which the column is the mean.
    """

    name: str
    file: pathlib.Path
    seed: int | None
    flags: dict | None
    result: dict
    accuracies: dict[Column, float]
    right: dict[Column, np.ndarray]


def read_measurements(arguments) -> list[EvaluatedRun]:
    """Reads result files.

    Args:
        arguments: each RUN or NAME=RUN. A RUN is a file of `train.evaluate --output`,
            a run's folder, which holds `evaluation.json`, or one with such below it.

    Returns:
        The runs in the order of the arguments, each file once. A NAME replaces the
        model's or, where its RUN holds several models, stands before it.

    Raises:
        UserError: if there is no result, or a file is damaged or something else.
    """
    found = {}
    for argument in map(str, arguments):
        name, path = _split(argument)
        read = [_read(file) for file in _files(path)]
        several = len({run.name for run in read}) > 1
        for run in read:
            if name:
                new = f"{name} {run.name}" if several else name
                run = dataclasses.replace(run, name=new)
            found.setdefault(run.file.resolve(), run)
    return list(found.values())


def _split(argument) -> tuple[str, pathlib.Path]:
    """NAME and RUN of an argument; an empty name where it has none."""
    name, equals, path = argument.partition("=")
    if equals and "/" not in name and not pathlib.Path(argument).exists():
        if not name or not path:
            raise UserError(f"{argument!r} is not NAME=RUN")
        return name, pathlib.Path(path)
    return "", pathlib.Path(argument)


def _files(path) -> list[pathlib.Path]:
    """The result files that a path means."""
    if not path.is_dir():
        return [path]
    found = []
    for folder, below, names in os.walk(path):
        below.sort()
        if _RESULT in names:
            below.clear()
            found.append(pathlib.Path(folder, _RESULT))
    if not found:
        raise UserError(
            f"{path} holds no {_RESULT}, which train.reproduce leaves; name a file of "
            "train.evaluate --output"
        )
    return found


def _read(file) -> EvaluatedRun:
    """A result file with all that is derived from it."""
    result = results.read(file)
    try:
        accuracies, right = _measured(result)
        _check_shown(result)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{file} is damaged: {problem}") from error
    seed, flags = _training(file.parent)
    return EvaluatedRun(
        str(result["model"]), file, seed, flags, result, accuracies, right
    )


def _training(folder) -> tuple[int | None, dict | None]:
    """Seed and other flags of the training whose `config.json` lies in a folder."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        flags = {
            k: v for k, v in config["flags"].items() if k not in CHANGEABLE_ON_RESUME
        }
        return int(flags.pop("seed")), flags
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None


def _measured(result):
    """Accuracies and right answers by column."""
    number, packed = result["num_examples"], result.get("correct", {})
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"num_examples is {number!r}")
    accuracies, right = {}, {}
    for column, accuracy, keys in _columns(result):
        bounded = column.group == "mCE" or accuracy <= 1
        if not (accuracy >= 0 and bounded):
            raise ValueError(f"accuracy {accuracy} of {column.heading}")
        accuracies[column] = float(accuracy)
        if keys and set(keys) <= set(packed):
            right[column] = sum(
                results.unpack(packed[key], number).astype(int) for key in keys
            )
            answered = right[column].sum() / (number * len(keys))
            if abs(answered - accuracy) > 0.5 / number:
                raise ValueError(
                    f"its answers give {column.heading} an accuracy of {answered:g}, "
                    f"and it says {accuracy:g}"
                )
    if "clean" in packed:
        correct = {key: results.unpack(text, number) for key, text in packed.items()}
        for column, rows in _balls(result).items():
            if all(results.attack_key(row) in correct for row in rows):
                right[column] = results.robust(correct, rows).astype(int)
                accuracies[column] = float(right[column].mean())
    return accuracies, right


def _columns(result):
    """(column, accuracy, keys of the answers of which it is the mean) of a result."""
    yield CLEAN, result["clean"]["accuracy"], ["clean"]
    source = result.get("corruption_source", "generated")
    means, described, sets = [], [], []
    for name, by_severity in result.get("corruptions", {}).items():
        curve, keys = name.removesuffix("_noise"), []
        for severity in (s for s in by_severity if s != "mean"):
            keys.append(results.corruption_key(name, severity))
            heading = f"{curve} {severity}"
            column = Column("severity", heading, source, curve, float(severity))
            yield column, by_severity[severity], keys[-1:]
        severities = f"severities {', '.join(s for s in by_severity if s != 'mean')}"
        settings = f"{source}, {severities}"
        means.append(by_severity["mean"])
        severe = [a for s, a in by_severity.items() if s != "mean"]
        if severe and abs(means[-1] - statistics.fmean(severe)) > 1e-6:
            raise ValueError(f"the mean of {name} is not that of its severities")
        described.append(f"{curve}: {severities}")
        sets.append(keys)
        yield Column("corruption", curve, settings, curve), means[-1], keys
    if means:
        settings = f"{source}; {'; '.join(described)}"
        # The mean over sets is that over corruptions only if each has as many.
        alike = len(set(map(len, sets))) == 1
        keys = [key for keys in sets for key in keys] if alike else []
        yield Column("mCA", "mCA", settings), statistics.fmean(means), keys
        if "mce" in result:
            settings += f"; baseline {result.get('baseline', 'not named')}"
            yield Column("mCE", "mCE", settings), result["mce"], []
    for row in result.get("attacks", []):
        yield _attack(row), row["accuracy"], [results.attack_key(row)]


def _ball(row) -> tuple[str, float]:
    """The norm of an attack's ball as a heading has it, L∞ being understood; and ε."""
    norm = row.get("norm", "linf")
    return "" if norm == "linf" else f" {norm.replace('l', 'L')}", float(row["eps"])


# What a column or the description of its attack says otherwise.
_SAID = {
    *("name", "eps", "norm", "accuracy", "after"),
    *("steps", "step_size", "queries", "restarts", "early_stop"),
}


def _attack(row) -> Column:
    norm, eps = _ball(row)
    settings = "own attack"
    if row["steps"] is not None:
        settings = f"{row['steps']} step{'s' * (row['steps'] != 1)}"
    if row["step_size"] is not None:
        settings += f" of {row['step_size']:g}/255"
    if row.get("restarts", 1) != 1:
        settings += f", {row['restarts']} restarts"
    if not row.get("early_stop", True):
        settings += ", all of them"
    for name in sorted(set(row) - _SAID):
        if row[name] not in ([], (), None):
            settings += f", {name} {row[name]}"
    curve = f"{row['name']}{norm}"
    return Column("attack", f"{curve} {eps:g}", settings, curve, eps)


def _balls(result) -> dict[Column, list[dict]]:
    """The attacks of each ball, by the column of their worst case."""
    balls = {}
    for row in result.get("attacks", []):
        balls.setdefault(_ball(row), []).append(row)
    found = {}
    for (norm, eps), rows in balls.items():
        columns = [_attack(row) for row in rows]
        settings = "; ".join(f"{c.curve}: {c.settings}" for c in columns)
        curve = f"worst{norm}"
        found[Column("worst", f"{curve} {eps:g}", settings, curve, eps)] = rows
    return found


def _check_shown(result) -> None:
    """Raises if what else the report shows of a result is not as it should be."""
    for sample in result.get("samples", []):
        for name in ("clean", "adversarial", "perturbation"):
            base64.b64decode(sample[name], validate=True)
        for name in ("eps", "largest", "index", "label", "predicted"):
            sample[name] + 0.0
        sample["attack"], sample["norm"].strip()
    for check in result.get("checks", []):
        check["name"], check["raised"], check["message"]
    for rate in result.get("lambda", {}).values():
        rate + 0.0
    result.get("versions", {}).items()
