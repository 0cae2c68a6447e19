"""Damping for any functional Keras model: finds its residual additions, damps them."""

import fnmatch
import logging
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

    An addition of two tensors of the same shape is residual if one of them, the
    shortcut, is what the other is computed from, or is computed from the same tensor by
    at most one layer with a kernel (a projection) where the other has more of them.

    Args:
        model: functional or Sequential Keras model; nested ones are searched as well.

    Raises:
        ValueError: if the model is subclassed: Keras does not know its graph.
    """
    _check(model)
    return _additions(model, "", set())


def damp(
    model,
    damping: str = "in",
    rate: float = 0.0,
    where: str | Iterable[str] | Callable | None = None,
):
    """Damps the residual additions of a model.

    Every addition chosen becomes a `DampedAdd` of the same name, a(λ) shortcut +
    b(λ) branch, with a λ of its own. At rate 0 the outputs stay as they are, and λ can
    be trained from there. Additions that are not residual are left alone and logged
    by the logger `inres_tf`; `additions` gives them all.

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
    row = dampings.get(damping)
    number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not number or not 0 <= rate < float("inf") or (rate and row.scalar is None):
        allowed = "0" if row.scalar is None else "a finite number >= 0"
        raise ValueError(
            f"`rate` must be {allowed} under damping={damping!r}. "
            f"Received: rate={rate!r}"
        )
    found = additions(model)
    chosen = _choose(found, where, model.name)
    left = [f"{a.name} ({a.reason})" for a in found if a.reason]
    if left:
        _LOGGER.warning(
            "%s: left alone, no residual addition: %s", model.name, "; ".join(left)
        )
    if not chosen:
        _LOGGER.warning("%s has no residual addition to damp.", model.name)
    value = None if row.scalar is None else row.scalar(float(rate))
    copier = _Copier(
        {id(a.operation): a for a in chosen},
        lambda **kwargs: DampedAdd(
            damping,
            None if value is None else keras.initializers.Constant(value),
            **kwargs,
        ),
    )
    damped = copier.copy(model)
    copier.copy_weights()
    return damped


def _check(model):
    if not isinstance(model, (keras.Function, keras.Sequential)):
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
    if callable(where):
        return [a for a in residual if where(a.operation)]
    patterns = [where] if isinstance(where, str) else list(where)
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


def _additions(model, prefix, seen):
    """`additions`, for a model that may be nested; `seen` holds those done."""
    seen.add(id(model))
    if isinstance(model, keras.Sequential):
        inner = model.layers
        nodes = []
    else:
        nodes = _nodes(model)
        inner = [node.operation for node in nodes]
    verdicts = _judge(nodes)
    found = []
    for operation in dict.fromkeys(inner):
        if id(operation) in verdicts:
            shortcuts, reasons = zip(*verdicts[id(operation)])
            reason = next(filter(None, reasons), None)
            found.append(
                Addition(
                    prefix + operation.name,
                    operation,
                    () if reason else shortcuts,
                    reason,
                )
            )
        elif isinstance(operation, (keras.Function, keras.Sequential)):
            if id(operation) not in seen:
                found += _additions(operation, f"{prefix}{operation.name}/", seen)
    return found


def _nodes(model):
    """The calls that make up a functional model, each after those it depends on."""
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
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, keras.layers.Add)
    return type(operation).__name__ == "Add" and len(node.input_tensors) == 2


def _judge(nodes):
    """For each addition, its (shortcut, reason why it is no residual) at each call.

    Sets of ancestors are the bits of an integer, a bit for each call.
    """
    place = {id(node): i for i, node in enumerate(nodes)}
    kernels = [_kernels(node.operation) for node in nodes]
    ancestors, verdicts = [], {}

    def count(bits):
        return sum(k for i, k in enumerate(kernels) if bits >> i & 1)

    for i, node in enumerate(nodes):
        bits = 1 << i
        for parent in node.parent_nodes:
            bits |= ancestors[place[id(parent)]]
        ancestors.append(bits)
        if _is_addition(node):
            sources = [ancestors[place[id(_node(x))]] for x in node.input_tensors]
            verdict = _shortcut(node.input_tensors, sources, count)
            verdicts.setdefault(id(node.operation), []).append(verdict)
    return verdicts


def _shortcut(tensors, sources, count):
    """(index of the shortcut, None), or (None, why there is none)."""
    if len(tensors) != 2:
        return None, f"it adds {len(tensors)} tensors"
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if shapes[0] != shapes[1]:
        return None, f"it adds shapes {shapes[0]} and {shapes[1]}"
    if tensors[0] is tensors[1]:
        return None, "it adds a tensor to itself"
    own = [sources[0] & ~sources[1], sources[1] & ~sources[0]]
    for i in (0, 1):
        if not own[i]:
            return i, None
    if not sources[0] & sources[1]:
        return None, "its inputs have nothing in common"
    depth = [count(bits) for bits in own]
    i = depth.index(min(depth))
    if depth[0] == depth[1] or depth[i] > 1:
        return None, (
            f"its inputs are parallel branches of {depth[0]} and {depth[1]} layers "
            "with kernels"
        )
    return i, None


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
    """Copies models, with some additions replaced; what is shared stays shared."""

    def __init__(self, chosen, make):
        self._chosen = chosen  # id of the operation: Addition
        self._make = make
        self._copies = {}
        self._pairs = []

    def copy(self, operation):
        """The copy of a model, layer or operation."""
        if id(operation) not in self._copies:
            self._copies[id(operation)] = self._new(operation)
        return self._copies[id(operation)]

    def copy_weights(self):
        """Sets the weights of all copies."""
        for old, new in self._pairs:
            new.set_weights(old.get_weights())

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
        tensors, calls = {}, {}
        for node in _nodes(model):
            operation = node.operation
            call = calls[id(operation)] = calls.get(id(operation), -1) + 1
            new = self.copy(operation)
            if node.is_input:
                outputs = new.output
            elif id(operation) in self._chosen:
                pair = [tensors[id(x)] for x in node.input_tensors]
                if self._chosen[id(operation)].shortcut[call] == 1:
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
