"""A run's folder: its configuration, its metrics, and whose it is."""

import importlib.metadata
import json
import pathlib
import platform
import subprocess

from inres_tf.checkpoints import write_text
from inres_tf.errors import UserError

_PACKAGES = (
    "tensorflow",
    "keras",
    "cleverhans",
    "tensorflow-datasets",
    "numpy",
    "inres-tf",
)
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


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Commit of the code that runs, with `+changes` if it differs from it; or None."""
    here = pathlib.Path(__file__).parent
    try:
        revision, changes = (
            subprocess.run(
                ["git", "-C", str(here), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for arguments in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changes else "")


def processor() -> str:
    """The processor's name, for tables of results."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def check(folder: pathlib.Path, flags: dict, resume: bool, ignore=()) -> None:
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
