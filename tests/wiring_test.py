"""Every setting reaches what it sets.

Each field of each settings class is changed alone, and something that can be observed
must change: an argument of a recorded call, the result or a file. A field without a
changed value here fails `test_every_field_is_covered`, and a class without fields here
`test_every_class_is_covered`. What carries flags to these classes is in
`tests/train/flags_test.py`.
"""

import ast
import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import re
import types
from unittest import mock

import keras
import numpy as np
import pytest

from inres_tf import analysis, evaluation, layers, reproduce
from inres_tf.analysis import AnalysisConfig, suite
from inres_tf.attacks import registry
from inres_tf.config import Config
from inres_tf.data import DataConfig
from inres_tf.errors import UserError
from inres_tf.evaluation import EvaluationConfig, evaluator
from inres_tf.pages import Plot
from inres_tf.reproduce import ReproduceConfig
from inres_tf.serving import PredictConfig
from inres_tf.training import TrainConfig, run
from inres_tf.verifier import VerifierConfig

ROOT = pathlib.Path(__file__).parents[1]

# From field to (its other value, the other settings of both runs).
EVALUATION = {
    "attacks": (("fgsm",), {}),
    "eps": ((3.0,), {}),
    "norm": ("l2", {"step_size": 2.0}),  # whose default depends on the norm
    "steps": (3, {}),
    "step_size": (2.0, {}),
    "restarts": (2, {}),
    "early_stop": (False, {}),
    "apgd_steps": (7, {"attacks": ("apgd_ce",)}),
    "queries": (9, {"attacks": ("square",)}),
    "autoattack": (("plus",), {"attacks": ("autoattack",)}),
    "corruptions": (("fog",), {}),
    "certify": ("lipschitz", {"attacks": ()}),
    "certify_radii": ((5.0,), {"attacks": (), "certify": "lipschitz"}),
    "certify_attack": ("mim", {"attacks": (), "certify": "lipschitz"}),
    "smoothing_sigma": (10.0, {"certify": "smoothing"}),
    "smoothing_samples": (20, {"certify": "smoothing"}),
    "smoothing_selection": (3, {"certify": "smoothing"}),
    "smoothing_alpha": (0.2, {"certify": "smoothing"}),
    "protocol": ("paper", {}),
    "num_examples": (7, {}),
    "check_examples": (3, {}),
    "samples": (1, {}),
    "batch_size": (4, {}),
    "seed": (1, {}),
}
_PGD = {"objective": "pgd", "adversary_steps": 1}
TRAINING = {
    "recipe": ("fast", {}),
    "epochs": (2, {}),
    "batch_size": (16, {}),
    "learning_rate": (0.5, {}),
    "schedule": ("step", {}),
    "warmup": (0.5, {}),
    "momentum": (0.5, {}),
    "nesterov": (True, {}),
    "weight_decay": (0.1, {}),
    "label_smoothing": (0.1, {}),
    "ema": (0.5, {}),
    "lambda_schedule": ("fixed:0.5", {}),
    "precision": ("bfloat16", {}),
    "accumulate_steps": (2, {}),
    "augmentation": ("none", {}),
    "validation_fraction": (0.25, {}),
    "seed": (1, {}),
    "checkpoint_every": (2, {"epochs": 2}),
    "verbose": (2, {}),
    "objective": ("noise", {}),
    "adversary_eps": (16.0, _PGD),
    "adversary_steps": (2, _PGD),
    "adversary_step_size": (8.0, _PGD),
    "trades_beta": (1.0, {"objective": "trades", "adversary_steps": 1}),
    "noise_std": (60.0, {"objective": "noise"}),
    "margin_offset": (3.0, {"objective": "margin"}),
    "margin_temperature": (3.0, {"objective": "margin"}),
    "margin_annealing": (3.0, {"objective": "margin"}),
    "image_size": (10, {}),
    "output_dir": ("elsewhere", {}),
}
ANALYSIS = {
    "landscape": (False, {}),
    "lyapunov": (False, {}),
    "lipschitz": (False, {}),
    "gradients": (False, {}),
    "calibration": (False, {}),
    "continuous": (True, {}),
    "eps": (4.0, {}),
    "grid": (5, {}),
    "direction": ("pgd", {}),
    "steps": (3, {}),
    "rates": ((2.0,), {}),
    "iterations": (3, {}),
    "tolerance": (0.1, {}),
    "corruptions": (("fog",), {}),
    "severity": (1, {}),
    "bins": (3, {}),
    "solvers": (("rk4",), {"continuous": True}),
    "solver_steps": ((3,), {"continuous": True}),
    "num_examples": (5, {}),
    "batch_size": (7, {}),
    "seed": (1, {}),
}
DATA = {
    "dataset": ("mnist", {}),
    "data_dir": ("elsewhere", {}),
    "download": (True, {}),
    "image_size": (16, {}),
}
REPRODUCTION = {"models": (("plain8",), {}), "seeds": ((5,), {})}
# Fields that other tests show, by the path of the test.
ELSEWHERE = {
    PredictConfig: dict.fromkeys(
        ("top", "batch_size"),
        "serving/predictions_test.py::test_images_are_those_of_a_dataset",
    ),
    VerifierConfig: dict.fromkeys(
        ("num_examples", "radii"), "train/flags_test.py::test_every_flag_is_seen"
    ),
    EvaluationConfig: {
        "corruption_source": "evaluation/suite_test.py::"
        "test_ready_made_sets_and_a_baseline",
        "baseline": "evaluation/suite_test.py::test_ready_made_sets_and_a_baseline",
    },
    TrainConfig: {
        "model": "train/train_test.py::test_train_evaluate_export",
        "weights": "train/models_test.py::test_training_starts_from_initial_weights",
        "dataset": "train/train_test.py::test_train_evaluate_export",
        "data_dir": "data/tfds_test.py::test_prepared_dataset_loads_by_name",
        "download": "data/tfds_test.py::"
        "test_missing_dataset_is_reported_with_those_that_exist",
        "early_stopping": "training/loop_test.py::test_early_stopping_ends_a_run",
        "logical_cpus": "distribution/strategy_test.py::test_logical_cpus",
        "rematerialize": "training/run_test.py::"
        "test_settings_reach_the_step_and_the_optimiser",
        "resume": "training/run_test.py::test_folder_of_another_run_is_rejected",
        "steps_per_execution": "training/run_test.py::"
        "test_stopped_run_resumes_bit_for_bit",
        "strategy": "training/loop_test.py::"
        "test_mirrored_run_equals_the_run_on_one_device",
        "sync_batch_norm": "training/loop_test.py::"
        "test_unsynchronised_replicas_end_with_their_mean_and_different_seeds",
        "tpu": "distribution/strategy_test.py::test_tpu_is_connected_and_initialised",
        "worker_index": "distribution/config_test.py::test_worker_info_from_flags",
        "workers": "distribution/config_test.py::test_worker_info_from_flags",
    },
}
COVERED = {
    AnalysisConfig: ANALYSIS,
    DataConfig: DATA,
    EvaluationConfig: EVALUATION,
    PredictConfig: {},
    ReproduceConfig: REPRODUCTION,
    TrainConfig: TRAINING,
    VerifierConfig: {},
}


