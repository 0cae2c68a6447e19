"""Damping the residual additions of any functional Keras model."""

import fnmatch
import logging
import tempfile
from collections.abc import Callable, Iterable

import keras

from inres_tf import class_names
from inres_tf.layers import dampings
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.models.graph import graph_calls, is_graph, node_of
from inres_tf.models.residuals import check_functional, scan

_LOGGER = logging.getLogger("inres_tf")


def damp(
    model: keras.Model,
    damping: str = "in",
    rate: float = 0.0,
    where: str | Iterable[str] | Callable[[keras.Operation], bool] | None = None,
) -> keras.Model:
    """Damps the residual additions of a model.

    Every selected addition is replaced by a `DampedAdd` of the same name, which
    computes a(λ) shortcut + b(λ) branch with a trainable λ of its own. At rate 0 the
    outputs do not change (except under `"plain"`, which removes the shortcuts), and λ
    can be trained from there. Additions that are not residual are kept and logged by
    the logger `inres_tf`; `additions` lists all of them.

    Args:
        model: functional or Sequential Keras model, such as those of
            `keras.applications`. It is not modified.
        damping: `"none"`, `"in"`, `"lambda_in"`, `"exponential"` or `"plain"`.
        rate: initial λ >= 0 of every block.
        where: which residual additions to damp: None for all; a name or pattern
            (`"conv4_*"`) or several; or a function from the layer to a bool.

    Returns:
        A new functional (or Sequential) model with copies of the weights, not compiled.

    Raises:
        ValueError: if the model is subclassed, `damping` or `rate` is invalid, a name
            in `where` matches no residual addition, or a custom layer cannot be
            recreated from its `get_config`.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4,))
        >>> branch = keras.layers.Dense(4)(inputs)
        >>> outputs = keras.layers.Add(name="merge")([inputs, branch])
        >>> model = keras.Model(inputs, outputs)
        >>> damped = inres_tf.damp(model, "lambda_in", rate=0.25)
        >>> inres_tf.layers.damping_rates(damped)
        {'merge': 0.25}

    Reference:
        Yang et al., Interpolation between Residual and Non-Residual Networks, ICML
        2020 (arXiv 2006.05749).
    """
    scalar = dampings.scalar_of(damping, rate)
    check_functional(model)
    candidates, shortcuts = scan(model)
    chosen = _choose(candidates, where, model.name)
    skipped = [f"{a.name} ({a.reason})" for a in candidates if a.reason]
    if skipped:
        _LOGGER.warning(
            "%s: additions not damped, since not residual: %s",
            model.name,
            "; ".join(skipped),
        )
    if not chosen:
        _LOGGER.warning("%s has no residual addition to damp.", model.name)

    def make_layer(**kwargs):
        initializer = None if scalar is None else keras.initializers.Constant(scalar)
        return DampedAdd(damping, initializer, **kwargs)

    copier = Copier({id(a.operation) for a in chosen}, shortcuts, make_layer)
    damped = copier.copy(model)
    copier.copy_weights()
    class_names.assign(damped, class_names.of(model))
    return damped


def _choose(candidates, where, model_name):
    """Returns the residual additions that `where` selects."""
    residual = [a for a in candidates if a.reason is None]
    if where is None:
        return residual
    if callable(where) and not isinstance(where, keras.layers.Layer):
        return [a for a in residual if where(a.operation)]
    patterns = [where] if isinstance(where, str) else where
    if not isinstance(patterns, (list, tuple, set, frozenset)) or not all(
        isinstance(pattern, str) for pattern in patterns
    ):
        raise ValueError(
            "`where` must be None, a name or pattern, a list of them, or a function "
            f"of a layer. Received: where={where!r}"
        )
    chosen = []
    for pattern in patterns:
        matched = [a for a in candidates if _matches(a, pattern)]
        usable = [a for a in matched if a.reason is None]
        if not usable:
            hint = "; ".join(f"{a.name} is not residual: {a.reason}" for a in matched)
            if not hint:
                names = ", ".join(a.name for a in residual[:8]) or "none"
                hint = f"Available: {names}{', ...' if len(residual) > 8 else ''}"
            raise ValueError(
                f"`where` matches no residual addition of {model_name} with "
                f"{pattern!r}. {hint}. Received: where={where!r}"
            )
        chosen += [a for a in usable if a not in chosen]
    return chosen


