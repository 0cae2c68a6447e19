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


@pytest.fixture
def rng():
    return np.random.default_rng(0)
