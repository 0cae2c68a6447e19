"""The layers of a `.keras` file: their settings and weights, in the order of the chain.

A `.keras` file is a zip archive. `config.json` holds the model's description and
`model.weights.h5` the weights: those of the layers in the groups
`layers/CLASS`, `layers/CLASS_1`, ... in the order of the layers, numbered in the order
in which the layer created them, the trainable ones first.
"""

import dataclasses
import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from inres_tf.errors import UserError
from inres_tf.model_files import find_model

find = find_model


@dataclasses.dataclass(frozen=True)
class SavedLayer:
    """A layer of a file.

    Attributes:
        name: name of the layer.
        kind: class of the layer; with its package, as in `"inres_tf>MaxMin"`, if it is
            not of Keras.
        settings: the arguments of its constructor.
        groups: weights of the layer (`""`) and of the layers in it, by their path.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    groups: Mapping[str, list[np.ndarray]] = dataclasses.field(repr=False)

    def weights(self, count: int, group: str = "") -> list[np.ndarray]:
        """Returns weights in float64.

        Args:
            count: how many there must be.
            group: path of the layer in this layer that they belong to.

        Raises:
            UserError: if there are more or fewer, or they are not finite numbers in
                floating point.
        """
        found = self.groups.get(group, [])
        if len(found) != count:
            place = f" in {group}" if group else ""
            raise self.error(f"must have {count} weights{place}; got {len(found)}")
        for values in found:
            if values.dtype.kind != "f" or not np.isfinite(values).all():
                raise self.error(
                    "must have finite weights in floating point; got some of type "
                    f"{values.dtype}"
                )
        return [values.astype(np.float64) for values in found]

    def error(self, reason: str) -> UserError:
        """Returns the error that this layer cannot be verified for a reason."""
        return UserError(f"layer {self.name!r} ({self.kind}) {reason}")


def read(path: str | os.PathLike[str]) -> tuple[tuple[int, ...], list[SavedLayer]]:
    """Reads the layers of a model in which each follows the one before it.

    Args:
        path: a `.keras` file, written by Keras 3.

    Returns:
        Shape of an image, and the layers after the input, in their order.

    Raises:
        UserError: if the file is damaged or not a Keras model, or the layers do not
            form a chain.
    """
    try:
        if h5py.is_hdf5(path):
            raise UserError(
                f"{path} is in Keras' older HDF5 format; load the model in Keras and "
                "save it as a .keras file"
            )
        with zipfile.ZipFile(path) as archive:
            model = json.loads(archive.read("config.json"))
            weights = io.BytesIO(archive.read("model.weights.h5"))
        kind, config = model["class_name"], model["config"]
        if kind not in ("Functional", "Sequential"):
            raise UserError(
                f"{path} holds a model of class {kind}; only chains of layers can be "
                "verified, Sequential or Functional models"
            )
        with h5py.File(weights, "r") as file:
            layers = _layers(config["layers"], file["layers"])
        if kind == "Functional":
            layers = _in_order(config, layers)
        if layers[0].kind != "InputLayer":
            raise layers[0].error("must follow an input of a fixed shape")
        shape = layers[0].settings["batch_shape"][1:]
        if not all(isinstance(side, int) for side in shape):
            raise UserError(f"the images of {path} have no fixed shape: {shape}")
        return tuple(shape), layers[1:]
    except UserError:
        raise
    except Exception as error:  # the type depends on where the file is damaged
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"checkpoint {path} is damaged or not a Keras model: {reason[0]}"
        ) from error


def _layers(configs, store) -> list[SavedLayer]:
    """All layers, in the order in which they are saved."""
    counts: Counter[str] = Counter()
    layers = []
    for config in configs:
        base = _snake_case(config["class_name"])
        group = f"{base}_{counts[base]}" if counts[base] else base
        counts[base] += 1
        name = config["config"]["name"]
        groups = {}
        if group in store:  # operations that are no layers are not
            groups = _groups(store[group])
            saved = store[group]["vars"].attrs.get("name", name)
            if saved != name:
                raise ValueError(f"the weights of {name!r} are those of {saved!r}")
        layers.append(SavedLayer(name, _kind(config), config["config"], groups))
    return layers


def _kind(config) -> str:
    """The class of a serialised layer; see `SavedLayer`."""
    kind, module = config["class_name"], config.get("module") or ""
    return config.get("registered_name") or (
        kind if module.split(".")[0] == "keras" else f"{module}.{kind}"
    )


def _snake_case(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _groups(store) -> dict[str, list[np.ndarray]]:
    """The weights in a group and in the groups in it, by path without `/vars`."""
    groups = {}

    def visit(path, member):
        if isinstance(member, h5py.Group) and path.split("/")[-1] == "vars":
            numbered = sorted(member.items(), key=lambda item: int(item[0]))
            name = path.removesuffix("vars").removesuffix("/")
            groups[name] = [values[()] for _, values in numbered]

    store.visititems(visit)
    return groups


def _in_order(config, layers: list[SavedLayer]) -> list[SavedLayer]:
    """The layers of a functional model, if each has the one before it as its input."""
    after: dict[str, list[SavedLayer]] = {}
    for entry, layer in zip(config["layers"], layers):
        sources = [_sources(node) for node in entry["inbound_nodes"]]
        if layer.kind == "InputLayer":
            sources = [[""]]
        if len(sources) != 1 or len(sources[0]) != 1:
            inputs = [name for names in sources for name in names]
            raise layer.error(
                f"takes the outputs of {len(inputs)} layers ({', '.join(inputs)}); "
                "only chains can be verified, in which each layer follows one other"
            )
        after.setdefault(sources[0][0], []).append(layer)
    chain: list[SavedLayer] = []
    while following := after.get(chain[-1].name if chain else "", []):
        if len(following) > 1:
            names = ", ".join(layer.name for layer in following)
            raise UserError(
                f"the model branches into {names}; only chains can be verified, in "
                "which each layer follows one other"
            )
        chain += following
    outputs = np.ravel(config["output_layers"]).tolist()
    if outputs[:1] != [chain[-1].name] or len(outputs) != 3:
        raise UserError(
            f"the model must have one output, its last layer {chain[-1].name!r}"
        )
    return chain


def _sources(node) -> list[str]:
    """Names of the layers whose outputs a call of a layer takes."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            return [node["config"]["keras_history"][0]]
        node = list(node.values())
    if isinstance(node, list):
        return [name for item in node for name in _sources(item)]
    return []
