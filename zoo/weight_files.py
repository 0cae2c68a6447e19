"""Weights files: shipped ones by name, others by path."""

import contextlib
import json
import os
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import h5py

from inres_tf import class_names
from zoo import cards

if TYPE_CHECKING:
    import keras

_SUFFIXES = (".weights.h5", ".keras")
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def resolve(model_name: str, weights: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the file that a constructor's argument `weights` means.

    Args:
        model_name: name of the model in the zoo.
        weights: name of shipped weights, or the path of a `.weights.h5` or `.keras`
            file.

    Raises:
        ValueError: if it is neither, with a list of the shipped weights; or if a
            shipped file is missing or damaged; or if it is in an older format.
    """
    shipped = cards.shipped(model_name)
    if isinstance(weights, (str, os.PathLike)):
        if weights in shipped:
            return cards.file_of(cards.card(model_name, str(weights)))
        path = pathlib.Path(weights)
        if path.is_file() and path.name.endswith(_SUFFIXES):
            return path
        if path.suffix in (".h5", ".hdf5") and h5py.is_hdf5(path):
            raise ValueError(f"{path} {_hdf5_problem(path)}")
    names = ", ".join(map(repr, shipped)) or "none are shipped"
    raise ValueError(
        "`weights` must be None, the name of shipped weights "
        f"(for {model_name}: {names}) or the path of an existing .weights.h5 or "
        f".keras file. Received: weights={str(weights)!r}"
    )


def _hdf5_problem(path: pathlib.Path) -> str:
    """Says what is in an HDF5 file of another name than `.weights.h5`."""
    with h5py.File(path, "r") as file:
        if "model_config" in file.attrs:
            return (
                "holds a whole model in Keras' older format: load it with "
                "keras.models.load_model and save it as a .keras file"
            )
        if "layer_names" in file.attrs:
            return (
                "holds weights in Keras' older format: load them into a model with "
                "model.load_weights and save it as a .keras file"
            )
    return f"must be named {path.stem}.weights.h5, if these are weights of Keras 3"


def check_fit(
    model_name: str,
    weights: str | os.PathLike[str] | None,
    model: "keras.Model",
    options: dict[str, Any],
) -> None:
    """Checks that shipped weights fit a network; a file's are checked in `load`.

    Args:
        model_name: name of the model in the zoo.
        weights: the constructor's argument; only names of shipped weights are checked.
        model: the network.
        options: arguments of its constructor.

    Raises:
        ValueError: if the weights are of other classes or images.
    """
    if weights not in cards.shipped(model_name):
        return
    images = options["input_tensor"]
    if images is None:
        images = model.inputs[0]
    classes = options["classes"] if options["include_top"] else None
    cards.check_fit(cards.card(model_name, str(weights)), images.shape[1:], classes)


def assign_class_names(
    model_name: str,
    weights: str | os.PathLike[str] | None,
    model: "keras.Model",
    path: pathlib.Path,
) -> None:
    """Names the classes of a classifier as the weights that it has loaded do.

    Args:
        model_name: name of the model in the zoo.
        weights: the constructor's argument.
        model: the classifier, which has `class_names` if the weights have them.
        path: the file of the weights.
    """
    if weights in cards.shipped(model_name):
        names = cards.card(model_name, str(weights))["classes"]
    else:
        names = class_names.read(path)
    class_names.assign(model, names)


def saved_classes(path: pathlib.Path) -> int | None:
    """Returns the number of classes of the classifier in a file, or None.

    Raises:
        ValueError: if the file is damaged or not a Keras weights file.
    """
    return _read(path, _classes)


def holds(path: pathlib.Path, item: str) -> bool:
    """Returns whether a file holds a group such as `"dropout"`.

    Args:
        path: a `.weights.h5` or `.keras` file.
        item: path below `layers`, where Keras names groups after the layers' classes:
            `"damped_add/vars/0"`.

    Raises:
        ValueError: if the file is damaged or not a Keras weights file.
    """
    return _read(path, lambda file: f"layers/{item}" in file)


def _read(path, function):
    """Applies a function to the HDF5 file `path`, or to the one in a `.keras` file."""
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
    """Turns the exceptions raised for a damaged file into a ValueError."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, *_ZIP_ERRORS) as error:
        raise ValueError(f"{path} is not a readable weights file: {error}") from error


def saved_shape(path: pathlib.Path) -> tuple[int | None, ...] | None:
    """Returns the shape of an image in a `.keras` file; None if there is none.

    Raises:
        ValueError: if the file is damaged.
    """
    config = _saved_config(path)
    shapes = list(_values(config, "batch_shape"))
    return tuple(shapes[0][1:]) if shapes else None


def _saved_config(path: pathlib.Path) -> Any:
    """Returns the configuration in a `.keras` file; None for a `.weights.h5` file."""
    if not path.name.endswith(".keras"):
        return None
    with _readable(path), zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def _values(config, key: str) -> Iterator[Any]:
    """Yields every value of a key in a model's configuration."""
    if isinstance(config, dict):
        if key in config:
            yield config[key]
        config = config.values()
    if not isinstance(config, (str, bytes)) and isinstance(config, Iterable):
        for part in config:
            yield from _values(part, key)


def _dynamics(config) -> set[tuple[str, float | None]]:
    """Returns kind and limit of the right-hand sides of neural ODEs."""
    found = (f for f in _values(config, "dynamics") if isinstance(f, dict))
    return {
        (kind, limit)
        for f in found
        for kind, limit in zip(_values(f, "kind"), _values(f, "limit"))
    }


def _classes(file) -> int | None:
    biases = file.get("layers/dense/vars/1")
    return None if biases is None else int(biases.shape[0])


def _sizes(file) -> tuple[int, int]:
    """Returns the (numbers, arrays) in a file."""
    sizes = []
    file.visititems(
        lambda _, item: sizes.append(item.size) if hasattr(item, "size") else None
    )
    return sum(sizes), len(sizes)


def _check_settings(path, saved_config, model) -> None:
    """Raises ValueError if a file is of a network with other blocks than a model."""
    own_config = model.get_config()
    saved, needed = (
        set(_values(config, "damping")) for config in (saved_config, own_config)
    )
    dynamics = [_dynamics(config) for config in (saved_config, own_config)]
    limits = [{f"{k!r} and lipschitz={v}" for k, v in values} for values in dynamics]
    both_undamped = not saved and needed <= {"none"}
    for name, differ, pair in (
        ("damping", saved != needed and not both_undamped, (saved, needed)),
        ("dynamics", dynamics[0] != dynamics[1], limits),
    ):
        if differ:
            texts = [" and ".join(sorted(map(str, v))) or "in no block" for v in pair]
            raise ValueError(
                f"The weights in {path} do not fit {model.name}: they belong to a "
                f"network with {name} {texts[0]}, not {texts[1]}."
            )


def load(model: "keras.Model", path: pathlib.Path) -> None:
    """Loads the weights in `path` into `model`.

    Raises:
        ValueError: if they belong to a different network.
    """
    config = _saved_config(path)
    if config is not None:
        _check_settings(path, config, model)
    try:
        with warnings.catch_warnings():
            # Keras only warns if it does not load the weights of a layer.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, RuntimeError, UserWarning) as error:
        numbers, arrays = _read(path, _sizes)
        raise ValueError(
            f"The weights in {path} do not fit {model.name}: the file holds "
            f"{numbers:,} numbers in {arrays} arrays, and the network needs "
            f"{model.count_params():,} in {len(model.weights)}, of the same shapes."
        ) from error
