"""Adam on a state of tensors against that of Keras."""

import keras
import numpy as np
import tensorflow as tf

from inres_tf.attacks.adam import adam


def test_steps_match_keras(rng):
    variable = keras.Variable(rng.normal(size=(3, 2)).astype(np.float32))
    optimizer = keras.optimizers.Adam(0.1, epsilon=1e-8)
    zeros = tf.zeros((3, 2))
    state = {"variables": tf.constant(variable.numpy())}
    state |= {"first_moment": zeros, "second_moment": zeros}
    for number in range(5):
        gradient = tf.constant(rng.normal(size=(3, 2)), tf.float32)
        optimizer.apply([gradient], [variable])
        state = adam(state, gradient, number, 0.1)
        np.testing.assert_allclose(state["variables"], variable.numpy(), rtol=1e-5)
