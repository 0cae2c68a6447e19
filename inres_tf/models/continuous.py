"""Residual networks in continuous time: each block as a neural ODE."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from inres_tf import class_names, solvers
from inres_tf.layers import dampings
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.layers.neural_ode import NeuralODE
from inres_tf.models.damping import Copier
from inres_tf.models.graph import graph_calls, node_of
from inres_tf.models.residuals import check_functional, scan


def as_neural_ode(model: keras.Model, solver: Any = None) -> keras.Model:
    """Replaces the residual blocks of a network by neural ODEs with the same weights.

    A block a(λ) x + b(λ) f(x) is one step of size 1 of an ordinary differential
    equation, which a `NeuralODE` of the block's name solves from time 0 to 1 by any
    method and number of steps:

    | damping         | dx/dt              | method of the block |
    |-----------------|--------------------|---------------------|
    | `"none"`, `+`   | f(x)               | Euler               |
    | `"in"`          | f(x) - λ x         | Euler               |
    | `"lambda_in"`   | (1 + λ) f(x) - λ x | Euler               |
    | `"exponential"` | f(x) - λ x         | exponential Euler   |
    | `"plain"`       | f(x) - x           | Euler               |

    A block is replaced if its shortcut is its input itself, which is all that its
    branch f is computed from, and if no other layer uses a tensor of the branch. Blocks
    that change the shape are kept. A trained λ can be trained further, while the factor
    1 + λ becomes a constant. Batch normalisation in a branch is frozen: it uses its
    moving averages in training too.

    Args:
        model: functional or Sequential Keras model. It is not modified.
        solver: solver of all blocks: the name of a method, an `inres_tf.solvers.Solver`
            or a dict of its settings. None for the single step that each block is,
            which leaves the outputs unchanged.

    Returns:
        A new functional (or Sequential) model with copies of the weights, not compiled.
        Layers that several blocks share are copied for each of them.

    Raises:
        ValueError: if the model is subclassed or has no such block, `solver` is
            invalid, or a custom layer cannot be recreated from its `get_config`.

    Example:
        >>> import numpy as np
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> pixels = np.full((1, 8, 8, 1), 128.0)
        >>> ode = inres_tf.models.as_neural_ode(model)
        >>> bool(np.allclose(ode(pixels), model(pixels), atol=1e-5))
        True
        >>> fine = {"method": "heun", "steps": 8}
        >>> ode = inres_tf.models.as_neural_ode(model, fine)
        >>> ode.get_layer("stage1_block1_merge").solver.steps
        8

    Reference:
        Yang et al., Interpolation between Residual and Non-Residual Networks, ICML
        2020 (arXiv 2006.05749), section 3. Chen et al., Neural Ordinary Differential
        Equations, NeurIPS 2018, section 1.
    """
    if solver is not None:
        solver = solvers.get(solver)
    blocks = residual_blocks(model)
    if not blocks:
        raise ValueError(
            "`model` must have a residual block with an identity shortcut; "
            "other blocks have no continuous limit. Received: model="
            f"{model.name} without one"
        )
    converter = _Converter(blocks, solver)
    continuous = converter.copy(model)
    converter.copy_weights()
    class_names.assign(continuous, class_names.of(model))
    return continuous


@dataclasses.dataclass(frozen=True)
class ResidualBlock:
    """A residual block with an identity shortcut.

    Attributes:
        merge: the Keras node of the call that merges shortcut and branch.
        shortcut: symbolic tensor of the block's input.
        branch: symbolic tensor of the branch's output.
        calls: the Keras nodes of the branch, in topological order.
    """

    merge: Any
    shortcut: keras.KerasTensor
    branch: keras.KerasTensor
    calls: list


def residual_blocks(model: keras.Model) -> list[ResidualBlock]:
    """Lists the blocks that `as_neural_ode` replaces, in graph order.

    Args:
        model: functional or Sequential Keras model, including nested ones, except those
            within a block.

    Raises:
        ValueError: if the model is subclassed, since Keras does not know its graph.
    """
    check_functional(model)
    return list(_blocks(model, scan(model)[1], set()))


def _blocks(model, shortcuts, seen) -> Iterator[ResidualBlock]:
    """Yields the blocks of a model and of the models nested in it, each once."""
    seen.add(id(model))
    operations = model.layers
    if not isinstance(model, keras.Sequential):
        calls, inside = graph_calls(model), set()
        for call in calls:
            block = _block(call, calls, model, shortcuts)
            if block:
                inside |= {id(inner) for inner in block.calls}
                yield block
        operations = [call.operation for call in calls if id(call) not in inside]
    for operation in operations:
        is_model = isinstance(operation, (keras.Function, keras.Sequential))
        if is_model and id(operation) not in seen:
            yield from _blocks(operation, shortcuts, seen)


def _block(merge, calls, model, shortcuts):
    """The block that a call merges; None if there is none, or one of another kind."""
    if id(merge) in shortcuts:
        index = shortcuts[id(merge)]
    elif isinstance(merge.operation, DampedAdd):
        index = 0
    else:
        return None
    shortcut, branch = merge.input_tensors[index], merge.input_tensors[1 - index]
    inside, pending = set(), [branch]
    while pending:
        tensor = pending.pop()
        node = node_of(tensor)
        if tensor is shortcut or id(node) in inside:
            continue
        if node.is_input:
            return None
        inside.add(id(node))
        pending += node.input_tensors
    branch_calls = [call for call in calls if id(call) in inside]
    used = {id(tensor) for tensor in model.outputs}
    for call in calls:
        if call is not merge and id(call) not in inside:
            used |= {id(tensor) for tensor in call.input_tensors}
    if not inside or any(id(t) in used for call in branch_calls for t in call.outputs):
        return None
    return ResidualBlock(merge, shortcut, branch, branch_calls)


class _Converter(Copier):
    """Copies models with `NeuralODE`s in the place of residual blocks.

    Args:
        blocks: the blocks to replace.
        solver: an `inres_tf.solvers.Solver`; None for one step of the block's method.
    """

    def __init__(self, blocks, solver):
        super().__init__()
        self._blocks = {id(block.merge): block for block in blocks}
        self._inside = {id(call) for block in blocks for call in block.calls}
        self._solver = solver
        self._names = {}

    def call(self, node, tensors):
        """Calls the copy of a call's operation, or the `NeuralODE` of a block."""
        if id(node) in self._inside:
            return
        if id(node) not in self._blocks:
            super().call(node, tensors)
            return
        block = self._blocks[id(node)]
        start = tensors[id(block.shortcut)]
        tensors[id(node.outputs[0])] = self._integrate(block, start)

    def _integrate(self, block, start):
        """Applies the `NeuralODE` of a block to its input."""
        merge = block.merge.operation
        rate, factor, method = _limit(merge)
        trained = getattr(merge, "k", None) is not None and merge.trainable
        layer = NeuralODE(
            _branch(block, factor),
            self._solver or solvers.Solver(method, steps=1),
            damping="in" if trained else rate,
            name=self._name(merge),
            dtype=block.shortcut.dtype,
        )
        end = layer(start)
        if trained:
            layer.k.assign(dampings.scalar_of("in", rate))
        return end

    def _name(self, merge):
        """The name of the merging layer, numbered from its second call on."""
        count = self._names[id(merge)] = self._names.get(id(merge), 0) + 1
        return merge.name if count == 1 else f"{merge.name}_{count}"


