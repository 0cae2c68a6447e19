"""Checkpoints: folders that are written completely or not at all."""

import hashlib
import io
import json
import pathlib
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable
from typing import Any

import h5py
import keras
import tensorflow as tf

from inres_tf import class_names
from inres_tf.errors import UserError
from inres_tf.files import atomic, is_being_written, to_json
from inres_tf.model_files import CHECKPOINT, MODEL
from inres_tf.model_files import find_model as find_model
from inres_tf.model_files import list_checkpoints as list_checkpoints
from inres_tf.models import custom_objects
from inres_tf.models.random_state import random_states

_PREFIX, _MODEL, _STATE = CHECKPOINT, MODEL, "state.json"
_SUMS = "SHA256SUMS"
_SEEDS = "seeds"
KEEP = 2


def save(
    folder: pathlib.Path, model: keras.Model, state: dict[str, Any], step: int
) -> pathlib.Path:
    """Writes a checkpoint, then deletes all but the newest `KEEP`.

    Args:
        folder: the run's folder of checkpoints.
        model: compiled model, saved with the state of its optimiser.
        state: everything else that the run needs to resume, as JSON.
        step: number of finished optimiser steps, which names the checkpoint.

    Returns:
        Folder of the checkpoint: the model, the state and their checksums.
    """
    path = folder / f"{_PREFIX}{step:08d}"
    clear_killed(folder)
    with atomic(path) as temporary:
        temporary.mkdir()
        class_names.save(model, temporary / _MODEL)
        # The states of dropout and noise layers, which Keras does not save.
        seeds = [keras.ops.convert_to_numpy(v).tolist() for v in random_states(model)]
        (temporary / _STATE).write_text(to_json(state | {_SEEDS: seeds}))
        sums = (f"{_digest(temporary / n)}  {n}\n" for n in (_MODEL, _STATE))
        (temporary / _SUMS).write_text("".join(sums))
    for old in list_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return path


def clear_killed(folder: pathlib.Path) -> None:
    """Deletes partial checkpoints of a killed process and restores what it moved."""
    for partial in folder.glob(f".writing-*-{_PREFIX}*"):
        shutil.rmtree(partial)
    for old in folder.glob(f".old-*-{_PREFIX}*"):
        path = folder / re.sub(r"^\.old-\d+-", "", old.name)
        if path.exists():
            shutil.rmtree(old)
        else:
            old.rename(path)


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check(path: pathlib.Path) -> None:
    """Verifies the checksums of a checkpoint.

    Args:
        path: the checkpoint's folder.

    Raises:
        UserError: if a file of the checkpoint is damaged.
    """
    try:
        digests = {}
        for line in (path / _SUMS).read_text(encoding="utf-8").splitlines():
            digest, name = line.split("  ")
            digests[name] = digest
        for name in (_MODEL, _STATE):
            if digests.get(name) != _digest(path / name):
                raise UserError(f"checkpoint {path / name} is damaged")
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint {path} is damaged: {error}") from error


def newest(folder: pathlib.Path) -> pathlib.Path | None:
    """Finds the newest undamaged checkpoint; None if there are no checkpoints.

    Newer, damaged checkpoints are reported on stderr and renamed to `damaged-NAME`.
    Partial files that a killed process left in the run's folder are deleted.

    Args:
        folder: the run's folder of checkpoints.

    Raises:
        UserError: if all checkpoints are damaged.
    """
    clear_killed(folder)
    for partial in folder.parent.glob(".writing-*"):
        if is_being_written(partial):  # by another program, such as an export
            continue
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()
    problems: dict[pathlib.Path, UserError] = {}
    for path in reversed(list_checkpoints(folder)):
        try:
            check(path)
        except UserError as error:
            problems[path] = error
            continue
        _set_aside(problems)
        return path
    for problem in problems.values():
        raise UserError(
            f"{problem}, and no older one is undamaged; delete them, or choose another "
            "--output_dir"
        )
    return None


def _set_aside(problems: dict[pathlib.Path, UserError]) -> None:
    """Renames damaged checkpoints, and reports their problems."""
    for path, problem in problems.items():
        renamed = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(renamed, ignore_errors=True)
        path.rename(renamed)
        print(f"{problem}: renamed to {renamed.name}", file=sys.stderr)


def pack(path: pathlib.Path) -> bytes:
    """Packs a checkpoint into bytes, for workers that do not share the chief's disk."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in (_MODEL, _STATE):
            archive.write(path / name, name)
    return buffer.getvalue()


def unpack(payload: bytes, folder: pathlib.Path) -> pathlib.Path:
    """Unpacks the bytes of `pack` into a folder, and returns the folder."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        archive.extractall(folder)
    return folder


def restore(
    path: pathlib.Path, keys: Iterable[str] = ()
) -> tuple[keras.Model, dict[str, Any]]:
    """Loads a checkpoint.

    Args:
        path: the checkpoint's folder.
        keys: keys that the state must have.

    Returns:
        (compiled model with the state of its optimiser, the saved state).

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


def load_model(path: pathlib.Path, compiled: bool = True) -> keras.Model:
    """Loads a `.keras` file, after verifying that it is undamaged.

    Args:
        path: the file. A model in Keras' older HDF5 format, `.h5`, is read as well, but
            not compiled.
        compiled: whether to load the optimizer and the losses as well.

    Returns:
        The model, with its `class_names` if the file has them.

    Raises:
        UserError: if the file is damaged or not a Keras model, or needs code that is
            not loaded.
    """
    try:
        if h5py.is_hdf5(path):
            return _load_hdf5(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise UserError(
                f"checkpoint {path} is damaged: {damaged} fails its checksum"
            )
        model = keras.models.load_model(path, compile=compiled)
        class_names.assign(model, class_names.read(path))
        return model
    except (UserError, tf.errors.UnavailableError, tf.errors.AbortedError):
        raise  # the last two: another worker is lost
    except Exception as error:  # the type depends on where the file is damaged
        if missing := custom_objects.explain(path):
            raise UserError(missing) from error
        if "Lambda" in str(error) and "safe_mode" in str(error):
            raise UserError(
                f"{path} holds a Lambda layer, whose code is not run, as it could "
                "do anything; use a class of your own instead, in a module that you "
                "pass with --import"
            ) from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"checkpoint {path} is damaged or not a Keras model (a .keras file, a "
            f"run's --output_dir or one of its checkpoints): {reason[0]}"
        ) from error


def _load_hdf5(path):
    with h5py.File(path, "r") as file:
        has_model = "model_config" in file.attrs
    if not has_model:
        raise UserError(
            f"{path} holds weights without a model; pass --model and --weights"
        )
    if path.suffix not in (".h5", ".hdf5"):
        raise UserError(
            f"{path} is a model in Keras' older HDF5 format; rename it to "
            f"{path.stem}.h5"
        )
    return keras.models.load_model(path, compile=False)