def _matches(addition, pattern):
    names = (addition.name, addition.operation.name)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _from_config(operation, policy):
    """Returns a new layer or operation with the same arguments, but for the policy."""
    # The lambda is in this process already, so that copying it adds no risk.
    options = {"safe_mode": False} if isinstance(operation, keras.layers.Lambda) else {}
    try:
        config = operation.get_config()
        if policy is not None:
            config = _with_policy(config, policy)
        return type(operation).from_config(config, **options)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"{type(operation).__name__} {operation.name!r} cannot be copied: its "
            "get_config must return all arguments of __init__, and __init__ must "
            f"accept **kwargs. Keras' error: {str(error).strip().splitlines()[-1]}"
        ) from error


def _with_policy(config, policy):
    """Replaces every dtype policy in a configuration."""
    if isinstance(config, dict):
        return {
            key: policy
            if key == "dtype" and isinstance(value, dict)
            else _with_policy(value, policy)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_with_policy(value, policy) for value in config)
    return config


def _dtype(operation):
    return operation._inbound_nodes[0].outputs[0].dtype


class Copier:
    """Copies models and replaces some additions; shared layers stay shared.

    Args:
        chosen: ids of the additions to replace.
        shortcuts: dict from the id of an addition's call to the index of its shortcut
            among the inputs.
        make_layer: function (name, dtype) that returns the replacement.
        policy: name of the dtype policy of all new layers; None for those of the
            copied ones.
    """

    def __init__(self, chosen=(), shortcuts=None, make_layer=None, policy=None):
        self._chosen = chosen
        self._policy = policy
        self._shortcuts = shortcuts
        self._make_layer = make_layer
        self._copies = {}
        self._pairs = []

    def copy(self, operation):
        """Returns the copy of a model, layer or operation."""
        if id(operation) not in self._copies:
            self._copies[id(operation)] = self._new(operation)
        return self._copies[id(operation)]

    def copy_weights(self):
        """Copies weights, statistics and vocabularies to the new layers."""
        for old, new in self._pairs:
            copy_weights(old, new)

    def _new(self, operation):
        if id(operation) in self._chosen:
            is_layer = isinstance(operation, keras.layers.Layer)
            dtype = operation.dtype_policy if is_layer else _dtype(operation)
            return self._make_layer(name=operation.name, dtype=dtype)
        has_graph = is_graph(operation)
        if has_graph and isinstance(operation, keras.Function):
            return self._model(operation)
        if has_graph:
            layers = [self.copy(layer) for layer in operation.layers]
            if operation.built:
                batch, *shape = operation.input_shape
                first = keras.Input(
                    shape, batch_size=batch, dtype=operation.inputs[0].dtype
                )
                layers.insert(0, first)
            return keras.Sequential(layers, name=operation.name)
        new = _from_config(operation, self._policy)
        if isinstance(operation, keras.layers.Layer):
            self._pairs.append((operation, new))
        return new

    def _model(self, model):
        tensors = {id(x): self.copy(node_of(x).operation).output for x in model.inputs}
        for node in graph_calls(model):
            if not node.is_input:
                self.call(node, tensors)
        return keras.Model(
            *(
                keras.tree.map_structure(lambda x: tensors[id(x)], structure)
                for structure in (model.input, model.output)
            ),
            name=model.name,
        )

    def call(self, node, tensors):
        """Calls the copy of a call's operation.

        Args:
            node: a call of the model that is copied.
            tensors: dict from the id of each tensor so far to its copy, which is
                extended by the outputs.
        """
        new = self.copy(node.operation)
        if id(node.operation) in self._chosen:
            pair = [tensors[id(x)] for x in node.input_tensors]
            if self._shortcuts[id(node)] == 1:
                pair.reverse()
            outputs = new(pair)
        else:
            args, kwargs = node.arguments.fill_in(tensors)
            outputs = new(*args, **kwargs)
        for old, tensor in zip(node.outputs, keras.tree.flatten(outputs)):
            tensors[id(old)] = tensor


def copy_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Copies weights, statistics and vocabularies to a layer of the same kind."""
    sublayers = zip(source._flatten_layers(), target._flatten_layers(), strict=True)
    for old, new in sublayers:
        weights: dict = {}
        old.save_own_variables(weights)
        new.load_own_variables(weights)
        if hasattr(old, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)
