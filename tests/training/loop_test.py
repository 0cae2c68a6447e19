"""The training loop, within whole runs: metrics, schedules, replicas and failures."""

import json

import keras
import numpy as np
import pytest

import zoo
from inres_tf.distribution.classifier import Classifier
from inres_tf.errors import UserError
from inres_tf.evaluation import evaluator
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.layers import damping_rates
from inres_tf.models.random_state import random_states
from inres_tf.training import run
from inres_tf.training.config import TrainConfig
from inres_tf.training.objectives.fgsm import FGSM
from inres_tf.training.step import batch_statistics


def train(folder, model="in_resnet8", **changes):
    settings = {"epochs": 2, "batch_size": 128, "verbose": 0} | changes
    config = TrainConfig(model=model, output_dir=str(folder), **settings)

    def build(shape, classes):
        return zoo.get_model(model, input_shape=shape, classes=classes)

    return run.train(config, build)


def test_reported_metrics_are_those_of_the_model(tmp_path, digits):
    result = train(tmp_path / "run", epochs=1)
    probabilities = result.model.predict(digits.test.images, verbose=0)
    accuracy = (probabilities.argmax(-1) == digits.test.labels).mean()
    of_labels = probabilities[np.arange(len(digits.test)), digits.test.labels]
    assert result.history[-1]["val_accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert result.history[-1]["val_loss"] == pytest.approx(
        -np.log(of_labels).mean(), rel=1e-3
    )


def test_average_of_the_weights_is_evaluated_and_saved(tmp_path, digits):
    """The checkpoint keeps the weights themselves."""
    result = train(tmp_path / "run", ema=0.9, learning_rate=0.02)
    loaded = keras.models.load_model(result.model_path)
    averages = loaded.optimizer._model_variables_moving_average
    for variable, average in zip(loaded.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(variable, average)
    raw = keras.models.load_model(result.checkpoint / "model.keras")
    assert np.abs(raw.get_weights()[0] - loaded.get_weights()[0]).max() > 1e-4
    metrics = Classifier(loaded).metrics(digits.test, "val_")
    expected = result.history[-1]["val_loss"]
    assert metrics["val_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "expected", "ema"),
    [
        ("fixed:0.25", [0.25, 0.25], 0.0),
        ("linear:0:0.4", [0.4 * 10 / 21, 0.4], 0.0),
        ("linear:0:0.4", [0.4 * 10 / 21, 0.4], 0.9),
    ],
)
def test_damping_rates_follow_their_schedule(text, expected, ema, tmp_path):
    """Also if the weights are averaged."""
    settings = {"lambda_schedule": text, "steps_per_execution": 4, "ema": ema}
    result = train(tmp_path / "run", "in_resnet20", **settings)
    for row, rate in zip(result.history, expected):
        assert list(row["lambda"].values()) == pytest.approx([rate] * 6, abs=1e-6)
    rates = damping_rates(keras.models.load_model(result.model_path))
    assert list(rates.values()) == pytest.approx([expected[-1]] * 6, abs=1e-6)


@pytest.mark.long
def test_warm_start_trains_a_resnet_first(tmp_path):
    """The first epoch trains the ResNet with the same weights; then λ is trained."""
    # With some seeds, every λ returns to 0 at once.
    settings = {"lambda_schedule": "warm:0.5", "learning_rate": 0.01, "seed": 2}
    warm = train(tmp_path / "warm", "in_resnet20", **settings)
    first, second = warm.history
    assert set(first["lambda"].values()) == {0.0}
    assert set(second["lambda"].values()) != {0.0}
    fixed = train(
        tmp_path / "fixed", "in_resnet20", **settings | {"lambda_schedule": "fixed:0"}
    )
    assert fixed.history[0]["loss"] == first["loss"]
    assert set(fixed.history[1]["lambda"].values()) == {0.0}
    assert fixed.history[1]["loss"] != second["loss"]


@pytest.mark.parametrize(
    "precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.long)]
)
def test_half_precision_is_close_to_float32(precision, tmp_path, digits):
    full = train(tmp_path / "full", learning_rate=0.02)
    result = train(tmp_path / "run", precision=precision, learning_rate=0.02)
    assert result.history[-1]["loss"] == pytest.approx(
        full.history[-1]["loss"], rel=0.1
    )
    assert result.history[-1]["loss"] != full.history[-1]["loss"]
    loaded = keras.models.load_model(result.model_path)
    assert loaded.get_layer("stem_conv").compute_dtype == precision
    assert loaded.get_layer("stem_conv").kernel.dtype == "float32"
    evaluation = evaluator.evaluate(
        loaded,
        digits.test,
        EvaluationConfig(corruptions=(), attacks=()),
        progress=False,
    )
    assert evaluation["clean"]["accuracy"] == pytest.approx(
        result.history[-1]["val_accuracy"], abs=0.02
    )


def test_metrics_of_the_objective_are_in_the_history(tmp_path):
    result = train(
        tmp_path / "run", objective="fgsm", adversary_eps=4.0, learning_rate=0.02
    )
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["pgd_accuracy"] for row in rows] == [
        row["pgd_accuracy"] for row in result.history
    ]


