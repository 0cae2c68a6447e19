"""Finding the residual additions of a functional model."""

from dataclasses import dataclass
from typing import Any

import keras

from inres_tf.layers.damped_add import DampedAdd
from inres_tf.models.graph import graph_calls, is_graph, node_of


@dataclass(frozen=True)
class Addition:
    """An addition of tensors in a model.

    Attributes:
        name: name of the layer or operation; within a nested model `"nested/name"`.
        operation: the layer or operation.
        shortcut: index of the shortcut among the inputs, 0 or 1, for each of its calls;
            empty if the addition is not residual.
        reason: why the addition is not residual; None if it is.
    """

    name: str
    operation: keras.Operation
    shortcut: tuple[int, ...] = ()
    reason: str | None = None


def additions(model: keras.Model) -> list[Addition]:
    """Lists the additions of a model, residual or not, in graph order.

    Additions are `keras.layers.Add`, `+`, `keras.ops.add` and `DampedAdd("none")`. An
    addition of two tensors of the same shape is residual if one of them, the shortcut,

    - is what the other one is computed from,
    - or is computed from the same tensor as the other one, without a layer with a
      kernel,
    - or with one such layer, a projection, while the other one passes through more.

    So a long skip connection with a projection, such as a lateral one in a feature
    pyramid, counts as residual too; exclude it with the argument `where` of `damp`.

    Args:
        model: functional or Sequential Keras model, including nested ones, but not
            models within layers such as `TimeDistributed`.

    Returns:
        One `Addition` per layer or operation.

    Raises:
        ValueError: if the model is subclassed, since Keras does not know its graph.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4,))
        >>> branch = keras.layers.Dense(4)(inputs)
        >>> outputs = keras.layers.Add(name="merge")([branch, inputs])
        >>> (merge,) = inres_tf.additions(keras.Model(inputs, outputs))
        >>> merge.name, merge.shortcut
        ('merge', (1,))
    """
    check_functional(model)
    return scan(model)[0]


def check_functional(model: keras.Model) -> None:
    """Raises ValueError for a subclassed model, whose graph Keras does not know."""
    if not is_graph(model) or not isinstance(model, keras.Model):
        kind = type(model).__name__
        raise ValueError(
            f"{getattr(model, 'name', kind)!r} is a subclassed model, whose graph "
            "Keras does not know: only functional models can be damped. Build it with "
            "keras.Model(inputs, outputs), or use inres_tf.layers.DampedAdd for the "
            f"additions in its `call`. Received: {kind}"
        )


def scan(model: keras.Model) -> tuple[list[Addition], dict[int, int]]:
    """Finds the additions of a model and of the models nested in it.

    An addition that is called several times, even in different models, has one λ. It is
    residual if it is residual at every call.

    Args:
        model: functional or Sequential Keras model.

    Returns:
        (additions, dict from the id of a residual addition's call to the index of its
        shortcut).
    """
    names: dict[Any, str] = {}
    verdicts: dict[Any, dict[int, tuple[int | None, str | None]]] = {}
    _judge_model(model, "", names, verdicts)
    result: list[Addition] = []
    shortcuts: dict[int, int] = {}
    for operation, calls in verdicts.items():
        reason = next((r for _, r in calls.values() if r), None)
        indices = {call: i for call, (i, _) in calls.items() if i is not None}
        if reason:
            indices = {}
        shortcuts |= indices
        result.append(
            Addition(names[operation], operation, tuple(indices.values()), reason)
        )
    return result, shortcuts


def _judge_model(model, prefix, names, verdicts):
    """Judges the additions of a model, then those of the models nested in it.

    Args:
        model: functional or Sequential model.
        prefix: path of the model.
        names: dict from each operation or model visited so far to its path.
        verdicts: dict from addition to {id of the call: verdict}, which is extended.
    """
    judged = {}
    if isinstance(model, keras.Sequential):
        calls = [(layer, None) for layer in model.layers]
    else:
        nodes = graph_calls(model)
        judged = _judge(nodes)
        calls = [(node.operation, id(node)) for node in nodes]
    for operation, call in calls:
        is_new = operation not in names
        if is_new:
            names[operation] = prefix + operation.name
        if call in judged:
            verdicts.setdefault(operation, {})[call] = judged[call]
        elif is_new and is_graph(operation):
            _judge_model(operation, f"{names[operation]}/", names, verdicts)


