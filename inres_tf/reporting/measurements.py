"""Result files of evaluations, read into accuracies by column."""

import base64
import dataclasses
import json
import os
import pathlib
import statistics
from collections.abc import Iterable

import numpy as np

from inres_tf import corruptions, files
from inres_tf.errors import UserError
from inres_tf.evaluation import results
from inres_tf.training.config import CHANGEABLE_ON_RESUME, TrainConfig
from inres_tf.training.run_folder import CONFIG

_RESULT = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class Column:
    """What an accuracy was measured on. Only equal columns are compared.

    Attributes:
        group: `clean`; `corruption`, the mean over the severities of one corruption;
            `mCA`, the mean over all corruptions; `mCE`, the mean corruption error (less
            is better); `severity`, one severity of one corruption; `attack`; `worst`,
            all attacks within a ball; `certificate`, certified at a radius or robust to
            the attack beside it; or `certified_curve`, one point of the whole curve.
        heading: heading in tables, such as `pgd 8`.
        settings: settings that must be equal too, such as `20 steps of 1/255`.
        curve: name of the curve that it is a point of, such as `pgd`.
        strength: position on the curve: ε or radius in 1/255, or the severity.
    """

    group: str
    heading: str
    settings: str = ""
    curve: str = ""
    strength: float = 0.0


CLEAN = Column("clean", "clean")


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """The evaluation of one trained model.

    Attributes:
        name: name of the model, or the one given in its place.
        file: the result file.
        seed: seed of its training; None if unknown.
        flags: the other flags of its training, without those that may change when it
            is resumed; None if unknown.
        trained_on: fingerprint of the images of its training; None if unknown.
        result: content of the file.
        accuracies: accuracies in [0, 1] by column.
        right: number of correct answers per image by column, (number,): at most 1, or
            the number of corrupted sets if the column is a mean over several.
    """

    name: str
    file: pathlib.Path
    seed: int | None
    flags: dict | None
    trained_on: str | None
    result: dict
    accuracies: dict[Column, float]
    right: dict[Column, np.ndarray]


def read_measurements(
    arguments: Iterable[str | os.PathLike[str]],
) -> list[EvaluatedRun]:
    """Reads the results of evaluations.

    Args:
        arguments: each RUN or NAME=RUN. RUN is a file of `train.evaluate --output`, a
            run's folder, which contains `evaluation.json`, or a folder with such
            folders below it. NAME replaces the model's name or, if RUN contains several
            models, is put in front of theirs.

    Returns:
        The runs in the order of the arguments, each file once.

    Raises:
        UserError: if there is no result, or a file is damaged or not a result.

    Example:
        >>> import json, pathlib
        >>> from inres_tf import reporting
        >>> result = {"model": "resnet20", "dataset": "cifar10", "num_examples": 100,
        ...           "protocol": "standard", "clean": {"accuracy": 0.91}}
        >>> _ = pathlib.Path("result.json").write_text(json.dumps(result))
        >>> (run,) = reporting.read_measurements(["baseline=result.json"])
        >>> run.name, list(run.accuracies.values())
        ('baseline', [0.91])
    """
    runs: dict[pathlib.Path, EvaluatedRun] = {}
    for argument in map(str, arguments):
        name, path = _split(argument)
        read = [_read(file) for file in _files(path)]
        several = len({run.name for run in read}) > 1
        for run in read:
            if name:
                new = f"{name} {run.name}" if several else name
                run = dataclasses.replace(run, name=new)
            runs.setdefault(run.file.resolve(), run)
    return list(runs.values())


def _split(argument) -> tuple[str, pathlib.Path]:
    """Splits NAME=RUN; NAME is empty if the argument is only RUN."""
    if not argument:
        raise UserError("a RUN is an empty text")
    name, equals, path = argument.partition("=")
    if equals and "/" not in name and not pathlib.Path(argument).exists():
        if not name or not path:
            raise UserError(f"arguments must be RUN or NAME=RUN; got {argument!r}")
        return name, pathlib.Path(files.expand(path))
    return "", pathlib.Path(files.expand(argument))


def _files(path) -> list[pathlib.Path]:
    """The result file at a path, or those in and below a folder."""
    if not path.is_dir():
        return [path]
    files = []
    for folder, below, names in os.walk(path):
        below.sort()
        if _RESULT in names:
            below.clear()
            files.append(pathlib.Path(folder, _RESULT))
    if not files:
        raise UserError(
            f"{path} holds no {_RESULT}, which train.reproduce writes; pass a file of "
            "train.evaluate --output"
        )
    return files


