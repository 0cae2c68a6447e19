"""Loading weights of the official PyTorch code into the networks of the zoo.

The official code is `minicheshire/InResNet` on GitHub. Its networks hold a few
parameters that their forward pass never uses; these are ignored.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# Modules that the official networks never use: the stem's batch norm, second
# projections, and the bottleneck's first projection in networks of basic blocks.
_UNUSED_NORMS = (
    "bn1",
    *(f"downsample{i}.downsample.0" for i in ("1", "22", "32")),
)
_UNUSED_CONVS = tuple(f"downsample{i}.downsample.2" for i in ("1", "22", "32"))
_COUNT = "num_batches_tracked"  # of every batch norm
# Where checkpoints with more than a state dict hold it, and what wrappers such as
# DataParallel, torch.compile and AveragedModel add to it.
_HOLDERS = ("state_dict", "model_state_dict", "model", "net")
_WRAPPERS = ("module", "_orig_mod")
_COUNTERS = ("n_averaged",)


def load_official_state(model: keras.Model, state: Mapping[str, npt.ArrayLike]) -> None:
    """Loads a state dict of the official code into a network of the zoo.

    Args:
        model: a network of the zoo for small images, with its top and of the same
            depth, classes and damping as the official one.
        state: mapping from the official names (`"blocks.0.conv1.weight"`, `"ks.1"`,
            ...) to arrays. Convolutions are (out, in, height, width). What
            `torch.nn.DataParallel`, `torch.compile` and averaged models add to it is
            removed; it may also be the value of `"state_dict"`, `"model_state_dict"`,
            `"model"` or `"net"` in a checkpoint with more than it.

    Raises:
        ValueError: if the official code has no network like `model`, or entries are
            missing, unknown, repeated or of the wrong shape. The message names them
            all, and the model is not modified.

    Example:
        >>> model = zoo.InResNet20()
        >>> state = inres_tf.convert.read_official_checkpoint(
        ...     "in_resnet20.pt")  # doctest: +SKIP
        >>> inres_tf.convert.load_official_state(model, state)  # doctest: +SKIP
    """
    arrays = {name: np.asarray(value) for name, value in _unwrapped(state).items()}
    targets = _targets(model)
    missing = sorted(set(targets) - set(arrays))
    unused = _unused(model, targets)
    unknown = sorted(set(arrays) - set(targets) - set(unused))
    values = []
    misshaped = [
        f"{name} (has {arrays[name].shape}, needs {unused[name]} dimensions)"
        for name in unused.keys() & arrays.keys()
        if name not in targets
        and arrays[name].ndim != unused[name]
        and not (unused[name] == 0 and arrays[name].shape == (1,))
    ]
    for name in targets.keys() & arrays.keys():
        variable = targets[name]
        value = _to_keras(arrays[name], variable)
        if tuple(value.shape) != tuple(variable.shape):
            misshaped.append(
                f"{name} (has {tuple(arrays[name].shape)}, needs "
                f"{_official_shape(variable)})"
            )
        values.append((variable, value))
    problems = [
        f"{problem}: {', '.join(names)}"
        for problem, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of the wrong shape", sorted(misshaped)),
        )
        if names
    ]
    if problems:
        raise ValueError(
            f"The official state does not fit {model.name}. " + "; ".join(problems)
        )
    for variable, value in values:
        variable.assign(value)


def read_official_checkpoint(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a state dict from a PyTorch file without running code in it.

    Args:
        path: a file written by `torch.save(network.state_dict(), path)`, or a
            checkpoint with more than that; see `load_official_state`.

    Returns:
        Dict from the official names to NumPy arrays.

    Raises:
        ImportError: if PyTorch is not installed.
        ValueError: if the file is not a state dict of finite tensors.
        FileNotFoundError: if the file does not exist.

    Example:
        >>> state = inres_tf.convert.read_official_checkpoint(
        ...     "in_resnet20.pt")  # doctest: +SKIP
        >>> state["conv1.weight"].shape  # doctest: +SKIP
        (16, 3, 3, 3)
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "Reading a PyTorch checkpoint needs PyTorch: pip install torch"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is not a PyTorch state dict that can be read safely "
            "(weights_only=True). If it is a whole pickled network, as written by the "
            "official train.py, and you trust it, load it in PyTorch and save it with "
            "torch.save(network.state_dict(), ...)."
        ) from error
    if isinstance(state, dict):
        state = _unwrapped(state)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor)
        for name, value in state.items()
    ):
        raise ValueError(f"{path} is not a state dict, a dict from names to tensors.")
    state = {name: tensor.detach() for name, tensor in state.items()}
    nonfinite = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if nonfinite:
        raise ValueError(f"{path} holds non-finite values: {nonfinite[0]}.")
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in state.items()
    }


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state dict under the official names, out of what it is wrapped in."""
    inner = [k for k in _HOLDERS if isinstance(state.get(k), Mapping)]
    if len(inner) > 1:
        raise ValueError(
            f"The official state is ambiguous: {' and '.join(inner)} both hold a state "
            "dict. Pass one of them."
        )
    if inner:
        return _unwrapped(state[inner[0]])
    result: dict[str, Any] = {}
    for name, value in state.items():
        plain = name
        if isinstance(name, str):
            plain = ".".join(p for p in name.split(".") if p not in _WRAPPERS)
        if plain in _COUNTERS:
            continue
        if plain in result:
            raise ValueError(f"The official state holds {plain} twice, as {name} too.")
        result[plain] = value
    return result


