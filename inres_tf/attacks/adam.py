"""Adam on state of tensors, which Keras' optimisers have no place for."""

import tensorflow as tf

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


def adam(state: dict, gradient, number, learning_rate) -> dict:
    """Rows after one step down a gradient.

    Args:
        state: with `"variables"`, `"first_moment"` and `"second_moment"`, of one shape.
        gradient: of the loss by the variables.
        number: of the step, from 0.
        learning_rate: in units of the variables.

    Reference:
        Kingma, Ba: Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 1.
    """
    count = tf.cast(number + 1, tf.float32)
    first = _FIRST * state["first_moment"] + (1 - _FIRST) * gradient
    second = _SECOND * state["second_moment"] + (1 - _SECOND) * gradient**2
    step = (first / (1 - _FIRST**count)) / (
        tf.sqrt(second / (1 - _SECOND**count)) + _TINY
    )
    return state | {
        "variables": state["variables"] - learning_rate * step,
        "first_moment": first,
        "second_moment": second,
    }
