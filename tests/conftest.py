"""Shared fixtures: two logical devices, one small dataset, one trained model."""

import gc
import json
import os
import pathlib
import runpy
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("MPLBACKEND", "agg")
# Tests run in parallel, one process per core.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import zoo
from inres_tf import data, files

# Two logical CPU devices act as two GPUs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)

# `make_strategy` sets this, which is impossible once a test has used TensorFlow.
tf.config.threading.set_inter_op_parallelism_threads(1)

# Collecting garbage took an eighth of the time: models are many objects, which stay.
gc.freeze()
gc.set_threshold(20_000, 20, 20)

_ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def digits():
    return data.load("digits")


@pytest.fixture(scope="session")
def trained(digits):
    """A network of depth 8 with a high accuracy on digits."""
    keras.utils.set_random_seed(0)
    model = zoo.InResNet8(input_shape=digits.shape)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits.train.images, digits.train.labels, epochs=4, verbose=0)
    return model


class Spy(keras.layers.Layer):
    """Records the batch size of every call of a network, and its traces."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.rows, self.traces = [], []

    def call(self, images):
        self.traces.append(images.shape[0])
        tf.py_function(lambda x: self.rows.append(len(x)), [images], [])
        return images


@pytest.fixture(scope="session")
def dense():
    """Function that returns a network of dense layers, `(weights, bias)` each."""

    def make(shape, *layers, activation="tanh", spy=False):
        model = keras.Sequential([keras.Input(shape)])
        if spy:
            model.add(Spy(name="spy"))
        model.add(keras.layers.Flatten())
        for number, (weights, bias) in enumerate(layers, start=1):
            is_last = number == len(layers)
            model.add(keras.layers.Dense(len(bias), None if is_last else activation))
            model.layers[-1].set_weights([np.asarray(weights), np.asarray(bias)])
        if spy:
            model.get_layer("spy").traces.clear()
        return model

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def binary(monkeypatch, capsys):
    """Function that runs a binary in this process: (exit code, stdout, stderr)."""

    def run(name, *arguments, package="train"):
        monkeypatch.setattr(
            sys, "argv", [f"{_ROOT}/{package}/{name}.py", *map(str, arguments)]
        )
        # Another test may have imported it.
        monkeypatch.delitem(sys.modules, f"{package}.{name}", raising=False)
        before = set(flags.FLAGS)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as system_exit:
                runpy.run_module(f"{package}.{name}", run_name="__main__")
        finally:
            for flag in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, flag)
            flags.FLAGS.unparse_flags()
        return system_exit.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def saved(trained, tmp_path):
    """Path of the trained network as a `.keras` file."""
    path = tmp_path / "saved" / "model.keras"
    with files.atomic(path) as temporary:
        trained.save(temporary)
    return path


@pytest.fixture
def result_of():
    """Function that creates a folder with the result of an evaluation."""

    def make(folder, model="a", **changes):
        result = {"model": model, "dataset": "digits", "num_examples": 50}
        result |= {"protocol": "standard", "clean": {"accuracy": 0.8}}
        folder.mkdir(parents=True)
        (folder / "evaluation.json").write_text(json.dumps(result | changes))
        return folder

    return make


@pytest.fixture
def run_of():
    """Function that creates the folder of a run with the metrics of one epoch."""

    def make(folder):
        folder.mkdir(parents=True)
        names = (
            "epoch loss accuracy val_loss val_accuracy learning_rate images_per_second"
        )
        row = dict.fromkeys([*names.split(), "dead_blocks"], 1) | {"lambda": {}}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return folder

    return make
