"""Models and runs written before inres_tf was split into subpackages still load.

`tests/data/written_by_flat_layout` was written at revision d62409a. It contains the
model of a run of two epochs, and the folder of the same run stopped after the first.
"""

import pathlib
import shutil

import keras
import numpy as np
import pytest

from inres_tf import layers, training

FILES = pathlib.Path(__file__).parents[1] / "data" / "written_by_flat_layout"


@pytest.fixture
def finished():
    return keras.models.load_model(FILES / "model.keras")


def test_old_model_with_every_registered_layer_loads(finished, digits):
    classes = {type(layer) for layer in finished.layers}
    assert classes >= {
        layers.BatchNormalization,
        layers.DampedAdd,
        layers.GroupedConv2D,
        layers.UniformNoise,
    }
    outputs = finished(digits.test.images[:4], training=False)
    expected = np.load(FILES / "answers.npy")
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


def test_old_run_resumes_from_its_checkpoint(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(FILES / "run", folder)
    config = training.TrainConfig(
        model="every_layer",
        dataset="digits",
        epochs=2,
        batch_size=256,
        output_dir=str(folder),
        verbose=0,
    )

    def build(shape, classes):
        raise AssertionError("a new model is built instead of loading the saved one")

    result = training.train(config, build)
    assert [row["epoch"] for row in result.history] == [1, 2]
    # Rounding depends on the processor.
    for weight, expected in zip(result.model.get_weights(), finished.get_weights()):
        np.testing.assert_allclose(weight, expected, rtol=1e-2, atol=1e-3)
