"""Checkpoints: whole folders that appear at once or not at all."""

import contextlib
import json
import os
import pathlib
import shutil
import zipfile

import keras

from inres_tf.errors import UserError

_PREFIX = "checkpoint-"
_MODEL, _STATE = "model.keras", "state.json"
_SEEDS = "seeds"
KEEP = 2


@contextlib.contextmanager
def atomic(path: pathlib.Path):
    """Yields a path to write a file or folder at, which then becomes `path`.

    After an error nothing is left, and what `path` held before is still there.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, since Keras chooses the format by it.
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    old = path.with_name(f".old-{os.getpid()}-{path.name}")
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir():  # which cannot be replaced in one step
            path.rename(old)
        try:
            os.replace(temporary, path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        _sync_one(path.parent)
    finally:
        for rest in (temporary, old):
            if rest.is_dir():
                shutil.rmtree(rest, ignore_errors=True)
            rest.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic(pathlib.Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path):
    """Flushes a file, or a folder and all below it, to the disk."""
    if path.is_dir():
        for child in path.iterdir():
            _sync(child)
    _sync_one(path)


def _sync_one(path):
    """Flushes a file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(folder: pathlib.Path, model, state: dict, step: int) -> pathlib.Path:
    """Writes a checkpoint, then deletes all but the newest `KEEP`.

    Args:
        folder: the run's folder of checkpoints.
        model: compiled model; its weights and its optimiser's state are saved.
        state: what else the run needs to go on, as JSON.
        step: optimiser steps done, which names the checkpoint.

    Returns:
        The checkpoint's folder.
    """
    path = folder / f"{_PREFIX}{step:08d}"
    for stale in folder.glob(f".writing-*-{_PREFIX}*"):  # of a process that was killed
        shutil.rmtree(stale)
    with atomic(path) as temporary:
        temporary.mkdir()
        model.save(temporary / _MODEL)
        # Keras saves no seed generators, of which dropout and noise are made.
        seeds = [keras.ops.convert_to_numpy(v).tolist() for v in _seeds(model)]
        (temporary / _STATE).write_text(json.dumps(state | {_SEEDS: seeds}))
    for old in list_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return path


def _seeds(model):
    """The states of a model's random layers."""
    weights = {id(variable) for variable in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def list_checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob(f"{_PREFIX}*") if (p / _MODEL).is_file())


def restore(path: pathlib.Path, keys=()):
    """Loads a checkpoint.

    Args:
        path: the checkpoint's folder.
        keys: what its state must hold.

    Returns:
        (compiled model with its optimiser's state, the state saved beside it).

    Raises:
        UserError: if the checkpoint is damaged.
    """
    model = load_model(path / _MODEL)
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        missing = sorted(set(keys) - set(state))
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        for variable, value in zip(_seeds(model), state.pop(_SEEDS, ()), strict=True):
            variable.assign(value)
        return model, state
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint {path / _STATE} is damaged: {error}") from error


def find_model(path) -> pathlib.Path:
    """The model file that a `--checkpoint` means.

    Args:
        path: a `.keras` file, a checkpoint's folder, or a run's folder (its finished
            model, or else its newest checkpoint).

    Raises:
        UserError: if there is none.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return path
    if (path / _MODEL).is_file():
        return path / _MODEL
    saved = list_checkpoints(path / "checkpoints") or list_checkpoints(path)
    if saved:
        return saved[-1] / _MODEL
    what = (
        "holds no model.keras and no checkpoint" if path.is_dir() else "does not exist"
    )
    raise UserError(
        f"{path} {what}; --checkpoint takes a .keras file, a run's --output_dir or one "
        "of its checkpoints"
    )


def load_model(path: pathlib.Path):
    """Loads a `.keras` file, after checking that it is whole.

    Raises:
        UserError: if the file is damaged or no Keras model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise UserError(
                f"checkpoint {path} is damaged: {damaged} fails its checksum"
            )
        return keras.models.load_model(path)
    except UserError:
        raise
    except Exception as error:  # of many kinds, by where the damage lies
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"checkpoint {path} is damaged or no Keras model: {reason[0]}"
        ) from error
