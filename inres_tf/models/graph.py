"""The calls that a functional model consists of."""

from typing import Any

import keras


def graph_calls(model: keras.Model) -> list[Any]:
    """Returns the calls of a functional model in topological order.

    Args:
        model: functional or built Sequential model.

    Returns:
        List of Keras nodes, including the inputs.
    """
    order, placed = [], set()
    pending = [node_of(tensor) for tensor in reversed(model.outputs)]
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


def node_of(tensor: keras.KerasTensor) -> Any:
    """Returns the Keras node of the call that produced a symbolic tensor."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def is_graph(operation: Any) -> bool:
    """Returns whether something is a model that computes what its layers say.

    That is a functional or Sequential model whose class has no `call` of its own.
    """
    if not isinstance(operation, (keras.Function, keras.Sequential)):
        return False
    return type(operation).call.__module__.partition(".")[0] == "keras"


def with_last_inputs(model: keras.Model) -> keras.Model:
    """Returns a model of the outputs, and of what their operations take.

    For comparisons of models: a saturated softmax returns the same for different
    inputs.
    """
    taken = [x for output in model.outputs for x in node_of(output).input_tensors]
    return keras.Model(unpack_single(model.inputs), [*model.outputs, *taken])


def unpack_single(values: list[Any]) -> Any:
    """Returns a list as Keras' models take it: its element if there is only one."""
    return values if len(values) > 1 else values[0]
