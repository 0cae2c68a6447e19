"""Adam on a state of tensors, which Keras' optimizers do not support."""

import tensorflow as tf

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


def adam(
    state: dict[str, tf.Tensor],
    gradient: tf.Tensor,
    number: tf.Tensor | int,
    learning_rate: float,
) -> dict[str, tf.Tensor]:
    """Returns the state after one step of gradient descent.

    Args:
        state: has `"variables"`, `"first_moment"` and `"second_moment"`, all of one
            shape.
        gradient: gradient of the loss with respect to the variables.
        number: number of the step, from 0.
        learning_rate: learning rate, in units of the variables.

    Reference:
        Kingma, Ba: Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 1.
    """
    count = tf.cast(number + 1, tf.float32)
    first = _BETA_1 * state["first_moment"] + (1 - _BETA_1) * gradient
    second = _BETA_2 * state["second_moment"] + (1 - _BETA_2) * gradient**2
    step = (first / (1 - _BETA_1**count)) / (
        tf.sqrt(second / (1 - _BETA_2**count)) + _EPSILON
    )
    return state | {
        "variables": state["variables"] - learning_rate * step,
        "first_moment": first,
        "second_moment": second,
    }
