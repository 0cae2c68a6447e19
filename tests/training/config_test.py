"""Recipes, and whole runs of what a recipe or a flag changes."""

import dataclasses
import json
import pathlib

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
from inres_tf.training.config import CHANGEABLE_ON_RESUME, RECIPES, TrainConfig
from inres_tf.training.objectives.fgsm import FGSM
from inres_tf.training.schedules import learning_rate
from inres_tf.training.step import batch_statistics


def build(name):
    return lambda shape, classes: zoo.get_model(
        name, input_shape=shape, classes=classes
    )


def train(folder, model="in_resnet8", **changes):
    settings = {"epochs": 2, "batch_size": 128, "verbose": 0} | changes
    config = TrainConfig(model=model, output_dir=str(folder), **settings)
    return run.train(config, build(model))


def test_defaults_are_the_papers_protocol():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.learning_rate) == (160, 128, 0.1)
    assert (config.momentum, config.nesterov) == (0.9, False)
    assert (config.weight_decay, config.schedule) == (1e-4, "step")
    assert config.ema == config.label_smoothing == config.warmup == 0
    assert config.precision == "float32" and config.objective == "clean"
    for dataset, epochs in (
        ("cifar100", 300),
        ("cifar100:3.0.2", 300),
        ("folder:/data/cifar100", 160),
    ):
        assert TrainConfig(dataset=dataset).epochs == epochs


@pytest.mark.parametrize("recipe", RECIPES)
def test_flags_override_a_recipe(recipe):
    config = TrainConfig(recipe=recipe)
    assert {name: getattr(config, name) for name in RECIPES[recipe]} == RECIPES[recipe]
    changed = TrainConfig(recipe=recipe, epochs=3, weight_decay=0.0, nesterov=True)
    assert (changed.epochs, changed.weight_decay, changed.nesterov) == (3, 0.0, True)
    assert changed.learning_rate == config.learning_rate
    # A flag that leaves no place for the recipe's other defaults.
    stepped = TrainConfig(recipe=recipe, schedule="step", momentum=0.0)
    assert (stepped.warmup, stepped.nesterov) == (0.0, False)
    # What is filled in stays when a run is made of another.
    assert dataclasses.replace(config, seed=1).epochs == config.epochs


def test_every_recipe_names_the_same_settings():
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    for defaults in RECIPES.values():
        assert set(defaults) == set(RECIPES["paper"]) <= set(fields)
    for name in RECIPES["paper"]:
        assert fields[name].default is None
        for recipe, defaults in RECIPES.items():
            assert f"{recipe}: {defaults[name]}" in fields[name].metadata["help"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "slow"}, "--recipe must be one of paper, fast; got 'slow'"),
        ({"schedule": "linear"}, "--schedule must be one of step, cosine"),
        ({"precision": "float64"}, "--precision must be one of float32, bfloat16"),
        ({"warmup": 0.1}, "--warmup needs --schedule=cosine"),
        ({"verbose": 7}, "--verbose must be from -1 to 2; got 7"),
        ({"warmup": 1.0}, r"--warmup must be in \[0, 1\)"),
        ({"ema": 1.0}, r"--ema must be in \[0, 1\); got 1"),
        ({"nesterov": True, "momentum": 0.0}, "--nesterov needs --momentum above 0"),
        ({"accumulate_steps": 0}, "--accumulate_steps must be at least 1"),
        ({"steps_per_execution": 0}, "--steps_per_execution must be at least 1"),
        ({"lambda_schedule": "up"}, "--lambda_schedule must be learn, fixed:V"),
        ({"objective": "pgd", "precision": "float16"}, "--objective=pgd needs --prec"),
        ({"adversary_eps": -1.0}, "--adversary_eps"),
        ({"image_size": -1}, "--image_size"),
        ({"strategy": "mirrored", "tpu": "local"}, "--tpu needs --strategy=tpu"),
    ],
)
def test_wrong_settings(change, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**change)


def test_a_plan_for_no_block_is_refused(tmp_path):
    for model in ("resnet20", "in_resnet8"):
        with pytest.raises(UserError, match=f"needs damped blocks, and {model} has"):
            train(tmp_path / "run", model, lambda_schedule="fixed:0.5")
    assert not (tmp_path / "run").exists()


def test_parts_that_do_not_divide_the_batch_are_said(tmp_path):
    with pytest.raises(UserError, match="--accumulate_steps=3 does not divide the 128"):
        train(tmp_path / "run", accumulate_steps=3)
    assert not (tmp_path / "run").exists()


