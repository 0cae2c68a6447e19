"""Weights of the official PyTorch code, loaded into the zoo's networks.

The official code is `minicheshire/InResNet` on GitHub. Its networks own a few
parameters that their forward pass never uses; these are known here and passed over.
"""

import re

import keras
import numpy as np

_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# Parameters the official networks hold and never use: the stem's batch norm, second
# projections, and the bottleneck's first projection in networks of basic blocks. Damped
# networks also hold a scalar for each block that is not damped.
_UNUSED = re.compile(r"bn1\.|downsample(1|22|32)\.|.*\.num_batches_tracked$")


def load_official_state(model, state) -> None:
    """Loads a state dict of the official code into a network of the zoo.

    Args:
        model: a CIFAR network of the zoo with its top, of the same depth, classes and
            damping as the official one.
        state: mapping from the official names (`"blocks.0.conv1.weight"`, `"ks.1"`,
            ...) to arrays. Convolutions are (out, in, height, width). A `"module."`
            prefix, as of `torch.nn.DataParallel`, is taken off.

    Raises:
        ValueError: if `model` is no network of the official code, or entries are
            missing, unknown or of the wrong shape; the message names them all and
            nothing is changed.
    """
    state = {k.removeprefix("module."): np.asarray(v) for k, v in state.items()}
    targets = _targets(model)
    missing = sorted(set(targets) - set(state))
    unused = set()
    if any(name.startswith("ks.") for name in targets):
        unused = {f"ks.{i}" for i in range(len(_block_starts(model)))}
    unknown = sorted(
        name for name in set(state) - set(targets) - unused if not _UNUSED.match(name)
    )
    values, misshaped = [], []
    for name in targets.keys() & state.keys():
        variable = targets[name]
        value = _to_keras(state[name], variable)
        if tuple(value.shape) != tuple(variable.shape):
            misshaped.append(
                f"{name} (has {tuple(state[name].shape)}, needs "
                f"{_official_shape(variable)})"
            )
        values.append((variable, value))
    problems = [
        f"{what}: {', '.join(names)}"
        for what, names in (
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


def read_official_checkpoint(path) -> dict[str, np.ndarray]:
    """Reads a state dict from a PyTorch file, without running code held in it.

    Args:
        path: a file written by `torch.save(network.state_dict(), path)`.

    Returns:
        Dict from the official names to numpy arrays.

    Raises:
        ImportError: if PyTorch is not installed.
        ValueError: if the file holds anything but tensors by name.
        FileNotFoundError: if there is no such file.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "Reading a PyTorch checkpoint needs PyTorch: pip install 'inres-tf[torch]'"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is not a PyTorch state dict that can be read safely "
            "(weights_only=True). If it holds a whole pickled network, as the official "
            "train.py writes, save it again where you trust it with "
            "torch.save(network.state_dict(), ...)."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor)
        for name, value in state.items()
    ):
        raise ValueError(f"{path} holds no state dict: a dict of tensors by name.")
    state = {name: tensor.detach() for name, tensor in state.items()}
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"{path} holds values that are not finite: {broken[0]}.")
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in state.items()
    }


def _targets(model) -> dict:
    """Official name to variable, for every variable of `model`."""
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
                f"Received: a network with the layer {layer.name!r}"
            )
        if layer.name.endswith("_bn"):
            for theirs, ours in _BATCH_NORM.items():
                targets[f"{official}.{theirs}"] = getattr(layer, ours)
        elif layer.name.endswith("_merge"):
            targets[official] = layer.k
        else:
            targets[f"{official}.weight"] = layer.kernel
            if layer.use_bias:
                targets[f"{official}.bias"] = layer.bias
    return targets


def _block_starts(model) -> dict[str, int]:
    """Block prefix (`"stage2_block1"`) to its index in the whole network."""
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
    scalar = tuple(variable.shape) == () and value.shape == (1,)
    return value.reshape(()) if scalar else value


def _official_shape(variable):
    shape = tuple(variable.shape)
    if len(shape) == 4:
        return (shape[3], shape[2], shape[0], shape[1])
    return shape[::-1] if len(shape) == 2 else shape or (1,)