def test_catastrophic_overfitting_ends_a_run_with_the_previous_epoch(
    tmp_path, monkeypatch, capsys
):
    accuracies = iter([0.6, 0.1])
    monkeypatch.setattr(FGSM, "metrics", lambda *_: {"pgd_accuracy": next(accuracies)})
    settings = {"objective": "fgsm", "lambda_schedule": "linear:0:0.4", "epochs": 5}
    result = train(tmp_path / "run", "in_resnet20", **settings)
    assert len(result.history) == 2 and not result.interrupted
    assert run.final_metrics(result.history)["epoch"] == 1
    state = json.loads((result.checkpoint / "state.json").read_text())
    assert state["best"]["epoch"] == 1
    assert "Catastrophic overfitting" in capsys.readouterr().err
    loaded = keras.models.load_model(result.model_path)
    assert int(loaded.optimizer.iterations.numpy()) == 11
    assert damping_rates(loaded) == pytest.approx(result.history[0]["lambda"])


def test_early_stopping_ends_a_run(tmp_path, monkeypatch):
    """If the validation loss increases every epoch, patience 3 ends after epoch 4."""
    losses = iter(range(100))
    monkeypatch.setattr(
        Classifier,
        "metrics",
        lambda self, data, prefix: {
            "val_loss": float(next(losses)),
            "val_accuracy": 0.5,
        },
    )
    settings = {"epochs": 9, "validation_fraction": 0.1, "early_stopping": 3}
    result = train(tmp_path / "run", **settings)
    assert len(result.history) == 4 and not result.interrupted


def test_non_finite_loss_stops_the_run_and_names_the_step(tmp_path):
    with pytest.raises(
        UserError, match=r"loss became .* at step \d+ \(epoch 1, step \d+\)"
    ):
        train(tmp_path / "run", learning_rate=1e18)
    assert not (tmp_path / "run" / "model.keras").exists()


def test_non_finite_validation_loss_leaves_no_model(tmp_path, digits):
    """With one step per epoch, the training loss precedes the diverging update."""
    settings = {"batch_size": len(digits.train), "learning_rate": 1e38}
    with pytest.raises(UserError, match=r"validation loss became .* step 1 \(epoch 1"):
        train(tmp_path / "run", **settings)
    assert not list((tmp_path / "run").rglob("*.keras"))


def test_mirrored_run_equals_the_run_on_one_device(tmp_path):
    """Within five steps, before rounding errors grow at the kinks of ReLU."""
    settings = {"epochs": 1, "batch_size": 256, "learning_rate": 0.02}
    single, mirrored = (
        train(tmp_path / name, strategy=name, **settings)
        for name in ("one_device", "mirrored")
    )
    for key in ("loss", "val_loss"):
        expected = pytest.approx(single.history[0][key], rel=1e-4)
        assert mirrored.history[0][key] == expected
    weights = zip(mirrored.model.get_weights(), single.model.get_weights(), strict=True)
    for a, b in weights:
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)
    loaded = keras.models.load_model(mirrored.model_path)
    assert not loaded.get_layer("head_bn").synchronized


def test_unsynchronised_replicas_end_with_their_mean_and_different_seeds(tmp_path):
    settings = {"epochs": 1, "strategy": "mirrored", "sync_batch_norm": False}
    model = train(tmp_path / "run", "en_resnet8", **settings).model
    first, second = (
        [v.value.values[i].numpy() for v in batch_statistics(model)] for i in range(2)
    )
    assert len(first) > 2
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    for state in random_states(model):
        a, b = (value.numpy() for value in state.value.values)
        assert a[0] != b[0] and a[1] == b[1]
