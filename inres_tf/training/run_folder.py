"""A run's folder: its configuration, its metrics, and which run it belongs to."""

import json
import pathlib
import platform
from collections.abc import Container, Mapping
from typing import Any

from inres_tf.environment import git_revision, processor, versions
from inres_tf.errors import UserError
from inres_tf.files import write_text

CONFIG, METRICS = "config.json", "metrics.jsonl"


def describe(flags: dict[str, Any], seed: int) -> dict[str, Any]:
    """Returns the content of `config.json`: flags, versions, git revision and seed."""
    return {
        "flags": flags,
        "seed": seed,
        "versions": {"python": platform.python_version(), **versions()},
        "git_revision": git_revision(),
        "machine": {"platform": platform.platform(), "processor": processor()},
    }


def check_folder(
    folder: pathlib.Path,
    flags: dict[str, Any],
    resume: bool,
    ignore: Container[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Checks that a run may use `folder`, without writing anything.

    Args:
        folder: the run's `--output_dir`.
        flags: the run's flags.
        resume: whether the run may resume if the folder already holds it.
        ignore: flags that may change when a run resumes.
        defaults: values of flags that did not exist yet when the run was started.

    Raises:
        UserError: if the folder holds another run, or this one without `resume`.
    """
    path = folder / CONFIG
    if folder.is_file():
        raise UserError(f"--output_dir={folder} is a file, not a folder")
    if not path.exists():
        results = [n for n in ("checkpoints", "model.keras") if (folder / n).exists()]
        if results:
            raise UserError(
                f"{folder} holds {' and '.join(results)} of a run without {CONFIG}; "
                "choose another --output_dir"
            )
        return
    try:
        saved = dict(json.loads(path.read_text(encoding="utf-8"))["flags"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    # Through JSON, which turns tuples into lists.
    current = json.loads(json.dumps(flags))
    saved = json.loads(json.dumps(dict(defaults or {}))) | saved
    different = [
        f"--{key}={saved.get(key)} there, {current[key]} now"
        for key in current
        if key not in ignore and saved.get(key) != current[key]
    ]
    if different:
        raise UserError(
            f"{folder} holds another run ({'; '.join(different)}); choose another "
            "--output_dir"
        )
    if not resume:
        raise UserError(
            f"{folder} already holds this run; use --resume to continue it, or choose "
            "another --output_dir"
        )


def write_config(folder: pathlib.Path, flags: dict[str, Any], seed: int) -> None:
    """Writes `config.json` if it does not exist, and creates the folder if necessary.

    Args:
        folder: the run's folder.
        flags: the run's flags.
        seed: the run's seed.

    Raises:
        OSError: if it cannot be written.
    """
    if not (folder / CONFIG).exists():
        text = json.dumps(describe(flags, seed), indent=2)
        write_text(folder / CONFIG, text + "\n")


def write_metrics(folder: pathlib.Path, history: list[dict[str, Any]]) -> None:
    """Writes `metrics.jsonl` atomically, with one line per epoch."""
    lines = (json.dumps(row) + "\n" for row in history)
    write_text(folder / METRICS, "".join(lines))