def exists(reference):
    """Whether a test that is named by its path exists."""
    path, _, name = reference.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return any(isinstance(f, ast.FunctionDef) and f.name == name for f in tree.body)


@pytest.mark.parametrize("config", COVERED, ids=lambda config: config.__name__)
def test_every_field_is_covered(config):
    names = {field.name for field in dataclasses.fields(config)}
    covered, elsewhere = set(COVERED[config]), ELSEWHERE.get(config, {})
    assert names == covered | set(elsewhere)
    assert not covered & set(elsewhere)
    assert [test for test in elsewhere.values() if not exists(test)] == []


def test_every_class_is_covered():
    """The fields of the classes that `TrainConfig` extends are its own."""
    found = set()
    for path in (ROOT / "inres_tf").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"^class (\w+)\(.*Config\)", text, re.M))
    extended = TrainConfig.__mro__[1 : TrainConfig.__mro__.index(Config)]
    assert found == {config.__name__ for config in (*COVERED, *extended)}


@pytest.fixture(scope="module")
def classifier(digits):
    """A network of one layer that tells digits apart."""
    pixels = keras.Input(digits.shape)
    x = keras.layers.Normalization(mean=128.0, variance=64.0**2)(pixels)
    x = keras.layers.Flatten()(x)
    model = keras.Model(pixels, keras.layers.Dense(10)(x))
    means = [digits.train.images[digits.train.labels == c].mean(0) for c in range(10)]
    centres = (np.reshape(means, (10, -1)) - 128) / 64
    model.layers[-1].set_weights([centres.T, -(centres**2).sum(1) / 2])
    return model


def comparable(value):
    """A value for JSON; functions by their kind only."""
    if isinstance(value, np.ndarray):
        return [value.shape, int(value.sum())]
    return "function" if callable(value) else str(value)


@pytest.fixture(scope="module")
def observe_evaluation(classifier, digits):
    """Function that returns all that an evaluation with some settings does."""
    images = digits.test.take(slice(10))

    @functools.cache
    def observe(settings):
        calls = []

        def attack(self, model, images, labels, eps, **settings):
            calls.append(["attack", self.name, eps, len(images), settings])
            # The attack beside certificates must not refute them.
            return images if settings["norm"] == "l2" else 255.0 - images

        def corrupt(pixels, name, severity, seed):
            calls.append(["corrupt", name, severity, seed])
            return pixels

        def check(model, data, *rest):
            calls.append(["check", len(data)])
            return []

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(registry.Attack, "__call__", attack)
            patch.setattr(evaluator.corruptions, "corrupt", corrupt)
            for part in ("of_model", "of_attacks", "of_solver"):
                patch.setattr(evaluator.checks, part, check)
            # It takes the norm, whether or not the attacks do.
            patch.setattr(evaluator.checks, "of_accuracies", lambda *_: [])
            config = EvaluationConfig(**dict(settings))
            result = evaluation.evaluate(classifier, images, config, progress=False)
        return json.dumps([calls, result], default=comparable)

    return observe


