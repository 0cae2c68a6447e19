"""Whole networks: logits, constants, and the layers that are refused."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from inres_tf import verifier
from inres_tf.errors import UserError
from inres_tf.layers import LipschitzDense, tighten
from inres_tf.models import lipschitz_bound
from inres_tf.models.logits import logits_fn

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ["cpl_tiny", "damped_cpl_tiny", "lip_node_tiny", "damped_node_tiny"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(7, 7, 1), (8, 6, 3)])
def test_networks_of_the_zoo(name, shape, tmp_path, rng):
    model = zoo.get_model(name, input_shape=shape, classes=4)
    for weight in model.trainable_weights:
        if weight.name == "bias":
            weight.assign(0.1 * rng.normal(size=weight.shape))
    tighten(model)
    path = tmp_path / "model.keras"
    model.save(path)
    chain = verifier.read_chain(path)
    images = rng.integers(0, 256, (5, *shape))
    expected = np.asarray(logits_fn(model)(images.astype("float32"), training=False))
    error = np.abs(chain.logits(images) - expected).max()
    assert error <= 1e-4 * np.abs(expected).max() and np.ptp(expected) > 0.01
    bound = lipschitz_bound(model)
    np.testing.assert_allclose(chain.constants(), bound.pairwise, rtol=1e-4)
    assert (chain.constants() <= bound.pairwise * (1 + 1e-5)).all()


@pytest.fixture
def chain_of(tmp_path):
    def save(*layers, shape=(3,)):
        model = keras.Sequential([keras.Input(shape), *layers])
        model.save(tmp_path / "model.keras")
        return model, verifier.read_chain(tmp_path / "model.keras")

    return save


SOFTMAX = {
    "none": [keras.layers.Dense(3)],
    "activation": [keras.layers.Dense(3, activation="softmax")],
    "layer": [keras.layers.Dense(3), keras.layers.Softmax()],
    "activation layer": [keras.layers.Dense(3), keras.layers.Activation("softmax")],
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_constants_are_distances_of_the_rows_of_the_last_layer(name, chain_of, rng):
    scale = keras.layers.Rescaling(0.5)
    model, chain = chain_of(scale, *SOFTMAX[name], shape=(2,))
    kernel, bias = rng.normal(size=(2, 3)), rng.normal(size=3)
    model.layers[1].set_weights([kernel, bias])
    model, chain = chain_of(scale, *model.layers[1:], shape=(2,))
    x = rng.normal(size=(4, 2))
    np.testing.assert_allclose(chain.logits(x), 0.5 * x @ kernel + bias, atol=1e-6)
    found = chain.constants()
    for i, j in ((0, 1), (1, 2), (2, 0)):
        expected = 0.5 * np.linalg.norm(kernel[:, i] - kernel[:, j])
        assert found[i, j] == pytest.approx(expected, rel=1e-5)
        assert found[i, j] >= expected * (1 - 1e-7)


def test_a_limited_last_layer_is_scaled(chain_of):
    layer = LipschitzDense(2, limit=0.5, use_bias=False)
    chain_of(layer)
    layer.kernel.assign(np.eye(3)[:, :2])
    _, chain = chain_of(layer)
    assert chain.constants()[0, 1] == pytest.approx(0.5 * np.sqrt(2), rel=1e-5)


def test_without_a_dense_layer_at_the_end(chain_of):
    """Then the logits are features, of which two differ by √2 of their distance."""
    _, chain = chain_of(keras.layers.Rescaling(3.0), keras.layers.ReLU())
    assert chain.constants()[0, 2] == pytest.approx(3 * np.sqrt(2), rel=1e-5)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [keras.layers.LayerNormalization(name="ln")],
            "'ln' .LayerNormalization. cann",
        ),
        (
            [keras.Sequential([keras.layers.Dense(3)], name="inner")],
            "'inner' .Sequential.",
        ),
        ([keras.layers.Dense(1, name="one")], "'one' .* at least 2 classes"),
        ([keras.layers.Softmax(), keras.layers.Dense(2)], "Softmax. cannot be verif"),
    ],
)
def test_chains_that_are_refused(layers, message, chain_of):
    with pytest.raises(UserError, match=message):
        chain_of(*layers)


def test_operations_that_are_no_layers_are_refused(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.ops.sin(inputs)))
    model.save(tmp_path / "model.keras")
    with pytest.raises(UserError, match=r"layer 'sin' \(Sin\) cannot be verified"):
        verifier.read_chain(tmp_path / "model.keras")


def test_weights_that_do_not_fit(chain_of, tmp_path, monkeypatch):
    chain_of(keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b"))
    read = verifier.archive.read

    def swapped(path):
        shape, (first, second) = read(path)
        return shape, [second, first]

    monkeypatch.setattr(verifier.archive, "read", swapped)
    with pytest.raises(UserError, match="layer 'b' .Dense. cannot be read"):
        verifier.read_chain(tmp_path / "model.keras")


def test_neither_keras_nor_the_layers_are_imported(nearest_mean):
    code = """
import json, sys
import numpy as np
from inres_tf import verifier
chain = verifier.read_chain(sys.argv[1])
verifier.verify(chain, np.zeros((2, *chain.shape)), np.zeros(2, int))
for module in verifier.__all__:
    getattr(verifier, module)
print(json.dumps(list(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(nearest_mean)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(json.loads(run.stdout))
    assert "inres_tf.verifier.flows" in modules
    foreign = ("keras", "tensorflow", "inres_tf.layers", "inres_tf.models", "zoo")
    foreign += ("inres_tf.solvers",)
    assert not modules & set(foreign)
