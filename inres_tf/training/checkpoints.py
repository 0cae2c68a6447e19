"""Checkpoints: whole folders that appear at once or not at all."""

import hashlib
import io
import json
import pathlib
import re
import shutil
import sys
import zipfile

import keras
import tensorflow as tf

from inres_tf.errors import UserError
from inres_tf.files import atomic
from inres_tf.models.random_state import random_states

_PREFIX = "checkpoint-"
_MODEL, _STATE = "model.keras", "state.json"
_SUMS = "SHA256SUMS"
_SEEDS = "seeds"
KEEP = 2


def save(folder: pathlib.Path, model, state: dict, step: int) -> pathlib.Path:
    """Writes a checkpoint, then deletes all but the newest `KEEP`.

    Args:
        folder: the run's folder of checkpoints.
        model: compiled model; its weights and its optimiser's state are saved.
        state: what else the run needs to go on, as JSON.
        step: optimiser steps done, which names the checkpoint.

    Returns:
        The checkpoint's folder: the model, the state, and their checksums.
    """
    path = folder / f"{_PREFIX}{step:08d}"
    clear_killed(folder)
    with atomic(path) as temporary:
        temporary.mkdir()
        model.save(temporary / _MODEL)
        # Keras saves no seed generators, of which dropout and noise are made.
        seeds = [keras.ops.convert_to_numpy(v).tolist() for v in random_states(model)]
        (temporary / _STATE).write_text(json.dumps(state | {_SEEDS: seeds}))
        sums = (f"{_digest(temporary / n)}  {n}\n" for n in (_MODEL, _STATE))
        (temporary / _SUMS).write_text("".join(sums))
    for old in list_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return path


def clear_killed(folder: pathlib.Path) -> None:
    """Deletes what a killed process left half written, and puts back what it moved."""
    for stale in folder.glob(f".writing-*-{_PREFIX}*"):
        shutil.rmtree(stale)
    for old in folder.glob(f".old-*-{_PREFIX}*"):
        path = folder / re.sub(r"^\.old-\d+-", "", old.name)
        if path.exists():
            shutil.rmtree(old)
        else:
            old.rename(path)


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def list_checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob(f"{_PREFIX}*") if (p / _MODEL).is_file())


def check(path: pathlib.Path) -> None:
    """Checks a checkpoint by its checksums.

    Raises:
        UserError: if it is damaged, naming the file.
    """
    try:
        lines = (path / _SUMS).read_text(encoding="utf-8").splitlines()
        sums = dict(reversed(line.split("  ")) for line in lines)
        for name in (_MODEL, _STATE):
            if sums.get(name) != _digest(path / name):
                raise UserError(f"checkpoint {path / name} is damaged")
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint {path} is damaged: {error}") from error


def newest(folder: pathlib.Path) -> pathlib.Path | None:
    """The newest checkpoint that is whole; None if there is none at all.

    Damaged ones are said on stderr and set aside as `damaged-NAME`; what a killed
    process left half written in the run's folder is deleted.

    Args:
        folder: the folder of checkpoints in a run's folder.

    Raises:
        UserError: if there are only damaged ones.
    """
    clear_killed(folder)
    for stale in folder.parent.glob(".writing-*"):
        stale.unlink()
    damaged = {}
    for path in reversed(list_checkpoints(folder)):
        try:
            check(path)
        except UserError as error:
            damaged[path] = error
            continue
        for other, error in damaged.items():
            aside = other.with_name(f"damaged-{other.name}")
            shutil.rmtree(aside, ignore_errors=True)
            other.rename(aside)
            print(f"{error}: set aside as {aside.name}", file=sys.stderr)
        return path
    for error in damaged.values():
        raise UserError(
            f"{error}, and no older one is whole; delete them, or choose another "
            "--output_dir"
        )
    return None


def pack(path: pathlib.Path) -> bytes:
    """A checkpoint as bytes, for workers that do not see the chief's disk."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in (_MODEL, _STATE):
            archive.write(path / name, name)
    return buffer.getvalue()


def unpack(payload: bytes, folder: pathlib.Path) -> pathlib.Path:
    """Writes what `pack` gave to a folder, and returns that."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        archive.extractall(folder)
    return folder


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
        for variable, value in zip(
            random_states(model), state.pop(_SEEDS, ()), strict=True
        ):
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
    except (UserError, tf.errors.UnavailableError, tf.errors.AbortedError):
        raise  # the last two: another worker is gone
    except Exception as error:  # of many kinds, by where the damage lies
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"checkpoint {path} is damaged or no Keras model: {reason[0]}"
        ) from error
