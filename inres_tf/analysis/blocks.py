"""The residual blocks of a model as functions, and their λ set for a while."""

import contextlib

import keras

from inres_tf import layers
from inres_tf.errors import UserError
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.models import residuals
from inres_tf.models.graph import graph_calls


class Block:
    """A residual block: the function from x_l, where its ways part, to x_{l+1}.

    Called on the features x_l, (batch, height, width, channels), it gives x_{l+1}, in
    evaluation mode.

    Attributes:
        name: name of the layer that merges shortcut and branch; within a nested model
            `"nested/name"`.
        merge: that layer: `DampedAdd`, or the addition of an undamped block.
    """

    def __init__(self, name, merge, start, end, calls):
        self.name, self.merge = name, merge
        self.start, self.end = start, end
        self._calls = calls

    def __call__(self, inputs):
        """x_{l+1} of x_l."""
        values = {id(self.start): inputs}
        for call in self._calls:
            _compute(call, values)
        return values[id(self.end)]

    @property
    def rate(self) -> float:
        """λ of the block now; nan for an addition that cannot be damped."""
        if not isinstance(self.merge, DampedAdd):
            return float("nan")
        return float(keras.ops.convert_to_numpy(self.merge.rate))


class Chain:
    """The residual blocks of a model in the order of its graph.

    Blocks are found by their merge: each `DampedAdd`, and each addition that
    `inres_tf.additions` calls residual. A block begins where all ways from the images
    to its merge last pass through one tensor. Nested models are searched as well.

    Args:
        model: functional or built Sequential Keras model of one input.

    Attributes:
        blocks: the blocks; empty if the model has none.
        name: the model's.

    Raises:
        ValueError: if the model is subclassed: Keras does not know its graph.
    """

    def __init__(self, model):
        residual = {
            id(addition.operation)
            for addition in residuals.additions(model)
            if addition.reason is None
        }
        self.name = model.name
        self._graph = _Graph(model, residual)
        self.blocks = self._graph.blocks

    def states(self, images) -> list:
        """What each block takes and gives for images, in evaluation mode.

        Args:
            images: float32 tensor of pixels, (batch, height, width, channels).

        Returns:
            A pair (x_l, x_{l+1}) of tensors for each block.
        """
        return self._graph.states(images)[0]

    def require(self) -> None:
        """Raises UserError if the model has no residual block."""
        if not self.blocks:
            raise UserError(
                f"model {self.name} has no residual block (DampedAdd or an addition of "
                "a shortcut), of which the growth by depth is; give --nolyapunov"
            )


class _Graph:
    """One functional model's calls, the blocks in it and in models nested in it."""

    def __init__(self, model, residual, prefix=""):
        self._inputs, self._outputs = model.inputs, model.outputs
        self._calls = graph_calls(model)
        self._own, self._nested = {}, {}
        self.blocks = []
        ancestors, dominators = _relations(self._calls)
        for i, call in enumerate(self._calls):
            merge = call.operation
            if isinstance(merge, DampedAdd) or id(merge) in residual:
                start = dominators[i]
                between = ancestors[i] & ~ancestors[start]
                block = Block(
                    prefix + merge.name,
                    merge,
                    self._calls[start].outputs[0],
                    call.outputs[0],
                    [c for j, c in enumerate(self._calls) if between >> j & 1],
                )
                self._own[id(call)] = block
                self.blocks.append(block)
            elif (
                isinstance(merge, (keras.Function, keras.Sequential))
                and len(merge.inputs) == 1
            ):
                graph = _Graph(merge, residual, f"{prefix}{merge.name}/")
                if graph.blocks:
                    self._nested[id(call)] = graph
                    self.blocks += graph.blocks

    def states(self, inputs):
        """(what each block takes and gives, the model's outputs)."""
        values = {id(self._inputs[0]): inputs}
        found = []
        for call in self._calls:
            if id(call) in self._nested:
                graph = self._nested[id(call)]
                inner, outputs = graph.states(values[id(call.input_tensors[0])])
                found += inner
                values |= {id(t): v for t, v in zip(call.outputs, outputs)}
                continue
            _compute(call, values)
            if id(call) in self._own:
                block = self._own[id(call)]
                found.append((values[id(block.start)], values[id(block.end)]))
        return found, [values[id(tensor)] for tensor in self._outputs]


def _compute(call, values):
    """Adds what a call gives to the values of the tensors, by id."""
    if call.is_input:
        return
    args, kwargs = call.arguments.fill_in(values)
    outputs = keras.tree.flatten(call.operation(*args, **kwargs))
    values |= {id(tensor): value for tensor, value in zip(call.outputs, outputs)}


def _relations(calls):
    """Of each call: its ancestors and itself as bits, and its immediate dominator.

    A dominator of a call is one that all ways from the inputs to it pass through.
    """
    place = {id(call): i for i, call in enumerate(calls)}
    ancestors, dominators = [], []
    for i, call in enumerate(calls):
        parents = [place[id(parent)] for parent in call.parent_nodes]
        bits = 1 << i
        for parent in parents:
            bits |= ancestors[parent]
        ancestors.append(bits)
        common = parents[0] if parents else 0
        for other in parents[1:]:
            # Up from the later of two, until the ways meet.
            while common != other:
                common, other = min(common, other), dominators[max(common, other)]
        dominators.append(common)
    return ancestors, dominators


@contextlib.contextmanager
def damped_at(model, rate: float | None):
    """Sets λ of all damped blocks within a `with`, then puts back what they had.

    Args:
        model: any Keras model.
        rate: λ >= 0; None leaves all as they are.

    Raises:
        ValueError: if λ cannot be that.
    """
    scalars = [layer.k for _, layer in layers.damped_layers(model)]
    before = [keras.ops.convert_to_numpy(k) for k in scalars]
    try:
        if rate is not None:
            layers.set_damping_rates(model, rate)
        yield
    finally:
        for scalar, value in zip(scalars, before):
            scalar.assign(value)
