"""The residual blocks of a model as functions, and setting their λ temporarily."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from inres_tf import layers
from inres_tf.errors import UserError
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.models import residuals
from inres_tf.models.graph import graph_calls


class Block:
    """A residual block: the function from x_l, where its paths split, to x_{l+1}.

    Made by `Chain`. Called on the features x_l, (batch, height, width, channels), it
    returns x_{l+1}, in inference mode.

    Attributes:
        name: name of the layer that merges shortcut and branch, or that is the block;
            `"nested/name"` within a nested model.
        merge: the layer or operation that ends the block: `DampedAdd`, the addition of
            an undamped block, or a layer that is a whole block.
        start: symbolic tensor of x_l.
        end: symbolic tensor of x_{l+1}.

    Example:
        >>> from inres_tf import analysis
        >>> model = inres_tf.damp(zoo.ResNet8(input_shape=(8, 8, 1)), "in", rate=0.25)
        >>> block = analysis.Chain(model).blocks[0]
        >>> block.name, block.rate
        ('stage1_block1_merge', 0.25)
    """

    def __init__(
        self,
        name: str,
        merge: keras.Operation,
        start: keras.KerasTensor,
        end: keras.KerasTensor,
        calls: list,
    ) -> None:
        self.name, self.merge = name, merge
        self.start, self.end = start, end
        self._calls = calls

    def __call__(self, inputs: Any) -> Any:
        """Computes x_{l+1} from x_l."""
        values = {id(self.start): inputs}
        for call in self._calls:
            _compute(call, values)
        return values[id(self.end)]

    @property
    def rate(self) -> float:
        """Current λ of the block; nan for an addition."""
        if not isinstance(self.merge, (DampedAdd, *layers.BLOCKS)):
            return float("nan")
        return float(keras.ops.convert_to_numpy(self.merge.rate))


class Chain:
    """The residual blocks of a model in the order of its graph.

    Each `DampedAdd` and each addition that `inres_tf.additions` considers residual ends
    a block. The block starts at the last tensor that all paths from the images to its
    end pass through. A neural ODE or a convex potential block is a block by itself.
    Nested models are searched too.

    Args:
        model: functional or built Sequential Keras model with one input.

    Attributes:
        blocks: the blocks; empty if the model has none.
        name: name of the model.

    Raises:
        ValueError: if the model is subclassed, so that Keras does not know its graph.

    Example:
        >>> from inres_tf import analysis, data
        >>> chain = analysis.Chain(zoo.InResNet8(input_shape=(8, 8, 1)))
        >>> [block.name for block in chain.blocks]
        ['stage1_block1_merge', 'stage2_block1_merge', 'stage3_block1_merge']
        >>> images = data.load("digits").test.images[:2].astype("float32")
        >>> [tuple(outputs.shape) for inputs, outputs in chain.states(images)]
        [(2, 8, 8, 16), (2, 4, 4, 32), (2, 2, 2, 64)]
    """

    def __init__(self, model: keras.Model) -> None:
        residual = {
            id(addition.operation)
            for addition in residuals.additions(model)
            if addition.reason is None
        }
        self.name = model.name
        self._graph = _Graph(model, residual)
        self.blocks = self._graph.blocks

    def states(self, images: Any) -> list[tuple[Any, Any]]:
        """Computes the input and output of each block, in inference mode.

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
                f"model {self.name} has no residual block (DampedAdd, addition of a "
                "shortcut, NeuralODE or convex potential block), so its growth by "
                "depth is undefined; use --nolyapunov"
            )


class _Graph:
    """The calls of a functional model, with the blocks in it and in nested models."""

    def __init__(self, model, residual, prefix=""):
        self._inputs, self._outputs = model.inputs, model.outputs
        self._calls = graph_calls(model)
        self._own, self._nested = {}, {}
        self.blocks = []
        ancestors, dominators = _relations(self._calls)
        for i, call in enumerate(self._calls):
            merge = call.operation
            ends = isinstance(merge, (DampedAdd, *layers.BLOCKS))
            if ends or id(merge) in residual:
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
        """(input and output of each block, outputs of the model)."""
        values = {id(self._inputs[0]): inputs}
        states = []
        for call in self._calls:
            if id(call) in self._nested:
                graph = self._nested[id(call)]
                inner, outputs = graph.states(values[id(call.input_tensors[0])])
                states += inner
                values |= {id(t): v for t, v in zip(call.outputs, outputs)}
                continue
            _compute(call, values)
            if id(call) in self._own:
                block = self._own[id(call)]
                states.append((values[id(block.start)], values[id(block.end)]))
        return states, [values[id(tensor)] for tensor in self._outputs]


def _compute(call, values):
    """Computes a call and adds its outputs to the values, by id of the tensor."""
    if call.is_input:
        return
    args, kwargs = call.arguments.fill_in(values)
    outputs = keras.tree.flatten(call.operation(*args, **kwargs))
    values |= {id(tensor): value for tensor, value in zip(call.outputs, outputs)}


def _relations(calls):
    """For each call: itself and its ancestors as bits, and its immediate dominator.

    A call is dominated by the calls that all paths from the inputs to it pass through.
    """
    index = {id(call): i for i, call in enumerate(calls)}
    ancestors, dominators = [], []
    for i, call in enumerate(calls):
        parents = [index[id(parent)] for parent in call.parent_nodes]
        bits = 1 << i
        for parent in parents:
            bits |= ancestors[parent]
        ancestors.append(bits)
        common = parents[0] if parents else 0
        for other in parents[1:]:
            # Walk up from the later of the two until they meet.
            while common != other:
                common, other = min(common, other), dominators[max(common, other)]
        dominators.append(common)
    return ancestors, dominators


@contextlib.contextmanager
def damped_at(model: keras.Model, rate: float | None) -> Iterator[None]:
    """Context manager that sets λ of all damped blocks, then restores it.

    Args:
        model: any Keras model.
        rate: λ >= 0; None leaves λ unchanged.

    Raises:
        ValueError: if a block does not accept `rate`.

    Example:
        >>> from inres_tf import analysis, layers
        >>> model = inres_tf.damp(zoo.ResNet8(input_shape=(8, 8, 1)), "in", rate=0.25)
        >>> with analysis.damped_at(model, 0.5):
        ...     list(layers.damping_rates(model).values())
        [0.5, 0.5, 0.5]
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
