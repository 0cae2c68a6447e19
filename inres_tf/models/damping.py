"""Damping for any functional Keras model: finds its residual additions, damps them."""

import fnmatch
import logging
import tempfile
from collections.abc import Callable, Iterable

import keras

from inres_tf.layers import dampings
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.models.graph import graph_calls, node_of
from inres_tf.models.residuals import check_functional, scan

_LOGGER = logging.getLogger("inres_tf")


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
    check_functional(model)
    found, shortcuts = scan(model)
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
        tensors = {id(x): self.copy(node_of(x).operation).output for x in model.inputs}
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
