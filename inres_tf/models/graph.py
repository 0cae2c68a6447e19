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
