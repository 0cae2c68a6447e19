import keras
import numpy as np
import pytest
import tensorflow as tf

from inres_tf import verifier
from inres_tf.layers.lipschitz import Operator


class Case:
    """A saved network of one layer and a dense one, and what was read from its file."""

    def __init__(self, model, path):
        self.model, self.layer = model, model.layers[1]
        self.chain = verifier.read_chain(path)
        shape = (6, *model.input_shape[1:])
        self.images = np.random.default_rng(5).normal(size=shape) * 3
        self.bound = self.chain.links[0].map.lipschitz

    def error_of_logits(self):
        """The largest difference to Keras' logits, relative to the largest logit."""
        expected = self.model(self.images.astype("float32")).numpy()
        assert np.ptp(expected, axis=0).max() > 1e-2
        error = np.abs(self.chain.logits(self.images) - expected).max()
        return error / np.abs(expected).max()

    def jacobian_norm(self):
        """The largest norm of the layer's Jacobian at the images."""
        images = self.images[:3].astype("float32")
        size = int(np.prod(self.layer.compute_output_shape(images.shape)[1:]))
        # One copy of an image for each row of its Jacobian.
        copies = tf.constant(np.repeat(images, size, axis=0))
        with tf.GradientTape() as tape:
            tape.watch(copies)
            outputs = tf.reshape(self.layer(copies), (len(images), size, size))
            diagonals = tf.reduce_sum(tf.linalg.diag_part(outputs))
        rows = tape.gradient(diagonals, copies).numpy().astype(np.float64)
        return np.linalg.norm(rows.reshape(len(images), size, -1), 2, (1, 2)).max()


@pytest.fixture
def saved_layer(tmp_path, rng):
    """Function that saves a layer with random weights, followed by a dense one.

    Norms are estimated a little too low by default, as in training.
    """

    def save(layer, shape=(5, 4, 2), estimate=0.97, k=None):
        inputs = keras.Input(shape)
        x = keras.layers.Flatten()(layer(inputs))
        model = keras.Model(inputs, keras.layers.Dense(3)(x))
        for weight in model.trainable_weights:
            if weight.name != "k":
                weight.assign(0.4 * rng.normal(size=weight.shape))
            elif k is not None:
                weight.assign(k)
        for part in model._flatten_layers():
            if isinstance(part, Operator):
                part.sigma.assign(estimate * part.norm_bound())
        path = tmp_path / "model.keras"
        model.save(path)
        return Case(model, path)

    return save


@pytest.fixture(scope="session")
def nearest_mean(digits, tmp_path_factory):
    """Path of a linear classifier of digits, whose bound is exact, with a softmax."""
    images, labels = digits.train.images, digits.train.labels
    means = np.stack([images[labels == c].mean(0).ravel() / 255 for c in range(10)])
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(digits.shape),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="predictions"),
        ]
    )
    model.layers[-1].set_weights([means.T, -(means**2).sum(1) / 2])
    path = tmp_path_factory.mktemp("nearest_mean") / "model.keras"
    model.save(path)
    return path