def test_the_average_of_the_weights_is_the_model(tmp_path, digits):
    """It is what is evaluated and saved; the checkpoint goes on with the weights."""
    result = train(tmp_path / "run", ema=0.9, learning_rate=0.02)
    loaded = keras.models.load_model(result.model_path)
    optimizer = loaded.optimizer
    averages = optimizer._model_variables_moving_average
    for variable, average in zip(loaded.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(variable, average)
    raw = keras.models.load_model(result.checkpoint / "model.keras")
    assert np.abs(raw.get_weights()[0] - loaded.get_weights()[0]).max() > 1e-4
    found = Classifier(loaded).metrics(digits.test, "val_")
    assert found["val_loss"] == pytest.approx(result.history[-1]["val_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("text", "expected", "ema"),
    [
        ("fixed:0.25", [0.25, 0.25], 0.0),
        ("linear:0:0.4", [0.4 * 10 / 21, 0.4], 0.0),
        ("linear:0:0.4", [0.4 * 10 / 21, 0.4], 0.9),
    ],
)
def test_rates_follow_their_plan(text, expected, ema, tmp_path):
    """Whatever the moving average of the weights makes of λ."""
    settings = {"lambda_schedule": text, "steps_per_execution": 4, "ema": ema}
    result = train(tmp_path / "run", "in_resnet20", **settings)
    for row, rate in zip(result.history, expected):
        assert list(row["lambda"].values()) == pytest.approx([rate] * 6, abs=1e-6)
    rates = damping_rates(keras.models.load_model(result.model_path))
    assert list(rates.values()) == pytest.approx([expected[-1]] * 6, abs=1e-6)


def test_a_warm_start_is_a_resnet_that_becomes_damped(tmp_path):
    """Epoch one trains the ResNet of the same weights; then the rates move."""
    settings = {"lambda_schedule": "warm:0.5", "learning_rate": 0.01}
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


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_resumes(precision, tmp_path, digits):
    full = train(tmp_path / "full", learning_rate=0.02)
    result = train(tmp_path / "run", precision=precision, learning_rate=0.02)
    assert result.history[-1]["loss"] == pytest.approx(
        full.history[-1]["loss"], rel=0.1
    )
    assert result.history[-1]["loss"] != full.history[-1]["loss"]
    loaded = keras.models.load_model(result.model_path)
    assert loaded.get_layer("stem_conv").compute_dtype == precision
    assert loaded.get_layer("stem_conv").kernel.dtype == "float32"
    found = evaluator.evaluate(
        loaded,
        digits.test,
        EvaluationConfig(corruptions=(), attacks=()),
        progress=False,
    )
    assert found["clean"]["accuracy"] == pytest.approx(
        result.history[-1]["val_accuracy"], abs=0.02
    )


def test_objectives_train_through_the_loop(tmp_path):
    """Fast adversarial training, with its metric in the history."""
    result = train(
        tmp_path / "run", objective="fgsm", adversary_eps=4.0, learning_rate=0.02
    )
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["pgd_accuracy"] for row in rows] == [
        row["pgd_accuracy"] for row in result.history
    ]


def test_catastrophic_overfitting_ends_a_run_with_the_epoch_before(
    tmp_path, monkeypatch, capsys
):
    accuracies = iter([0.6, 0.1])
    monkeypatch.setattr(
        FGSM,
        "metrics",
        lambda *_: {"pgd_accuracy": next(accuracies)},
    )
    result = train(tmp_path / "run", objective="fgsm", epochs=5)
    assert len(result.history) == 2 and not result.interrupted
    assert run.final_metrics(result.history)["epoch"] == 1
    state = json.loads((result.checkpoint / "state.json").read_text())
    assert state["best"]["epoch"] == 1
    assert "Catastrophic overfitting" in capsys.readouterr().err
    loaded = keras.models.load_model(result.model_path)
    assert int(loaded.optimizer.iterations.numpy()) == 11


def test_what_may_change_names_settings():
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(CHANGEABLE_ON_RESUME) <= fields


def test_the_documented_table_is_the_recipes():
    header = [f"`{recipe}`" for recipe in RECIPES]
    lines = [f"| flag | {' | '.join(header)} |", "|---|" + "---|" * len(RECIPES)]
    for name in RECIPES["paper"]:
        values = (f"{defaults[name]}" for defaults in RECIPES.values())
        lines.append(f"| `--{name}` | {' | '.join(values)} |")
    text = pathlib.Path(__file__).parents[2] / "docs" / "training.md"
    assert "\n".join(lines) in text.read_text()


def test_settings_reach_the_step_and_the_optimiser(tmp_path, monkeypatch):
    """What changes no result by itself, or any, is seen where it is used."""
    seen = {}
    make_step = run.make_step
    monkeypatch.setattr(
        run,
        "make_step",
        lambda *args, **options: seen.update(options) or make_step(*args, **options),
    )
    result = train(
        tmp_path / "run",
        recipe="fast",
        epochs=1,
        learning_rate=0.03,
        momentum=0.8,
        ema=0.7,
        accumulate_steps=2,
        rematerialize=True,
        seed=4,
    )
    assert seen == {
        "accumulate_steps": 2,
        "rematerialize": True,
        "plan_rates": False,
        "seed": 4,
    }
    optimizer = result.model.optimizer
    assert (optimizer.momentum, optimizer.nesterov) == (0.8, True)
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.7)
    schedule = learning_rate("cosine", 0.03, 11, 0.15)
    assert result.history[0]["learning_rate"] == pytest.approx(float(schedule(10)))


def test_replicas_end_with_one_mean_and_their_own_draws(tmp_path):
    """Without synchronised statistics, of a network with random layers."""
    config = TrainConfig(
        model="en_resnet8",
        epochs=1,
        verbose=0,
        strategy="mirrored",
        sync_batch_norm=False,
        output_dir=str(tmp_path / "run"),
    )
    model = run.train(config, build("en_resnet8")).model
    one, two = (
        [v.value.values[i].numpy() for v in batch_statistics(model)] for i in range(2)
    )
    assert len(one) > 2
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)
    for state in random_states(model):
        a, b = (value.numpy() for value in state.value.values)
        assert a[0] != b[0] and a[1] == b[1]
