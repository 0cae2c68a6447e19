"""The calls that a functional model consists of."""


def graph_calls(model):
    """The calls that make up a functional model, each after those it depends on.

    Args:
        model: functional or built Sequential model.

    Returns:
        List of Keras' nodes, inputs included.
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


def node_of(tensor):
    """The call that returned a symbolic tensor."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]
