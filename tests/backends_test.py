"""The models under JAX and PyTorch, which `make test-backends` installs."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import inres_tf
import zoo
from inres_tf.layers import damping_rates

# The backend of a process cannot change, so each one needs its own.
PROBE = """
import pathlib, sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "__array__ implementation")
import keras
import numpy as np
import inres_tf, zoo
from inres_tf.layers import damping_rates

assert keras.backend.backend() == sys.argv[2]
# Keras imports TensorFlow, if it is installed, when it first saves or loads a model.
assert "tensorflow" not in sys.modules
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.keras")):
    model = keras.models.load_model(path)
    expected = np.load(path.with_suffix(".npz"))
    pixels = expected["pixels"]
    logits = keras.ops.convert_to_numpy(model(pixels))
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-4 * scale)
    rates = list(damping_rates(model).values())
    np.testing.assert_allclose(rates, expected["rates"], rtol=1e-6, atol=1e-7)
    if model.name in zoo.list_models():
        restored = zoo.get_model(
            model.name,
            input_shape=pixels.shape[1:],
            classes=logits.shape[1],
            classifier_activation=None,
            weights=path,
        )
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(restored(pixels)), logits
        )
        damped = inres_tf.damp(model, "lambda_in")
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(damped(pixels)), logits, rtol=1e-5, atol=1e-5
        )
    noisy = keras.ops.convert_to_numpy(model(pixels, training=True))
    assert np.isfinite(noisy).all()
    print("checked", model.name)

keras.utils.set_random_seed(0)
model = zoo.InResNet20(
    input_shape=(8, 8, 3), classes=2, noise=0.001, stochastic_depth=0.1
)
before = damping_rates(model)
model.compile("adam", "sparse_categorical_crossentropy")
images = np.random.default_rng(0).uniform(0, 255, (32, 8, 8, 3)).astype("float32")
labels = (images.mean((1, 2, 3)) > 127).astype("int32")
history = model.fit(images, labels, epochs=8, verbose=0).history["loss"]
assert history[-1] < history[0], history
assert all(damping_rates(model)[name] != rate for name, rate in before.items())
print("trained")

ones = np.ones((2, 3), "float32")
for method in ("rk4", "heun", "dopri5", "bosh3"):
    states, record = inres_tf.solvers.odeint(
        lambda t, x: -2.0 * t * x, ones, [0.0, 1.0], method, steps=40, rtol=1e-5
    )
    end = keras.ops.convert_to_numpy(states)[-1]
    np.testing.assert_allclose(end, np.exp(-1) * ones, atol=2e-3)
    assert keras.ops.convert_to_numpy(record.success).all()
for solver in ("rk4", {"method": "euler", "steps": 20}, "bosh3"):
    ode = inres_tf.layers.NeuralODE(
        inres_tf.layers.ConvDynamics("time", limit=2.0), solver, damping="in"
    )
    layers = [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), ode]
    layers += [inres_tf.layers.ConvexPotentialConv2D(4), keras.layers.Flatten()]
    model = keras.Sequential([*layers, inres_tf.layers.LipschitzDense(2, limit=None)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    history = model.fit(images, labels, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0], (solver, history)
    for old, weight in zip(before, model.trainable_weights):
        assert not np.array_equal(old, keras.ops.convert_to_numpy(weight)), weight.path
print("solved")
"""


def classifiers(rng):
    """Yields networks that cover every layer of the package, with images."""
    small, large = (
        rng.integers(0, 256, (4, s, s, 3)).astype(np.uint8) for s in (8, 32)
    )
    options = {"classes": 5, "classifier_activation": None}
    for name in (
        "in_resnet20",
        "lambda_in_resnet20",
        "exponential_resnet20",
        "plain20",
        "en_resnet20",
        "in_resnext11_4x16d",
    ):
        yield zoo.get_model(name, input_shape=(8, 8, 3), **options), small
    yield zoo.InResNeXt50_32x4d(input_shape=(32, 32, 3), **options), large
    mobile = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), weights=None, **options
    )
    yield inres_tf.damp(mobile, rate=0.2), large


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Networks saved under TensorFlow, with their outputs."""
    folder, count = tmp_path_factory.mktemp("references"), 0
    for model, pixels in classifiers(np.random.default_rng(0)):
        model.save(folder / f"{model.name}.keras")
        np.savez(
            folder / f"{model.name}.npz",
            pixels=pixels,
            logits=np.asarray(model(pixels)),
            rates=list(damping_rates(model).values()),
        )
        count += 1
    return folder, count


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_outputs_match_tensorflow(backend, references):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: make test-backends")
    folder, count = references
    result = subprocess.run(
        [sys.executable, "-c", PROBE, str(folder), backend],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.count("checked") == count and "solved" in result.stdout
