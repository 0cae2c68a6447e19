"""Fixtures of the analyses: a few images, and linear networks of known matrices."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import inres_tf
from inres_tf.layers import DampedAdd, dampings

SHAPE = (2, 2, 3)


@pytest.fixture(scope="session")
def damped(trained):
    """The trained network with its three blocks damped."""
    return inres_tf.damp(trained, "in", rate=0.3)


@pytest.fixture
def few(digits):
    """Images and labels of five digits."""
    return digits.test.images[:5], digits.test.labels[:5]


@pytest.fixture
def random_data(rng):
    """Five images of 2x2 pixels and labels of four classes."""
    images = rng.uniform(100, 150, (5, *SHAPE)).astype(np.float32)
    return images, rng.integers(0, 4, 5)


@pytest.fixture(scope="session")
def flat():
    """Function that flattens each image to a float64 row."""
    return lambda images: np.asarray(images, np.float64).reshape(len(images), -1)


@pytest.fixture
def linear_model(rng):
    """Function that makes softmax regression for `random_data`, and its matrix."""

    def make(scale=0.02):
        inputs = keras.Input(SHAPE)
        dense = layers.Dense(4, "softmax")
        model = keras.Model(inputs, dense(layers.Flatten()(inputs)))
        matrix = rng.normal(0, scale, (12, 4)).astype(np.float32)
        dense.set_weights([matrix, np.zeros(4, np.float32)])
        return model, matrix.astype(np.float64)

    return make


@dataclasses.dataclass
class LinearBlocks:
    """A stem and two linear blocks, the first one damped, the second one projected.

    With matrices S of the stem, F of the damped branch and M of the second block:
    x_0 = x S, x_1 = a x_0 + b x_0 F, x_2 = x_1 M.
    """

    model: keras.Model
    damping: str
    stem: np.ndarray
    branch: np.ndarray
    second: np.ndarray

    def blocks(self, rate):
        """The matrices of the two blocks at a given λ."""
        damping, rate = dampings.get(self.damping), keras.ops.convert_to_tensor(rate)
        a, b = float(damping.shortcut(rate)), float(damping.branch(rate))
        return a * np.eye(3) + b * self.branch, self.second


@pytest.fixture
def linear_blocks(rng):
    """Function that makes `LinearBlocks` for `random_data`."""

    def convolution():
        """A 1x1 convolution y = x M of 3 channels, and M."""
        matrix = rng.normal(0, 0.6, (3, 3)).astype(np.float32)
        layer = layers.Conv2D(3, 1, use_bias=False)
        layer.build((None, *SHAPE))
        layer.set_weights([matrix[None, None]])
        return layer, matrix.astype(np.float64)

    def make(damping="in", top=True):
        (stem, s), (branch, f), (projection, p), (first, g), (last, h) = (
            convolution() for _ in range(5)
        )
        inputs = keras.Input(SHAPE)
        x = layers.Activation("linear")(stem(inputs))
        x = DampedAdd(damping, name="damped")([x, branch(x)])
        x = layers.Add(name="projected")([projection(x), last(first(x))])
        x = layers.Dense(4)(layers.Flatten()(x)) if top else x
        model = keras.Model(inputs, x, name="linear_blocks")
        return LinearBlocks(model, damping, s, f, p + g @ h)

    return make
