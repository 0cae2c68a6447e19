import dataclasses
import pathlib

import pytest

from inres_tf.errors import UserError
from inres_tf.training.config import CHANGEABLE_ON_RESUME, RECIPES, TrainConfig


def test_defaults_are_the_protocol_of_the_paper():
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
    # Flags that contradict other defaults of the recipe.
    stepped = TrainConfig(recipe=recipe, schedule="step", momentum=0.0)
    assert (stepped.warmup, stepped.nesterov) == (0.0, False)
    # Copies keep the defaults of the recipe.
    assert dataclasses.replace(config, seed=1).epochs == config.epochs


def test_choices_may_be_in_any_case():
    assert TrainConfig(recipe="FAST") == TrainConfig(recipe="fast")
    same = [TrainConfig(recipe="fast", schedule=s) for s in ("Cosine", "cosine")]
    assert same[0] == same[1] and same[0].warmup > 0


def test_every_recipe_has_the_same_settings():
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    for defaults in RECIPES.values():
        assert set(defaults) == set(RECIPES["paper"]) <= set(fields)
    for name in RECIPES["paper"]:
        assert fields[name].default is None
        for recipe, defaults in RECIPES.items():
            assert f"{recipe}: {defaults[name]}" in fields[name].metadata["help"]


def test_documented_table_shows_the_recipes():
    header = [f"`{recipe}`" for recipe in RECIPES]
    lines = [f"| flag | {' | '.join(header)} |", "|---|" + "---|" * len(RECIPES)]
    for name in RECIPES["paper"]:
        values = (f"{defaults[name]}" for defaults in RECIPES.values())
        lines.append(f"| `--{name}` | {' | '.join(values)} |")
    text = pathlib.Path(__file__).parents[2] / "docs" / "training.md"
    assert "\n".join(lines) in text.read_text()


def test_default_output_dir_names_model_dataset_and_seed():
    for dataset, name in (("cifar10", "cifar10"), ("folder:/data/pets/", "pets")):
        config = TrainConfig(model="plain8", dataset=dataset, seed=3)
        assert config.output_dir == f"runs/plain8-{name}-seed3"


def test_changeable_on_resume_names_settings():
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(CHANGEABLE_ON_RESUME) <= fields


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "slow"}, "--recipe must be one of paper, fast; got 'slow'"),
        ({"schedule": "linear"}, "--schedule must be one of step, cosine"),
        ({"precision": "float64"}, "--precision must be one of float32, bfloat16"),
        ({"epochs": 0}, "--epochs must be from 1 to 1000000; got 0"),
        ({"learning_rate": float("nan")}, "--learning_rate must be positive; got nan"),
        ({"momentum": 1.0}, r"--momentum must be in \[0, 1\)"),
        ({"weight_decay": -1.0}, "--weight_decay must be at least 0"),
        ({"seed": -1}, "--seed"),
        ({"verbose": 7}, "--verbose must be from -1 to 2; got 7"),
        ({"warmup": 1.0}, r"--warmup must be in \[0, 1\)"),
        ({"ema": 1.0}, r"--ema must be in \[0, 1\); got 1"),
        ({"accumulate_steps": 0}, "--accumulate_steps must be at least 1"),
        ({"steps_per_execution": 0}, "--steps_per_execution must be at least 1"),
        ({"lambda_schedule": "up"}, "--lambda_schedule must be learn, fixed:V"),
        ({"adversary_eps": -1.0}, "--adversary_eps"),
        ({"image_size": -1}, "--image_size"),
        ({"warmup": 0.1}, "--warmup needs --schedule=cosine"),
        ({"nesterov": True, "momentum": 0.0}, "--nesterov needs --momentum above 0"),
        ({"early_stopping": 3}, "--early_stopping needs --validation_fraction"),
        ({"objective": "pgd", "precision": "float16"}, "--objective=pgd needs --prec"),
        ({"strategy": "mirrored", "tpu": "local"}, "--tpu needs --strategy=tpu"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**settings)


def test_the_folder_of_a_run_may_be_in_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert TrainConfig(output_dir="~/run").output_dir == "/home/ada/run"
