"""Shared fixtures: two logical devices, one small dataset, one trained model."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("MPLBACKEND", "agg")

import keras
import numpy as np
import pytest
import tensorflow as tf

# Two logical CPU devices stand for two GPUs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)

# As `strategies.make` does it, which is too late once a test has used TensorFlow.
tf.config.threading.set_inter_op_parallelism_threads(1)

import zoo
from inres_tf import data


@pytest.fixture(scope="session")
def digits():
    return data.load("digits")


@pytest.fixture(scope="session")
def trained(digits):
    """A depth-8 network that reads digits well enough to be worth attacking."""
    keras.utils.set_random_seed(0)
    model = zoo.InResNet8(input_shape=digits.shape)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits.train.images, digits.train.labels, epochs=4, verbose=0)
    return model


class Spy(keras.layers.Layer):
    """Counts the images that a network is given, call by call, and its traces."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.rows, self.traces = [], []

    def call(self, images):
        self.traces.append(images.shape[0])
        tf.py_function(lambda one: self.rows.append(len(one)), [images], [])
        return images


@pytest.fixture(scope="session")
def dense():
    """Makes networks of given dense layers, `(weights, bias)` each, on flat pixels."""

    def make(shape, *layers, activation="tanh", spy=False):
        model = keras.Sequential([keras.Input(shape)])
        if spy:
            model.add(Spy(name="spy"))
        model.add(keras.layers.Flatten())
        for number, (weights, bias) in enumerate(layers, start=1):
            last = number == len(layers)
            model.add(keras.layers.Dense(len(bias), None if last else activation))
            model.layers[-1].set_weights([np.asarray(weights), np.asarray(bias)])
        if spy:
            model.get_layer("spy").traces.clear()
        return model

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(0)
