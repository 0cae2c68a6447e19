"""Damping for any functional Keras model: finds its residual additions, damps them."""

import fnmatch
import logging
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras

from inres_tf import dampings
from inres_tf.layers import DampedAdd

_LOGGER = logging.getLogger("inres_tf")


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
    _check(model)
    return _scan(model)[0]


def damp(
    model,
    damping: str = "in",
    rate: float = 0.0,
    where: str | Iterable[str] | Callable | None = None,
):
    """Damps the residual additions of a model.

    Every addition chosen becomes a `DampedAdd` of the same name, a(λ) shortcut +
    b(λ) branch, with a trainable λ of its own. At rate 0 the outputs stay as they are
    (but under `"plain"`, which takes the shortcuts away), and λ can be trained from
    there. Additions that are not residual are left alone and logged by the logger
    `inres_tf`; `additions` gives them all.

    Args:
        model: functional or Sequential Keras model, such as those of
            `keras.applications`. It is not changed.
        damping: `"none"`, `"in"`, `"lambda_in"`, `"exponential"` or `"plain"`.
        rate: the λ >= 0 that each block starts from.
        where: which residual additions: None for all; names or patterns of names
            (`"conv4_*"`); or a function of the layer giving whether to damp it.

    Returns:
        A new functional (or Sequential) model with copies of the weights, not compiled.

    Raises:
        ValueError: if the model is subclassed, `damping` or `rate` is wrong, `where`
            names what is no residual addition of the model, or a layer of the user's
            own cannot be made anew from its `get_config`.

    Reference:
        Yang et al., Interpolation between Residual and Non-Residual Networks, ICML
        2020 (arXiv 2006.05749).
    """
    scalar = dampings.scalar_of(damping, rate)
    _check(model)
    found, shortcuts = _scan(model)
    chosen = _choose(found, where, model.name)
    left = [f"{a.name} ({a.reason})" for a in found if a.reason]
    if left:
        _LOGGER.warning(
            "%s: left alone, no residual addition: %s", model.name, "; ".join(left)
        )
    if not chosen:
        _LOGGER.warning("%s has no residual addition to damp.", model.name)

    def make(**kwargs):
        initializer = None if scalar is None else keras.initializers.Constant(scalar)
        return DampedAdd(damping, initializer, **kwargs)

    copier = _Copier({id(a.operation) for a in chosen}, shortcuts, make)
    damped = copier.copy(model)
    copier.copy_weights()
    return damped


def _check(model):
    graph = isinstance(model, (keras.Function, keras.Sequential))
    if not graph or not isinstance(model, keras.Model):
        kind = type(model).__name__
        raise ValueError(
            f"{getattr(model, 'name', kind)!r} is a subclassed model, whose graph "
            "Keras does not know: only functional models can be damped. Build it with "
            "keras.Model(inputs, outputs), or put inres_tf.layers.DampedAdd where its "
            f"`call` adds. Received: {kind}"
        )


def _choose(found, where, model_name):
    """The residual additions that `where` selects."""
    residual = [a for a in found if a.reason is None]
    if where is None:
        return residual
    if callable(where) and not isinstance(where, keras.layers.Layer):
        return [a for a in residual if where(a.operation)]
    patterns = [where] if isinstance(where, str) else where
    if not isinstance(patterns, (list, tuple, set, frozenset)) or not all(
        isinstance(pattern, str) for pattern in patterns
    ):
        raise ValueError(
            "`where` must be None, a name or a pattern of names, a list of them, or a "
            f"function of a layer. Received: where={where!r}"
        )
    chosen = []
    for pattern in patterns:
        matched = [a for a in found if _matches(a, pattern)]
        usable = [a for a in matched if a.reason is None]
        if not usable:
            reasons = "; ".join(f"{a.name} is none: {a.reason}" for a in matched)
            names = ", ".join(a.name for a in residual[:8]) or "none"
            more = ", ..." if len(residual) > 8 else ""
            raise ValueError(
                f"`where` selects no residual addition of {model_name} by {pattern!r}. "
                f"{reasons or f'They are: {names}{more}'}. Received: where={where!r}"
            )
        chosen += [a for a in usable if a not in chosen]
    return chosen


