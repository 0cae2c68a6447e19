"""Weights of the zoo: shipped ones by name, a user's own by path."""

import contextlib
import json
import os
import pathlib
import warnings
import zipfile
import zlib

import h5py

from zoo import presets

_SUFFIXES = (".weights.h5", ".keras")
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def resolve(model_name: str, weights) -> pathlib.Path:
    """The file behind a constructor's `weights` argument.

    Args:
        model_name: name of the model in the zoo.
        weights: name of shipped weights, or a path to a `.weights.h5` or `.keras`
            file.

    Raises:
        ValueError: if it is neither; the message lists what would be.
    """
    shipped = presets.WEIGHTS.get(model_name, {})
    if isinstance(weights, (str, os.PathLike)):
        if weights in shipped:
            return pathlib.Path(__file__).parent / shipped[weights][0]
        path = pathlib.Path(weights)
        if path.is_file() and path.name.endswith(_SUFFIXES):
            return path
    names = ", ".join(map(repr, shipped)) or "none are shipped yet"
    raise ValueError(
        "`weights` must be None, the name of shipped weights "
        f"(for {model_name}: {names}) or the path of an existing .weights.h5 or "
        f".keras file. Received: weights={str(weights)!r}"
    )


def saved_classes(path: pathlib.Path) -> int | None:
    """Number of classes of the classifier saved in a file; None if it has none.

    Raises:
        ValueError: if the file is damaged or no Keras weights file.
    """
    return _read(path, _classes)


def holds(path: pathlib.Path, item: str) -> bool:
    """Whether a file holds a group, such as `"dropout"` or `"damped_add/vars/0"`.

    Keras names the groups after the layers' classes.

    Raises:
        ValueError: if the file is damaged or no Keras weights file.
    """
    return _read(path, lambda file: f"layers/{item}" in file)


def _read(path, function):
    """What a function makes of the HDF5 file that is, or is in, `path`."""
    with _readable(path):
        if path.name.endswith(".keras"):
            with zipfile.ZipFile(path) as archive:
                with (
                    archive.open("model.weights.h5") as member,
                    h5py.File(member, "r") as file,
                ):
                    return function(file)
        with h5py.File(path, "r") as file:
            return function(file)


@contextlib.contextmanager
def _readable(path):
    """Turns what the readers of a damaged file raise into a ValueError."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, *_ZIP_ERRORS) as error:
        raise ValueError(f"{path} is not a readable weights file: {error}") from error


def _saved_dampings(path: pathlib.Path) -> set[str] | None:
    """The dampings of the network in a `.keras` file; None for bare weights."""
    if not path.name.endswith(".keras"):
        return None
    with _readable(path), zipfile.ZipFile(path) as archive:
        return _dampings(json.loads(archive.read("config.json")))


def _dampings(config) -> set[str]:
    """Every value of a `damping` in a model's configuration."""
    if isinstance(config, dict):
        own = {v for k, v in config.items() if k == "damping"}
        return own.union(*map(_dampings, config.values()))
    if isinstance(config, (list, tuple)):
        return set().union(*map(_dampings, config))
    return set()


def _classes(file) -> int | None:
    biases = file.get("layers/dense/vars/1")
    return None if biases is None else int(biases.shape[0])


def _sizes(file) -> tuple[int, int]:
    """(numbers, arrays) that a file holds."""
    sizes = []
    file.visititems(
        lambda _, item: sizes.append(item.size) if hasattr(item, "size") else None
    )
    return sum(sizes), len(sizes)


def load(model, path: pathlib.Path) -> None:
    """Loads the weights in `path` into `model`.

    Raises:
        ValueError: if they are another network's, naming both.
    """
    theirs, ours = _saved_dampings(path), _dampings(model.get_config())
    undamped = not theirs and ours <= {"none"}
    if theirs is not None and theirs != ours and not undamped:
        found, needed = (" and ".join(sorted(names)) for names in (theirs, ours))
        raise ValueError(
            f"The weights in {path} do not fit {model.name}: they are of a network "
            f"with damping {found or 'in no block'}, not {needed or 'in no block'}."
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers that it leaves as they were initialised.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, RuntimeError, UserWarning) as error:
        numbers, arrays = _read(path, _sizes)
        raise ValueError(
            f"The weights in {path} do not fit {model.name}: the file holds "
            f"{numbers:,} numbers in {arrays} arrays, the network needs "
            f"{model.count_params():,} in {len(model.weights)}, of its own shapes."
        ) from error
