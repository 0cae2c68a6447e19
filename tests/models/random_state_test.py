import keras
import numpy as np

import zoo
from inres_tf.models import random_states


def test_states_are_those_of_random_layers():
    assert random_states(zoo.InResNet8(input_shape=(8, 8, 1))) == []
    model = zoo.EnResNet8(input_shape=(8, 8, 1), stochastic_depth=0.1)
    # Noise after each of three blocks, and dropped branches of the last two.
    assert len(random_states(model)) == 5


def test_restored_states_repeat_the_noise():
    model = zoo.EnResNet8(input_shape=(8, 8, 1), noise=0.1)
    pixels = np.zeros((1, 8, 8, 1))
    before = [keras.ops.convert_to_numpy(v) for v in random_states(model)]
    first, second = (np.asarray(model(pixels, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    for variable, value in zip(random_states(model), before, strict=True):
        variable.assign(value)
    np.testing.assert_array_equal(model(pixels, training=True), first)
