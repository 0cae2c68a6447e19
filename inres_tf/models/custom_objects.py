"""Classes and functions of users, which the files of their models name."""

from __future__ import annotations

import importlib
import json
import pathlib
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import keras

from inres_tf.errors import UserError

# What HDF5 files name beside layers.
_KNOWN = ("Functional", "Model", "Sequential")


def import_modules(modules: Iterable[str]) -> None:
    """Imports modules, so that Keras finds the classes and functions in them.

    Args:
        modules: names of the modules. Their code is run.

    Raises:
        UserError: if one of them cannot be imported.

    Example:
        >>> import pathlib
        >>> import sys
        >>> import keras
        >>> from inres_tf.models import custom_objects
        >>> _ = pathlib.Path("my_code.py").write_text("def double(x): return 2 * x")
        >>> sys.path.insert(0, ".")
        >>> custom_objects.import_modules(["my_code"])
        >>> keras.saving.get_registered_object("double")(4)
        8
    """
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever the code of the user raises
            raise UserError(
                f"--import={name} fails: {type(error).__name__}: {error}; it must be a "
                "module in the current folder or an installed one"
            ) from error
        package = name.split(".")[0]
        keras.saving.get_custom_objects().update(
            (key, value)
            for key, value in vars(module).items()
            if callable(value) and _package(value) == package
        )


def explain(path: pathlib.Path) -> str:
    """Says which code of a user a model needs that is not loaded.

    Args:
        path: a `.keras` or HDF5 file with a model.

    Returns:
        What is missing and how to load it; empty if nothing is, or the file cannot be
        read.
    """
    try:
        missing = dict.fromkeys(_missing(_config(path)))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""
    if not missing:
        return ""
    names = ", ".join(name.split(">")[-1] for name, _ in missing)
    modules = list(dict.fromkeys(module for _, module in missing if module))
    if modules:
        where = f"of module {' and '.join(modules)}; if you trust it, import it with"
    else:
        where = "which Keras does not have; if you trust it, import its module with"
    return f"{path} needs {names}, {where} --import={','.join(modules) or 'MODULE'}"


def _config(path) -> Any:
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            return json.loads(file.attrs["model_config"])
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    # Losses and metrics of Keras look like functions of a user there.
    config.pop("compile_config", None)
    return config


def _missing(config: Any) -> Iterator[tuple[str, str | None]]:
    """Yields the name and module, if known, of what Keras cannot find."""
    if isinstance(config, dict):
        name, module = _named(config)
        if name and keras.saving.get_registered_object(name) is None:
            yield name, module
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from _missing(item)


def _named(config: dict[str, Any]) -> tuple[str | None, str | None]:
    """The name and module of what a configuration describes, unless it is Keras' own.

    The module is None for code of scripts and notebooks, and in HDF5 files.
    """
    name, module = config.get("class_name"), config.get("module")
    if str(name).startswith("__"):  # of tensors and lambda functions
        return None, None
    if name == "function":  # of Keras' own there are only the names
        return config["config"], None
    if "registered_name" in config:
        is_own = module is None or module.split(".")[0] != "keras"
        return (config["registered_name"] if is_own else None), module
    if isinstance(name, str) and isinstance(config.get("config"), dict):
        if name not in _KNOWN and not hasattr(keras.layers, name):
            return name, None
    return None, None


def _package(value: Any) -> str:
    return str(getattr(value, "__module__", "")).split(".")[0]
