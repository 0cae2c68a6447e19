"""Finding and reading the `metrics.jsonl` of runs, finished or still going on."""

import json
import os
import pathlib

from inres_tf.errors import UserError
from inres_tf.training.run_folder import METRICS

_NUMBERS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "images_per_second",
    "dead_blocks",
)


def find(paths) -> dict[str, list[dict]]:
    """The metrics of runs by their names.

    A run is called by its folder; below a folder of runs, by its path from there; where
    that leaves two runs the same name, by its file.

    Args:
        paths: each a run's folder, a file like `metrics.jsonl`, or a folder with runs
            somewhere below it, of which those without a finished epoch are left out.

    Returns:
        Dict from the run's name to its rows, one an epoch, in the order of `paths`.

    Raises:
        UserError: if there is no run, one that was named has no finished epoch, or a
            file is damaged.
    """
    files = {}
    for path in map(pathlib.Path, paths):
        for name, file in _files(path).items():
            files.setdefault(file.resolve(), (name, file))
    names = [name for name, _ in files.values()]
    return {
        name if names.count(name) == 1 else str(file): read(file)
        for name, file in files.values()
    }


def read(file) -> list[dict]:
    """The rows of a file like `metrics.jsonl`.

    Raises:
        UserError: if a line is not the metrics of an epoch, naming it.
    """
    rows = []
    try:
        for line in pathlib.Path(file).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            _check(row, rows)
            rows.append(row)
    except ValueError as error:
        raise UserError(
            f"{file}, line {len(rows) + 1} is not the metrics of an epoch: {error}"
        ) from error
    return rows


def _check(row, before):
    """Raises ValueError if a row is not one of `metrics.jsonl`."""
    if not isinstance(row, dict) or not isinstance(row.get("lambda"), dict):
        raise ValueError("it lacks lambda")
    values = {name: row.get(name) for name in _NUMBERS} | row["lambda"]
    wrong = [n for n, value in values.items() if not isinstance(value, (int, float))]
    if wrong:
        raise ValueError(f"it lacks numbers for {', '.join(wrong)}")
    if before and list(row["lambda"]) != list(before[0]["lambda"]):
        raise ValueError("its damped blocks are not those of line 1")


def _files(path) -> dict[str, pathlib.Path]:
    """The metrics' files that a path means, by name of the run."""
    file = path / METRICS if path.is_dir() else path
    if file.is_file():
        if not file.stat().st_size:
            raise UserError(f"{file} has no finished epoch yet")
        named_so = file.name == METRICS
        return {file.resolve().parent.name if named_so else file.stem: file}
    if not path.is_dir():
        raise UserError(f"{path} does not exist; name a run's folder or {METRICS}")
    found = {}
    for folder, below, names in os.walk(path):
        below.sort()
        file = pathlib.Path(folder, METRICS)
        if METRICS in names:
            below.clear()
            if file.stat().st_size:
                found[str(file.parent.relative_to(path))] = file
    if not found:
        raise UserError(f"no run in {path} has a finished epoch yet")
    return found
