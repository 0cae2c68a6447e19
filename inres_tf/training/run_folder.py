"""A run's folder: its configuration, its metrics, and whose it is."""

import json
import pathlib
import platform

from inres_tf.environment import git_revision, processor, versions
from inres_tf.errors import UserError
from inres_tf.files import write_text

CONFIG, METRICS = "config.json", "metrics.jsonl"


def describe(flags: dict, seed: int) -> dict:
    """What `config.json` holds: all flags, versions, git revision and seed."""
    return {
        "flags": flags,
        "seed": seed,
        "versions": {"python": platform.python_version(), **versions()},
        "git_revision": git_revision(),
        "machine": {"platform": platform.platform(), "processor": processor()},
    }


def check_folder(folder: pathlib.Path, flags: dict, resume: bool, ignore=()) -> None:
    """Finds whether `folder` is free for this run, and writes nothing.

    Args:
        folder: the run's `--output_dir`.
        flags: the run's flags.
        resume: whether this run, if already there, may be gone on with.
        ignore: flags that may differ when a run is resumed.

    Raises:
        UserError: if the folder holds another run, or this one without `resume`.
    """
    path = folder / CONFIG
    if folder.is_file():
        raise UserError(f"--output_dir={folder} is a file, not a folder")
    if not path.exists():
        work = [n for n in ("checkpoints", "model.keras") if (folder / n).exists()]
        if work:
            raise UserError(
                f"{folder} holds {' and '.join(work)} of a run without {CONFIG}; "
                "choose another --output_dir"
            )
        return
    try:
        theirs = dict(json.loads(path.read_text(encoding="utf-8"))["flags"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    # Through JSON, since a tuple comes back as a list.
    mine = json.loads(json.dumps(flags))
    different = [
        f"--{key}={theirs.get(key)} there, {mine[key]} now"
        for key in mine
        if key not in ignore and theirs.get(key) != mine[key]
    ]
    if different:
        raise UserError(
            f"{folder} holds another run ({'; '.join(different)}); choose another "
            "--output_dir"
        )
    if not resume:
        raise UserError(
            f"{folder} already holds this run; --resume goes on with it, or choose "
            "another --output_dir"
        )


def write_config(folder: pathlib.Path, flags: dict, seed: int) -> None:
    """Writes `config.json` unless it is there, making the folder if need be.

    Raises:
        OSError: if it cannot be written.
    """
    if not (folder / CONFIG).exists():
        text = json.dumps(describe(flags, seed), indent=2)
        write_text(folder / CONFIG, text + "\n")


def write_metrics(folder: pathlib.Path, history: list[dict]) -> None:
    """Writes `metrics.jsonl`, one line an epoch, whole and atomically."""
    lines = (json.dumps(row) + "\n" for row in history)
    write_text(folder / METRICS, "".join(lines))