def _limit(merge):
    """λ and the factor of the branch in a block's equation, and the block's method."""
    damping, rate = "none", ops.zeros(())
    if isinstance(merge, DampedAdd):
        damping, rate = merge.damping, merge.rate
    method, factor = "exponential_euler", 1.0
    if damping != "exponential":
        row, method = dampings.get(damping), "euler"
        rate, factor = 1.0 - row.shortcut(rate), row.branch(rate)
    rate, factor = (float(ops.convert_to_numpy(value)) for value in (rate, factor))
    return rate, factor, method


def _branch(block, factor) -> keras.Model:
    """The branch of a block times a factor, as a model with copies of the weights."""
    shortcut = block.shortcut
    # Half precision widens to float32, so that float32 copies keep what they compute.
    dtype = keras.backend.result_type(shortcut.dtype, "float32")
    inputs = keras.Input(batch_shape=shortcut.shape, dtype=dtype)
    tensors, copier = {id(shortcut): inputs}, Copier()
    for call in block.calls:
        copier.call(call, tensors)
    outputs = tensors[id(block.branch)]
    if factor != 1:
        scale = keras.layers.Rescaling(factor, dtype=shortcut.dtype, name="factor")
        outputs = scale(outputs)
    model = keras.Model(inputs, outputs, name=f"{block.merge.operation.name}_branch")
    copier.copy_weights()
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return model