def _read(file) -> EvaluatedRun:
    """Reads a result file and checks it."""
    return measure(results.read(file), file, *_training(file.parent))


def measure(
    result: dict,
    file: pathlib.Path,
    seed: int | None = None,
    flags: dict | None = None,
    trained_on: str | None = None,
) -> EvaluatedRun:
    """Returns a result with its accuracies by column.

    Args:
        result: content of a file of `train.evaluate --output`.
        file: the file that it comes from, for error messages.
        seed: seed of the model's training, if known.
        flags: the other flags of its training, if known.
        trained_on: fingerprint of the images of its training, if known.

    Raises:
        UserError: if the result is damaged.
    """
    try:
        accuracies, right = _measured(result)
        _check_shown(result)
    except (ValueError, LookupError, TypeError, OverflowError, AttributeError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{file} is damaged: {problem}") from error
    name = str(result["model"])
    return EvaluatedRun(name, file, seed, flags, trained_on, result, accuracies, right)


def _training(folder) -> tuple[int | None, dict | None, str | None]:
    """Seed, other flags and images of a training, from the `config.json` beside it."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        # Flags that an older version did not have count as their defaults.
        defaults = {
            field.name: field.default for field in dataclasses.fields(TrainConfig)
        }
        flags = {
            k: v
            for k, v in (defaults | config["flags"]).items()
            if k not in CHANGEABLE_ON_RESUME
        }
        images = None
        if "images" in config:
            images = str(config["images"]["training"]["fingerprint"])
            if flags["dataset"].startswith("folder:"):
                flags["dataset"] = images  # one folder may have several paths
        return int(flags.pop("seed")), flags, images
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None, None


def _measured(result):
    """Accuracies and numbers of correct answers per image, by column."""
    number, packed = result["num_examples"], result.get("correct", {})
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"num_examples must be a positive integer; got {number!r}")
    accuracies, counts = {}, {}
    for column, accuracy, keys in _columns(result):
        bounded = column.group == "mCE" or accuracy <= 1
        if not (accuracy >= 0 and bounded):
            raise ValueError(f"accuracy {accuracy} of {column.heading} is out of range")
        accuracies[column] = float(accuracy)
        if keys and set(keys) <= set(packed):
            counts[column] = sum(
                results.unpack(packed[key], number).astype(int) for key in keys
            )
            answered = counts[column].sum() / (number * len(keys))
            if abs(answered - accuracy) > 0.5 / number:
                raise ValueError(
                    f"accuracy {accuracy:g} of {column.heading} does not match its "
                    f"answers, whose accuracy is {answered:g}"
                )
    if "clean" in packed:
        correct = {key: results.unpack(text, number) for key, text in packed.items()}
        for column, rows in _balls(result).items():
            if all(results.attack_key(row) in correct for row in rows):
                counts[column] = results.robust(correct, rows).astype(int)
                accuracies[column] = float(counts[column].mean())
    return accuracies, counts


def _columns(result):
    """Yields each column of a result, its accuracy and the keys of its answers."""
    yield CLEAN, result["clean"]["accuracy"], ["clean"]
    source = result.get("corruption_source", "generated")
    effective = corruptions.effective(result)
    means, described = [], []
    sets = []  # keys of the answers of each corruption
    for name, by_severity in result.get("corruptions", {}).items():
        curve, keys = name.removesuffix("_noise"), []
        for severity in (s for s in by_severity if s != "mean"):
            keys.append(results.corruption_key(name, severity))
            heading = f"{curve} {severity}"
            column = Column("severity", heading, source, curve, float(severity))
            yield column, by_severity[severity], keys[-1:]
        severities = f"severities {', '.join(s for s in by_severity if s != 'mean')}"
        settings = f"{source}, {severities}"
        mean = by_severity["mean"]
        severe = [a for s, a in by_severity.items() if s != "mean"]
        if severe and abs(mean - statistics.fmean(severe)) > 1e-6:
            raise ValueError(f"the mean of {name} is not the mean of its severities")
        if name in effective:  # the others change no image
            means.append(mean)
            described.append(f"{curve}: {severities}")
            sets.append(keys)
        yield Column("corruption", curve, settings, curve), mean, keys
    if means:
        settings = f"{source}; {'; '.join(sorted(described))}"
        # The mean over all sets equals the mean over corruptions only if each has the
        # same number of sets.
        balanced = len(set(map(len, sets))) == 1
        keys = [key for keys in sets for key in keys] if balanced else []
        yield Column("mCA", "mCA", settings), statistics.fmean(means), keys
        if "mce" in result:
            settings += f"; baseline {result.get('baseline', 'not named')}"
            yield Column("mCE", "mCE", settings), result["mce"], []
    for row in result.get("attacks", []):
        yield _attack(row), row["accuracy"], [results.attack_key(row)]
    if "certificates" in result:
        yield from _certificate_columns(result["certificates"])


def _certificate_columns(certificates):
    """Yields the columns of the certificates, like `_columns`."""
    values = [f"{name} {value}" for name, value in certificates["settings"].items()]
    settings = ", ".join([certificates["method"], *values])
    for text, accuracy in certificates["radii"].items():
        radius = float(text)
        column = Column(
            "certificate", f"certified {text}", settings, "certified", radius
        )
        yield column, accuracy, [results.certificate_key("certified", radius)]
    for row in certificates.get("attacks", []):
        attack, radius = _attack(row), row["eps"]
        column = Column(
            "certificate",
            f"attacked {radius:g}",
            f"{attack.curve}, {attack.settings}",
            "attacked",
            radius,
        )
        yield column, row["accuracy"], [results.certificate_key("attacked", radius)]
    for radius, accuracy in certificates["curve"]:
        heading = f"certified {radius:g}"
        column = Column("certified_curve", heading, settings, "certified", radius)
        yield column, accuracy, []


def _ball(row) -> tuple[str, float]:
    """Suffix of a heading for the norm of an attack, empty for L∞; and ε."""
    norm = row.get("norm", "linf")
    return "" if norm == "linf" else f" {norm.replace('l', 'L')}", float(row["eps"])


# Keys that are not listed in the settings as they are.
_HANDLED = {
    *("name", "eps", "norm", "accuracy", "after"),
    *("steps", "step_size", "restarts", "early_stop"),
}


def _attack(row) -> Column:
    """The column of an attack."""
    norm, eps = _ball(row)
    settings = "custom attack"
    if row["steps"] is not None:
        settings = f"{row['steps']} step{'s' * (row['steps'] != 1)}"
    if row["step_size"] is not None:
        settings += f" of {row['step_size']:g}/255"
    if row.get("restarts", 1) != 1:
        settings += f", {row['restarts']} restarts"
    if not row.get("early_stop", True):
        settings += ", no early stop"
    for name in sorted(set(row) - _HANDLED):
        repeated = name == "queries" and row[name] == row["steps"]
        if row[name] not in ([], (), None) and not repeated:
            settings += f", {name} {row[name]}"
    curve = f"{row['name']}{norm}"
    return Column("attack", f"{curve} {eps:g}", settings, curve, eps)


def _balls(result) -> dict[Column, list[dict]]:
    """The attacks within each ball, by the column of their worst case."""
    balls: dict[tuple[str, float], list[dict]] = {}
    for row in result.get("attacks", []):
        balls.setdefault(_ball(row), []).append(row)
    by_column = {}
    for (norm, eps), rows in balls.items():
        columns = [_attack(row) for row in rows]
        # Sorted, since the order of the attacks does not matter.
        settings = "; ".join(sorted(f"{c.curve}: {c.settings}" for c in columns))
        curve = f"worst{norm}"
        column = Column("worst", f"{curve} {eps:g}", settings, curve, eps)
        by_column[column] = rows
    return by_column


def _check_shown(result) -> None:
    """Raises an error if anything else that the report shows is malformed."""
    for sample in result.get("samples", []):
        for name in ("clean", "adversarial", "perturbation"):
            base64.b64decode(sample[name], validate=True)
        for name in ("eps", "largest", "index", "label", "predicted"):
            sample[name] + 0.0
        sample["attack"], sample["norm"].strip()
    for check in result.get("checks", []):
        check["name"], check["raised"], check["message"]
    for rate in result.get("lambda", {}).values():
        if rate is not None:  # a number that is not finite
            rate + 0.0
    for label, by_prediction in result.get("confusion", {}).items():
        int(label) + sum(by_prediction.values())
    facts = result.get("model_facts", {})
    for name in ("parameters", "flops"):
        (facts.get(name) or 0) + 0.0
    ", ".join(facts.get("dampings", ()))
    for severities in result.get("unchanged_corruptions", {}).values():
        ", ".join(severities)
    for name in ("fingerprint", "git_revision", "processor", "command"):
        (result.get(name) or "").strip()
    for attack in (result.get("certificates") or {}).get("attacks", ()):
        attack["name"].strip()
    result.get("seconds", 0) + 0.0
    result.get("versions", {}).items()