def _is_addition(node):
    """Whether a call adds tensors: an `Add` layer, `+` or `keras.ops.add`."""
    operation = node.operation
    if isinstance(operation, DampedAdd):
        return operation.damping == "none"
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, keras.layers.Add)
    return type(operation).__name__ == "Add" and len(node.input_tensors) == 2


def _judge(nodes):
    """Maps the id of each addition's call to its (shortcut, None) or (None, reason).

    Sets of ancestors are integers with one bit per call.
    """
    index_of = {id(node): i for i, node in enumerate(nodes)}
    parents = [[index_of[id(p)] for p in node.parent_nodes] for node in nodes]
    kernels = [_kernels(node.operation) for node in nodes]
    ancestors, verdicts = [], {}
    for i, node in enumerate(nodes):
        bits = 1 << i
        for parent in parents[i]:
            bits |= ancestors[parent]
        ancestors.append(bits)
        if _is_addition(node):
            reason = _why_not_residual(node)
            if reason:
                verdict = None, reason
            elif isinstance(node.operation, DampedAdd):
                verdict = 0, None
            else:
                producers = [index_of[id(node_of(x))] for x in node.input_tensors]
                verdict = _shortcut(producers, ancestors, parents, kernels)
            verdicts[id(node)] = verdict
    return verdicts


def _why_not_residual(node):
    """Returns why a call is not residual, judged by its own inputs, or None."""
    operation, tensors = node.operation, node.input_tensors
    if (
        isinstance(operation, keras.layers.Add)
        and type(operation) is not keras.layers.Add
    ):
        return f"it is a {type(operation).__name__}, a subclass of Add"
    if len(tensors) != 2:
        return f"it adds {len(tensors)} tensors"
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if shapes[0] != shapes[1]:
        return f"it adds shapes {shapes[0]} and {shapes[1]}"
    if tensors[0] is tensors[1]:
        return "it adds a tensor to itself"
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors]
    if not all(keras.backend.is_float_dtype(dtype) for dtype in dtypes):
        return f"it adds {' and '.join(dict.fromkeys(dtypes))}"
    return None


def _shortcut(producers, ancestors, parents, kernels):
    """Returns (index of the shortcut, None), or (None, why there is none).

    Args:
        producers: indices of the calls that produce the two inputs.
        ancestors: for each call, the bits of itself and of all its ancestors.
        parents: for each call, the indices of its parents.
        kernels: for each call, its number of layers with kernels.
    """
    first, second = (ancestors[producer] for producer in producers)
    exclusive = [first & ~second, second & ~first]
    for i in (0, 1):
        if not exclusive[i]:
            return i, None
    if not first & second:
        return None, "its inputs have nothing in common"
    counts = [
        _fewest_kernels(producer, bits, first & second, parents, kernels)
        for producer, bits in zip(producers, exclusive)
    ]
    if counts[0] == counts[1] or min(counts) > 1:
        return (
            None,
            f"its inputs are parallel branches of {counts[0]} and {counts[1]} layers "
            "with kernels",
        )
    return counts.index(min(counts)), None


def _fewest_kernels(producer, exclusive, common, parents, kernels):
    """Returns the fewest layers with kernels on a path from `common` to `producer`."""
    fewest = {}
    for i in range(producer + 1):
        if exclusive >> i & 1:
            before = [
                0 if common >> parent & 1 else fewest[parent] for parent in parents[i]
            ]
            fewest[i] = kernels[i] + min(before, default=float("inf"))
    return fewest[producer]


def _kernels(operation):
    """Counts the layers with a kernel that a layer consists of."""
    if not isinstance(operation, keras.layers.Layer):
        return 0
    sublayers = list(operation._flatten_layers(include_self=False)) or [operation]
    return sum(
        any(len(weight.shape) > 1 for weight in layer.weights)
        for layer in sublayers
        if layer is operation or not list(layer._flatten_layers(include_self=False))
    )
