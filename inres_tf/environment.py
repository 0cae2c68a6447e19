"""What a result was computed with: package versions, git revision, processor."""

import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

_PACKAGES = (
    "tensorflow",
    "keras",
    "cleverhans",
    "tensorflow-datasets",
    "numpy",
    "inres-tf",
)


def versions() -> dict[str, str]:
    """Versions of the installed packages that affect results, by package name."""
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def git_revision() -> str | None:
    """Commit of the running code, with `+changes` if files differ from it.

    None if the code is not in a git repository.
    """
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
    """Name of the processor."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """What results depend on besides their settings, as entries of their files."""
    return {
        "versions": versions(),
        "git_revision": git_revision(),
        "processor": processor(),
    }
