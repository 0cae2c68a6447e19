import keras

from inres_tf.models.graph import graph_calls, node_of


def test_calls_come_after_those_they_depend_on():
    inputs = keras.Input((4,), name="inputs")
    shared = keras.layers.Dense(4, name="shared")
    x = shared(shared(inputs))
    outputs = keras.layers.Add(name="sum")([inputs, x])
    # A call on the same tensor that is not part of the model.
    shared(inputs)
    calls = graph_calls(keras.Model(inputs, outputs))
    assert [call.operation.name for call in calls] == [
        "inputs",
        "shared",
        "shared",
        "sum",
    ]
    placed = set()
    for call in calls:
        assert placed.issuperset(id(parent) for parent in call.parent_nodes)
        placed.add(id(call))
    assert calls[-1] is node_of(outputs) and calls[2] is node_of(x)