def _matches(addition, pattern):
    names = (addition.name, addition.operation.name)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _scan(model):
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


def graph_calls(model):
    """The calls that make up a functional model, each after those it depends on.

    Args:
        model: functional or built Sequential model.

    Returns:
        List of Keras' nodes, inputs included.
    """
    order, placed = [], set()
    pending = [_node(tensor) for tensor in reversed(model.outputs)]
    while pending:
        node = pending[-1]
        missing = [n for n in node.parent_nodes if id(n) not in placed]
        if missing and id(node) not in placed:
            pending += reversed(missing)
            continue
        pending.pop()
        if id(node) not in placed:
            placed.add(id(node))
            order.append(node)
    return order


def _node(tensor):
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


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
                ends = [place[id(_node(tensor))] for tensor in node.input_tensors]
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


def _from_config(operation):
    """A new layer or operation with the arguments of another."""
    # A lambda that is already in this process is as safe as before.
    options = {"safe_mode": False} if isinstance(operation, keras.layers.Lambda) else {}
    try:
        return type(operation).from_config(operation.get_config(), **options)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"{type(operation).__name__} {operation.name!r} cannot be copied: its "
            "get_config must give all arguments of its __init__, which must pass "
            f"**kwargs on. Keras says: {str(error).strip().splitlines()[-1]}"
        ) from error


def _dtype(operation):
    return operation._inbound_nodes[0].outputs[0].dtype


class _Copier:
    """Copies models, with some additions replaced; what is shared stays shared.

    Args:
        chosen: ids of the additions to replace.
        shortcuts: id of a call of an addition: which of its inputs is the shortcut.
        make: function of a name and a dtype that gives the layer in its stead.
    """

    def __init__(self, chosen, shortcuts, make):
        self._chosen = chosen
        self._shortcuts = shortcuts
        self._make = make
        self._copies = {}
        self._pairs = []

    def copy(self, operation):
        """The copy of a model, layer or operation."""
        if id(operation) not in self._copies:
            self._copies[id(operation)] = self._new(operation)
        return self._copies[id(operation)]

    def copy_weights(self):
        """Gives the copies the originals' weights, statistics and vocabularies."""
        for old, new in self._pairs:
            parts = zip(old._flatten_layers(), new._flatten_layers(), strict=True)
            for source, target in parts:
                weights = {}
                source.save_own_variables(weights)
                target.load_own_variables(weights)
                if hasattr(source, "save_assets"):
                    with tempfile.TemporaryDirectory() as folder:
                        source.save_assets(folder)
                        target.load_assets(folder)

    def _new(self, operation):
        if id(operation) in self._chosen:
            layer = isinstance(operation, keras.layers.Layer)
            dtype = operation.dtype_policy if layer else _dtype(operation)
            return self._make(name=operation.name, dtype=dtype)
        if isinstance(operation, keras.Function):
            return self._model(operation)
        if isinstance(operation, keras.Sequential):
            layers = [self.copy(layer) for layer in operation.layers]
            if operation.built:
                batch, *shape = operation.input_shape
                first = keras.Input(
                    shape, batch_size=batch, dtype=operation.inputs[0].dtype
                )
                layers.insert(0, first)
            return keras.Sequential(layers, name=operation.name)
        new = _from_config(operation)
        if isinstance(operation, keras.layers.Layer):
            self._pairs.append((operation, new))
        return new

    def _model(self, model):
        tensors = {id(x): self.copy(_node(x).operation).output for x in model.inputs}
        for node in graph_calls(model):
            operation = node.operation
            if node.is_input:
                continue
            new = self.copy(operation)
            if id(operation) in self._chosen:
                pair = [tensors[id(x)] for x in node.input_tensors]
                if self._shortcuts[id(node)] == 1:
                    pair.reverse()
                outputs = new(pair)
            else:
                args, kwargs = node.arguments.fill_in(tensors)
                outputs = new(*args, **kwargs)
            for old, tensor in zip(node.outputs, keras.tree.flatten(outputs)):
                tensors[id(old)] = tensor
        return keras.Model(
            *(
                keras.tree.map_structure(lambda x: tensors[id(x)], structure)
                for structure in (model.input, model.output)
            ),
            name=model.name,
        )
