"""The `.keras` file that a path means: a file, a run or one of its checkpoints."""

import contextlib
import os
import pathlib

from inres_tf import spelling
from inres_tf.errors import UserError

MODEL = "model.keras"
CHECKPOINT = "checkpoint-"
_LISTED = 10


def list_checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists the checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob(f"{CHECKPOINT}*") if (p / MODEL).is_file())


def find_model(
    path: str | os.PathLike[str], flag: str = "--checkpoint"
) -> pathlib.Path:
    """Finds the model file that a flag such as `--checkpoint` refers to.

    Args:
        path: a `.keras` file, a checkpoint's folder, or a run's folder. Of a run, it is
            the finished model, or else the newest checkpoint.
        flag: flag that the path is the value of, for the error message.

    Returns:
        Path of the `.keras` file.

    Raises:
        UserError: if there is no model; the message names those nearby.
    """
    path = pathlib.Path(path)
    found = _found(path)
    if found is None:
        raise UserError(_problem(path, flag))
    return found


def _found(path: pathlib.Path) -> pathlib.Path | None:
    if path.is_file():
        return path
    checkpoints = list_checkpoints(path / "checkpoints") or list_checkpoints(path)
    files = (path / MODEL, *(folder / MODEL for folder in checkpoints[-1:]))
    return next((file for file in files if file.is_file()), None)


def _problem(path: pathlib.Path, flag: str) -> str:
    """Says why a path is not a model, and which models are near it."""
    expected = "a .keras file, a run's --output_dir or one of its checkpoints"
    if not path.exists():
        near = {p.stem if p.is_file() else p.name: p for p in _models(path.parent, 2)}
        meant = [str(near[name]) for name in spelling.similar(path.stem, near)]
        hint = f" (did you mean {' or '.join(map(repr, meant))}?)" if meant else ""
        return f"{path} does not exist{hint}; {flag} must be {expected}"
    if (path / "saved_model.pb").is_file():
        return (
            f"{path} is a SavedModel, for serving; {flag} must be the model that "
            f"it was exported from: {expected}"
        )
    models = list(map(str, _models(path)))
    if not models:
        return (
            f"{path} holds no model.keras and no checkpoint; {flag} must be {expected}"
        )
    more = f" and {len(models) - _LISTED} more" if len(models) > _LISTED else ""
    return (
        f"{path} holds no model.keras and no checkpoint, but {len(models)} models, of "
        f"which {flag} must name one: {', '.join(models[:_LISTED])}{more}"
    )


def _models(folder: pathlib.Path, depth: int = 1) -> list[pathlib.Path]:
    """The models and runs in a folder, and folders of them at a depth above 1."""
    models = []
    with contextlib.suppress(OSError):  # not a folder, or of others
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(PermissionError):
                if path.is_dir() or path.suffix == ".keras":
                    if _found(path) or (depth > 1 and _models(path, depth - 1)):
                        models.append(path)
    return models
