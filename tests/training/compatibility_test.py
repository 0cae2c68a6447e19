"""Files written before inres_tf had rooms still load and resume.

`tests/data/written_by_flat_layout` was written at revision d62409a: a run of two epochs
of the network below, and the same run stopped after the first.
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


def test_a_model_with_every_registered_layer_loads(finished, digits):
    classes = {type(layer) for layer in finished.layers}
    assert classes >= {
        layers.BatchNormalization,
        layers.DampedAdd,
        layers.GroupedConv2D,
        layers.UniformNoise,
    }
    answers = finished(digits.test.images[:4], training=False)
    expected = np.load(FILES / "answers.npy")
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-6)


def test_a_run_resumes_from_its_checkpoint(finished, tmp_path):
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

    def never(shape, classes):
        raise AssertionError("a new model is built instead of the saved one")

    result = training.train(config, never)
    assert [row["epoch"] for row in result.history] == [1, 2]
    # Other processors round differently.
    for ours, theirs in zip(result.model.get_weights(), finished.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)
