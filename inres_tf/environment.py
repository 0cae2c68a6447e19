"""What a result was computed with: package versions, git revision, processor."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import warnings
from collections.abc import Iterable
from typing import Any

_PACKAGES = (
    "tensorflow",
    "keras",
    "cleverhans",
    "tensorflow-datasets",
    "numpy",
    "inres-tf",
)

_CGROUP_LIMIT = pathlib.Path("/sys/fs/cgroup/memory.max")
_CPUINFO = pathlib.Path("/proc/cpuinfo")
# Flags of processors that compute in a precision, on x86 and on ARM.
_INSTRUCTIONS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}


class EmulationWarning(UserWarning):
    """A precision that the processor has no instructions for, which it emulates."""


def warn_if_emulated(precision: str, devices: Iterable[str]) -> None:
    """Warns of a precision that the processor has no instructions for.

    It does not warn if some device is not a CPU, or if the processor does not list its
    instructions.

    Args:
        precision: `float32`, `bfloat16` or `float16`.
        devices: names of the devices, such as `/device:CPU:0`.

    Example:
        >>> from inres_tf import environment
        >>> environment.warn_if_emulated("float32", ["/device:CPU:0"])
    """
    needed, listed = _INSTRUCTIONS.get(precision), _cpu_info("flags", "Features")
    if needed is None or listed is None or not all("CPU" in d for d in devices):
        return
    if needed.isdisjoint(listed.split()):
        warnings.warn(
            f"this processor has no {precision} instructions: {precision} is emulated, "
            "and probably slower than float32",
            EmulationWarning,
            stacklevel=2,
        )


def memory() -> int:
    """Returns the bytes of memory of this machine, or of this container if fewer."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # there is no container, or "max"
        return machine


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

    None if no git repository holds the code. One that ignores it, as a virtual
    environment in which the package is installed, does not.
    """
    here = pathlib.Path(__file__)
    try:
        _, revision, changes = (
            subprocess.run(
                ["git", "-C", str(here.parent), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for arguments in (
                ["ls-files", "--error-unmatch", here.name],
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changes else "")


def processor() -> str:
    """Name of the processor."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(*names):
    """The first value of one of these entries of /proc/cpuinfo, or None."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    entries = (line.partition(":") for line in lines)
    return next((v.strip() for name, _, v in entries if name.strip() in names), None)


def describe() -> dict[str, Any]:
    """What results depend on besides their settings, as entries of their files."""
    return {
        "versions": versions(),
        "git_revision": git_revision(),
        "processor": processor(),
    }
