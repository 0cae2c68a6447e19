"""Finding and reading the `metrics.jsonl` of finished and unfinished runs."""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from inres_tf.errors import UserError
from inres_tf.files import expand
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


def find(
    paths: Iterable[str | os.PathLike[str]],
) -> dict[str, list[dict[str, Any]]]:
    """Finds runs and reads their metrics.

    A run is named after its folder; if it was found below a folder of runs, after its
    path from there. Runs that would have the same name are named after their files.

    Args:
        paths: run folders, files in the format of `metrics.jsonl`, or folders with runs
            at any depth, of which those without a finished epoch are skipped.

    Returns:
        Dict from the run's name to a dict of metrics for each epoch, in the order of
        `paths`.

    Raises:
        UserError: if there is no run, a given run has no finished epoch, or a file is
            damaged.
    """
    files: dict[pathlib.Path, tuple[str, pathlib.Path]] = {}
    for path in (pathlib.Path(expand(os.fspath(path))) for path in paths):
        for name, file in _files(path).items():
            files.setdefault(file.resolve(), (name, file))
    names = [name for name, _ in files.values()]
    return {
        name if names.count(name) == 1 else str(file): read(file)
        for name, file in files.values()
    }


def read(file: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads a file in the format of `metrics.jsonl`.

    Args:
        file: the file.

    Returns:
        A dict of metrics for each epoch.

    Raises:
        UserError: if a line is not the metrics of an epoch, naming the line.
    """
    rows: list[dict[str, Any]] = []
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


def _check(row: Any, previous: list[dict[str, Any]]) -> None:
    """Raises ValueError if a row is not the metrics of an epoch."""
    if not isinstance(row, dict) or not isinstance(row.get("lambda"), dict):
        raise ValueError("it lacks lambda")
    values = {name: row.get(name) for name in _NUMBERS} | row["lambda"]
    missing = [n for n, value in values.items() if not isinstance(value, (int, float))]
    if missing:
        raise ValueError(f"it lacks numbers for {', '.join(missing)}")
    if previous and list(row["lambda"]) != list(previous[0]["lambda"]):
        raise ValueError("its damped blocks are not those of line 1")


def _files(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Finds the metrics files that a path refers to, by name of the run."""
    file = path / METRICS if path.is_dir() else path
    if file.is_file():
        if not file.stat().st_size:
            raise UserError(f"{file} has no finished epoch yet")
        standard = file.name == METRICS
        return {file.resolve().parent.name if standard else file.stem: file}
    if not path.is_dir():
        raise UserError(f"{path} does not exist; name a run's folder or {METRICS}")
    files = {}
    for folder, subfolders, names in os.walk(path):
        subfolders.sort()
        file = pathlib.Path(folder, METRICS)
        if METRICS in names:
            subfolders.clear()  # no runs within runs
            if file.stat().st_size:
                files[str(file.parent.relative_to(path))] = file
    if not files:
        raise UserError(f"no run in {path} has a finished epoch yet")
    return files
