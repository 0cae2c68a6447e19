"""What a result was computed with: package versions, git revision, processor."""

import importlib.metadata
import pathlib
import platform
import subprocess

_PACKAGES = (
    "tensorflow",
    "keras",
    "cleverhans",
    "tensorflow-datasets",
    "numpy",
    "inres-tf",
)


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
