"""Finding the residual additions of a functional model."""

from dataclasses import dataclass

import keras

from inres_tf.layers.damped_add import DampedAdd
from inres_tf.models.graph import graph_calls, node_of


@dataclass(frozen=True)
class Addition:
    """An addition of tensors in a model.

    Attributes:
        name: name of the layer or operation; within a nested model `"nested/name"`.
        operation: the layer or operation.
        shortcut: which of its inputs is the shortcut, 0 or 1, at each of its calls;
            empty if it is no residual addition.
        reason: why it is none; None if it is one.
    """

    name: str
    operation: keras.Operation
    shortcut: tuple[int, ...] = ()
    reason: str | None = None


def additions(model) -> list[Addition]:
    """The additions of a model, residual or not, in the order of its graph.

    Additions are `keras.layers.Add`, `+`, `keras.ops.add` and `DampedAdd("none")`. One
    of two tensors of the same shape is residual if one of them, the shortcut, is

    - what the other one is computed from,
    - or computed from the same tensor as the other one without a layer with a kernel,
    - or with one such layer, a projection, where the other one has more in its way.

    So a long skip with a projection, such as a lateral of a feature pyramid, counts as
    residual too: `damp` leaves it out by its `where`.

    Args:
        model: functional or Sequential Keras model; nested ones are searched as well,
            but not models within layers such as `TimeDistributed`.

    Raises:
        ValueError: if the model is subclassed: Keras does not know its graph.
    """
    check_functional(model)
    return scan(model)[0]


def check_functional(model):
    """Raises ValueError for a subclassed model, whose graph Keras does not know."""
    graph = isinstance(model, (keras.Function, keras.Sequential))
    if not graph or not isinstance(model, keras.Model):
        kind = type(model).__name__
        raise ValueError(
            f"{getattr(model, 'name', kind)!r} is a subclassed model, whose graph "
            "Keras does not know: only functional models can be damped. Build it with "
            "keras.Model(inputs, outputs), or put inres_tf.layers.DampedAdd where its "
            f"`call` adds. Received: {kind}"
        )


def scan(model):
    """(the additions of a model and those in it, the shortcut by the call's id).

    An addition that is called several times, in whatever models, is residual if it is
    so at every call: it has one λ.
    """
    names, verdicts = {}, {}
    _judge_model(model, "", names, verdicts)
    found, shortcuts = [], {}
    for operation, calls in verdicts.items():
        reason = next((r for _, r in calls.values() if r), None)
        indices = {} if reason else {node: i for node, (i, _) in calls.items()}
        shortcuts |= indices
        found.append(
            Addition(names[operation], operation, tuple(indices.values()), reason)
        )
    return found, shortcuts


def _judge_model(model, prefix, names, verdicts):
    """Adds the verdicts on a model's additions, then on those of the models in it.

    Args:
        model: functional or Sequential model.
        prefix: path of the model.
        names: operation or model: path; what is in it is done.
        verdicts: addition: {id of the call: verdict}.
    """
    judged = {}
    if isinstance(model, keras.Sequential):
        calls = [(layer, None) for layer in model.layers]
    else:
        nodes = graph_calls(model)
        judged = _judge(nodes)
        calls = [(node.operation, id(node)) for node in nodes]
    for operation, call in calls:
        first = operation not in names
        if first:
            names[operation] = prefix + operation.name
        if call in judged:
            verdicts.setdefault(operation, {})[call] = judged[call]
        elif first and isinstance(operation, (keras.Function, keras.Sequential)):
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
    """By the call's id: an addition's (shortcut, or None, and why there is none).

    Sets of ancestors are the bits of an integer, a bit for each call.
    """
    place = {id(node): i for i, node in enumerate(nodes)}
    parents = [[place[id(p)] for p in node.parent_nodes] for node in nodes]
    kernels = [_kernels(node.operation) for node in nodes]
    ancestors, verdicts = [], {}
    for i, node in enumerate(nodes):
        bits = 1 << i
        for parent in parents[i]:
            bits |= ancestors[parent]
        ancestors.append(bits)
        if _is_addition(node):
            reason = _refusal(node)
            if reason:
                verdict = None, reason
            elif isinstance(node.operation, DampedAdd):
                verdict = 0, None
            else:
                ends = [place[id(node_of(tensor))] for tensor in node.input_tensors]
                verdict = _shortcut(ends, ancestors, parents, kernels)
            verdicts[id(node)] = verdict
    return verdicts


def _refusal(node):
    """Why an addition is no residual one whatever its inputs come from, or None."""
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


def _shortcut(ends, ancestors, parents, kernels):
    """(index of the shortcut, None), or (None, why there is none).

    Args:
        ends: the calls that give the two inputs.
        ancestors: of each call, its own bit and those it depends on.
        parents: of each call, those it takes.
        kernels: of each call, its layers with kernels.
    """
    first, second = (ancestors[end] for end in ends)
    own = [first & ~second, second & ~first]
    for i in (0, 1):
        if not own[i]:
            return i, None
    if not first & second:
        return None, "its inputs have nothing in common"
    passed = [
        _fewest(end, bits, first & second, parents, kernels)
        for end, bits in zip(ends, own)
    ]
    if passed[0] == passed[1] or min(passed) > 1:
        a, b = passed
        return (
            None,
            f"its inputs are parallel branches of {a} and {b} layers with kernels",
        )
    return passed.index(min(passed)), None


def _fewest(end, own, common, parents, kernels):
    """The fewest layers with kernels on a way from what is common to `end`."""
    fewest = {}
    for i in range(end + 1):
        if own >> i & 1:
            before = [
                0 if common >> parent & 1 else fewest[parent] for parent in parents[i]
            ]
            fewest[i] = kernels[i] + min(before, default=float("inf"))
    return fewest[end]


def _kernels(operation):
    """How many layers with a kernel a layer consists of."""
    if not isinstance(operation, keras.layers.Layer):
        return 0
    parts = list(operation._flatten_layers(include_self=False)) or [operation]
    return sum(
        any(len(weight.shape) > 1 for weight in part.weights)
        for part in parts
        if part is operation or not list(part._flatten_layers(include_self=False))
    )