def _targets(model) -> dict[str, Any]:
    """Maps official names to the variables of `model`."""
    targets = {}
    starts = _block_starts(model)
    for layer in model.layers:
        if not layer.weights or isinstance(layer, keras.layers.Normalization):
            continue
        official = _official_layer(layer.name, starts)
        if official is None or getattr(layer, "groups", 1) > 1:
            raise ValueError(
                f"The official code has no network like {model.name}: only ResNets for "
                "small images, such as in_resnet110, can be converted. "
                f"Received: a network with a layer {layer.name!r}"
            )
        if layer.name.endswith("_bn"):
            for official_part, keras_part in _BATCH_NORM.items():
                targets[f"{official}.{official_part}"] = getattr(layer, keras_part)
        elif layer.name.endswith("_merge"):
            targets[official] = layer.k
        else:
            targets[f"{official}.weight"] = layer.kernel
            if layer.use_bias:
                targets[f"{official}.bias"] = layer.bias
    return targets


def _unused(model, targets) -> dict[str, int]:
    """The numbers of dimensions of official entries without effect, by their names.

    Damped networks also hold a scalar for each undamped block.
    """
    unused = {f"{norm}.{part}": 1 for norm in _UNUSED_NORMS for part in _BATCH_NORM}
    unused |= {f"{conv}.weight": 4 for conv in _UNUSED_CONVS}
    used = {name.rpartition(".")[0] for name in targets if "running_var" in name}
    unused |= {f"{norm}.{_COUNT}": 0 for norm in (*_UNUSED_NORMS, *used)}
    if any(name.startswith("ks.") for name in targets):
        unused |= {f"ks.{i}": 0 for i in range(len(_block_starts(model)))}
    return unused


def _block_starts(model) -> dict[str, int]:
    """Maps block prefixes (`"stage2_block1"`) to indices in the whole network."""
    names = [re.match(r"stage\d+_block\d+", layer.name) for layer in model.layers]
    order = dict.fromkeys(match.group() for match in names if match)
    return {
        name: i
        for i, name in enumerate(
            sorted(order, key=lambda n: tuple(map(int, re.findall(r"\d+", n))))
        )
    }


def _official_layer(name: str, blocks: dict[str, int]) -> str | None:
    fixed = {"stem_conv": "conv1", "head_bn": "bn", "predictions": "fc"}
    if name in fixed:
        return fixed[name]
    match = re.match(
        r"(stage(\d+)_block\d+)_(\d+|shortcut|merge)(?:_(bn|conv))?$", name
    )
    if match is None:
        return None
    block, stage, part, kind = match.groups()
    if part == "merge":
        return f"ks.{blocks[block]}"
    if part == "shortcut":
        modules = {"1": "downsample1", "2": "downsample21", "3": "downsample31"}
        if stage not in modules:
            return None
        module = modules[stage]
        return f"{module}.downsample.{'0' if kind == 'bn' else '2'}"
    return f"blocks.{blocks[block]}.{kind}{part}"


def _to_keras(value, variable):
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if value.ndim == 2:
        return value.T
    is_scalar = tuple(variable.shape) == () and value.shape == (1,)
    return value.reshape(()) if is_scalar else value


def _official_shape(variable):
    shape = tuple(variable.shape)
    if len(shape) == 4:
        return (shape[3], shape[2], shape[0], shape[1])
    return shape[::-1] if len(shape) == 2 else shape or (1,)