def assert_seen(observe, base, changes):
    """Asserts that changes are observed, and nothing without them."""
    # Sorted, so that what was observed for another field is not repeated.
    before, after = (tuple(sorted(x.items())) for x in (base, base | changes))
    assert observe(before) == observe(before[::-1])
    assert observe(before) != observe(after)


@pytest.mark.parametrize("field", EVALUATION)
def test_evaluation(field, observe_evaluation):
    value, others = EVALUATION[field]
    base = {"attacks": ("pgd",), "eps": (2.0,), "corruptions": ("contrast",)}
    base |= {"smoothing_samples": 50, "smoothing_selection": 10, **others}
    assert_seen(observe_evaluation, base, {field: value})


def build(shape, classes):
    """A small network with a damped block and batch normalisation."""
    pixels = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    branch = keras.layers.BatchNormalization()(x)
    x = layers.DampedAdd("in", name="add")([x, keras.layers.ReLU()(branch)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
    return keras.Model(pixels, outputs, name="small")


@pytest.fixture(scope="module")
def observe_training(digits, tmp_path_factory):
    """Function that returns what a run writes and prints, without its settings."""
    few = dataclasses.replace(
        digits, train=digits.train.take(slice(64)), test=digits.test.take(slice(16))
    )

    @functools.cache
    def observe(settings):
        settings = dict(settings)
        root = tmp_path_factory.mktemp("runs")
        output = settings.pop("output_dir", "run")
        config = TrainConfig(output_dir=str(root / output), **settings)
        data = few
        if config.image_size:
            size = config.image_size
            data = DataConfig("digits", image_size=size).load()
            data = dataclasses.replace(data, train=data.train.take(slice(64)))
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainConfig, "load", lambda self: data)
            patch.setattr(run.plots, "training_curves", lambda *_, **__: None)
            patch.setattr(run.plotting, "save", lambda *_: None)
            patch.setattr(run.class_names, "save", lambda model, path: path.touch())
            with contextlib.redirect_stdout(printed):
                result = run.train(config, build)
        times = {"images_per_second"}
        history = [
            {k: v for k, v in row.items() if k not in times} for row in result.history
        ]
        files = sorted(str(path.relative_to(root)) for path in root.rglob("*.json"))
        weights = [float(np.abs(w).sum()) for w in result.model.get_weights()]
        return json.dumps([history, files, weights, bool(printed.getvalue())])

    return observe


@pytest.mark.parametrize("field", TRAINING)
def test_training(field, observe_training):
    value, others = TRAINING[field]
    base = {"epochs": 1, "batch_size": 32, "learning_rate": 0.1, "nesterov": False}
    base |= {"schedule": "cosine", "augmentation": "crop", "verbose": 0, **others}
    assert_seen(observe_training, base, {field: value})


def observe_analysis(model, dataset, folder, settings):
    """The calls of all analyses."""
    calls = []

    def analyse(name, model, images, labels, **settings):
        calls.append([name, len(images), settings])
        return types.SimpleNamespace(arrays=dict, summary=dict)

    with pytest.MonkeyPatch.context() as patch:
        for name, item in suite.ANALYSES.items():
            function = functools.partial(analyse, name)
            spy = dataclasses.replace(item, function=function, figure=lambda _: None)
            patch.setitem(suite.ANALYSES, name, spy)
        patch.setattr(suite, "Chain", mock.Mock())
        patch.setattr(suite, "require_limit", lambda model: None)
        patch.setattr(suite.plotting, "save", lambda *_: None)
        patch.setattr(suite.pages, "plot", lambda *_: Plot("", [], []))
        config = AnalysisConfig(**settings)
        analysis.analyze(model, dataset, config, folder, progress=False)
    return calls


def observe_data(model, dataset, folder, settings):
    """The arguments of `load`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inres_tf.data.dataset.load", lambda *args: args)
        return DataConfig(**settings).load()


def observe_reproduction(model, dataset, folder, settings):
    """Which network it trains first."""

    def train(config, build):
        raise UserError(f"{config.model}, seed {config.seed}, {build}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inres_tf.training.train", train)
        patch.setattr("inres_tf.distribution.make_strategy", lambda config: None)
        training, evaluating = TrainConfig(output_dir=str(folder)), EvaluationConfig()
        arguments = ReproduceConfig(**settings), training, evaluating, str
        with pytest.raises(UserError) as error:
            reproduce.reproduce(*arguments)
    return str(error.value)


OBSERVE = {
    AnalysisConfig: observe_analysis,
    DataConfig: observe_data,
    ReproduceConfig: observe_reproduction,
}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        pytest.param(config, field, id=f"{config.__name__}-{field}")
        for config in OBSERVE
        for field in COVERED[config]
    ],
)
def test_other_settings(config, field, classifier, digits, tmp_path):
    def observe(settings):
        return OBSERVE[config](classifier, digits, tmp_path, dict(settings))

    value, others = COVERED[config][field]
    assert_seen(observe, others, {field: value})
