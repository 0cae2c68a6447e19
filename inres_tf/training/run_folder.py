"""A run's folder: its configuration, its metrics, and which run it belongs to."""

import json
import os
import pathlib
import platform
import sys
from collections.abc import Container, Mapping, Sequence
from typing import Any

from inres_tf import class_names
from inres_tf.data.images import Images
from inres_tf.digests import fingerprint
from inres_tf.environment import git_revision, processor, versions
from inres_tf.errors import UserError
from inres_tf.files import check_creatable, to_json, write_json, write_text

CONFIG, METRICS = "config.json", "metrics.jsonl"


def describe(flags: dict[str, Any], seed: int, **facts: Any) -> dict[str, Any]:
    """Returns the content of `config.json`: flags, versions, git revision and seed."""
    return {
        "flags": flags,
        "seed": seed,
        **facts,
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
        UserError: if the folder holds another run, or this one without `resume`, or no
            file can be created in it.
    """
    path = folder / CONFIG
    if folder.is_file():
        raise UserError(f"--output_dir={folder} is a file, not a folder")
    if folder.is_symlink() and not folder.exists():
        raise UserError(
            f"--output_dir={folder} is a link to {os.readlink(folder)}, which does not "
            "exist"
        )
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"--output_dir={str(folder)!a} is not UTF-8, as TensorFlow needs it"
        ) from error
    if not path.exists():
        results = [n for n in ("checkpoints", "model.keras") if (folder / n).exists()]
        if results:
            raise UserError(
                f"{folder} holds {' and '.join(results)} of a run without {CONFIG}; "
                "choose another --output_dir"
            )
        check_creatable(path)
        return
    content = _read(path)
    saved = content["flags"]
    if ("models" in saved) != ("models" in flags):
        raise UserError(
            f"{folder} holds a run of another program, train.train or train.reproduce; "
            "choose another --output_dir"
        )
    # Through JSON, which turns tuples into lists.
    current = json.loads(json.dumps(flags))
    saved = json.loads(json.dumps(dict(defaults or {}))) | saved
    if "images" in content and all(
        str(f.get("dataset")).startswith("folder:") for f in (saved, current)
    ):  # `check_data` decides, whatever their paths are called
        saved["dataset"] = current["dataset"]
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


def _read(path) -> dict[str, Any]:
    """Reads `config.json`."""
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        return content | {"flags": dict(content["flags"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def data_facts(
    training: Images, validation: Images, names: Sequence[str]
) -> dict[str, Any]:
    """Returns what `config.json` says of a run's images.

    Args:
        training: the images to train on.
        validation: the images to evaluate after each epoch.
        names: names of the classes.

    Returns:
        `class_names`, and under `images` number and fingerprint of both sets.
    """
    sets = {"training": training, "validation": validation}
    return {
        "class_names": list(names),
        "images": {
            name: {
                "number": len(images),
                "fingerprint": fingerprint(images.images, images.labels),
            }
            for name, images in sets.items()
        },
    }


def check_data(folder: pathlib.Path, facts: Mapping[str, Any], finished: bool) -> None:
    """Checks that a run in `folder` is resumed on the images it was started with.

    Args:
        folder: the run's folder.
        facts: the `data_facts` of now.
        finished: whether the run has finished, so that only the images it was trained
            on matter.

    Raises:
        UserError: if the classes or the images are others.
    """
    if not (folder / CONFIG).exists():
        return
    saved = _read(folder / CONFIG)
    names = saved.get("class_names")
    class_names.check(names, facts["class_names"], f"the run in {folder}", "--dataset")
    for name, now in facts["images"].items():
        before = saved.get("images", {}).get(name, now)
        if before == now:
            continue
        if finished and name == "validation":
            print(f"the metrics in {folder} come from other images", file=sys.stderr)
            continue
        sets = [f"{s['number']} ({s['fingerprint']})" for s in (before, now)]
        raise UserError(
            f"the {name} images of the run in {folder} have changed: {sets[0]} there, "
            f"{sets[1]} now; restore them, or choose another --output_dir"
        )


def check_steps(history: Sequence[Mapping[str, Any]], steps_per_epoch: int) -> None:
    """Checks that a resumed run has as many steps in each epoch as before.

    Args:
        history: metrics of each finished epoch, as in `metrics.jsonl`.
        steps_per_epoch: the number of steps now.

    Raises:
        UserError: if it has not.
    """
    for row in history[-1:]:
        if row["step"] != row["epoch"] * steps_per_epoch:
            raise UserError(
                f"the run took {row['step'] // row['epoch']} steps in each epoch, and "
                f"the training images now give {steps_per_epoch}: they have changed; "
                "restore them, or choose another --output_dir"
            )


def write_config(
    folder: pathlib.Path, flags: dict[str, Any], seed: int, **facts: Any
) -> None:
    """Writes `config.json` if it does not exist, and creates the folder if necessary.

    Args:
        folder: the run's folder.
        flags: the run's flags.
        seed: the run's seed.
        **facts: what else it says, such as `data_facts`.

    Raises:
        OSError: if it cannot be written.
    """
    if not (folder / CONFIG).exists():
        write_json(folder / CONFIG, describe(flags, seed, **facts))


def write_metrics(folder: pathlib.Path, history: list[dict[str, Any]]) -> None:
    """Writes `metrics.jsonl` atomically, with one line per epoch."""
    lines = (to_json(row) + "\n" for row in history)
    write_text(folder / METRICS, "".join(lines))
