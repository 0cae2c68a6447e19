import dataclasses
import json
import re

import numpy as np
import pytest

import zoo
from inres_tf import evaluation, markdown, reproduce, training
from inres_tf.data import Images
from inres_tf.errors import Stopped, UserError
from inres_tf.evaluation import evaluator
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.evaluation.validation import check_number
from inres_tf.reproduce import ReproduceConfig
from inres_tf.training.config import TrainConfig
from inres_tf.training.run import Loop, TrainResult

MODELS = ("resnet8", "in_resnet20")


def build(name):
    return lambda shape, classes: zoo.get_model(
        name, input_shape=shape, classes=classes
    )


def run(folder, seeds=(0, 1), **changes):
    settings = TrainConfig(
        epochs=2,
        batch_size=128,
        output_dir=str(folder),
        **{"resume": True, "verbose": 0} | changes,
    )
    evaluating = EvaluationConfig(
        attacks=("fgsm", "pgd"),
        eps=(8.0, 32.0),
        steps=2,
        step_size=16.0,
        corruptions=("shot_noise", "impulse_noise"),
        num_examples=60,
        check_examples=10,
    )
    config = ReproduceConfig(MODELS, seeds)
    return reproduce.reproduce(config, settings, evaluating, build, "the command")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce") / "main"
    run(folder)
    return folder


def test_tables_plots_and_a_report_are_written(folder):
    names = {p.name for p in folder.iterdir()}
    runs = {f"{m}-seed{s}" for m in MODELS for s in (0, 1)}
    assert names == runs | {
        "config.json",
        "results.json",
        "results.md",
        "report.html",
        "training_curves.png",
        "accuracy_over_eps.png",
        "accuracy_over_severity.png",
        "lambda_by_depth.png",
        "trade_off.png",
    }
    written = json.loads((folder / "results.json").read_text())
    assert [r["model"] for r in written["results"]] == [m for m in MODELS for _ in "01"]
    assert written["facts"]["command"] == "the command"
    steps = "standard protocol, iterative attacks of 2 steps of 16/255"
    assert written["facts"]["evaluation"] == steps
    by_seed = [result["lambda"].values() for result in written["results"][2:]]
    first, second = (sum(r == 0 for r in rates) for rates in by_seed)
    assert written["facts"]["damped blocks with λ = 0"] == (
        f"in_resnet20 {first} and {second} of 6"
    )


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, "20 steps of 1/255"),
        ({"steps": 7, "step_size": 0.5}, "7 steps of 0.5/255"),
        (
            {"norm": "l2", "eps": (72.0, 36.0), "steps": 40},
            "40 steps of 2.25/255, 4.5/255",
        ),
    ],
)
def test_the_steps_that_the_report_names(settings, expected):
    assert reproduce._steps(EvaluationConfig(**settings)) == expected


def test_config_holds_the_settings_of_the_latest_evaluation(folder, tmp_path):
    content = json.loads((folder / "config.json").read_text())
    assert content["flags"]["models"] == list(MODELS)
    assert content["evaluation"]["attacks"] == ["fgsm", "pgd"]
    for steps in (3, 4):
        config = ReproduceConfig(MODELS, (5,)), EvaluationConfig(steps=steps)
        reproduce._write_config(tmp_path, {"epochs": 2}, *config)
        content = json.loads((tmp_path / "config.json").read_text())
        assert content["evaluation"]["steps"] == steps
        assert content["flags"] == {"epochs": 2} and content["seed"] == 5


def test_the_report_is_self_contained(folder):
    page = (folder / "report.html").read_text()
    # Two attacks and the worst case, two noises, trade-offs at two ε, λ by depth and
    # over epochs, loss and accuracy.
    assert page.count('role="img"') == 11
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "@import" not in page
    assert 'name="viewport"' in page and "the command" in page
    for model in MODELS:
        assert f'<th scope="row">{model}</th>' in page
    # Both models have two seeds, so that these are compared and not the images.
    assert "Tested over 2 seeds, not over images" in page
    assert "Confusion matrix of in_resnet20" in page and "MFLOPs" in page


def test_tables_show_the_evaluations(folder):
    text = (folder / "results.md").read_text()
    results = json.loads((folder / "results.json").read_text())["results"]
    pgd = [
        attack["accuracy"]
        for result in results
        if result["model"] == "in_resnet20"
        for attack in result["attacks"]
        if (attack["name"], attack["eps"]) == ("pgd", 32.0)
    ]
    line = [row for row in text.splitlines() if row.startswith("| in_resnet20")][2]
    assert line.split("|")[-2].strip() == markdown.percent(pgd) and "±" in line
    header = next(row for row in text.splitlines() if "fgsm 8" in row)
    assert [c.strip() for c in header.split("|")[3:-1]] == [
        "fgsm 8",
        "fgsm 32",
        "pgd 8",
        "pgd 32",
    ]


def test_finished_trainings_and_evaluations_are_not_repeated(folder, monkeypatch):
    before = (folder / "results.md").read_text()

    def fail(*args, **kwargs):
        raise AssertionError("repeated")

    monkeypatch.setattr(Loop, "run", fail)
    monkeypatch.setattr(evaluation, "evaluate_model", fail)
    run(folder, verbose=2)
    assert (folder / "results.md").read_text() == before


@pytest.mark.long
def test_a_damaged_evaluation_is_repeated(folder, monkeypatch):
    path = folder / "resnet8-seed0" / "evaluation.json"
    result = json.loads(path.read_text())
    path.write_text(path.read_text()[:50])
    run(folder)
    repeated = json.loads(path.read_text())
    assert repeated["attacks"] == result["attacks"]
    assert repeated["corruptions"] == result["corruptions"]


def test_invalid_settings_are_rejected_before_any_training(tmp_path):
    with pytest.raises(UserError, match="--num_examples=60 is more than"):
        few = EvaluationConfig(num_examples=60)
        check_number(few, Images(np.zeros(1), np.zeros(1)))
    with pytest.raises(
        UserError, match=r"--seeds must be from 0 to 2147483647; got -1"
    ):
        run(tmp_path / "main", seeds=(0, -1))
    evaluating = EvaluationConfig(num_examples=5000)
    settings = TrainConfig(output_dir=str(tmp_path / "main"), epochs=1)
    with pytest.raises(UserError, match="--num_examples=5000"):
        reproduce.reproduce(ReproduceConfig(MODELS), settings, evaluating, build)
    assert not (tmp_path / "main").exists()


def test_a_model_with_other_classes_is_rejected(digits):
    model = zoo.ResNet8(input_shape=digits.shape, classes=100)
    with pytest.raises(UserError, match="100 classes, but dataset digits has 10"):
        evaluator.evaluate_model(model, digits, EvaluationConfig())


def test_another_reproduction_needs_another_folder(folder):
    with pytest.raises(UserError, match=r"run \(--learning_rate=0.1 there, 0.2"):
        run(folder, learning_rate=0.2)
    with pytest.raises(UserError, match="already holds this run; use --resume"):
        run(folder, resume=False)
    with pytest.raises(UserError, match=r"holds another run \(--seeds=\[0, 1\] there"):
        run(folder, seeds=(0,))


def test_an_interruption_is_raised_with_its_checkpoint(tmp_path, monkeypatch):
    cut = TrainResult(None, [], None, None, preempted=True)
    monkeypatch.setattr(training, "train", lambda *args: cut)
    with pytest.raises(Stopped, match="preempted: a checkpoint is saved"):
        run(tmp_path / "main")
    assert not (tmp_path / "main" / "report.html").exists()


def test_an_evaluation_is_only_reused_for_the_same_model_and_images(
    trained, digits, tmp_path, monkeypatch, capsys
):
    evaluated = []
    original = evaluation.evaluate_model

    def spy(*args, **kwargs):
        evaluated.append(args)
        return original(*args, progress=False, **kwargs)

    monkeypatch.setattr(evaluation, "evaluate_model", spy)
    config = EvaluationConfig(attacks=(), corruptions=(), check_examples=2)
    few = dataclasses.replace(digits, test=digits.test.take(slice(40)))

    def accuracy(dataset=few, count=1):
        evaluated.clear()
        reproduce._evaluate(tmp_path, dataset, config, None)
        assert len(evaluated) == count
        result = json.loads((tmp_path / "evaluation.json").read_text())
        return result["clean"]["accuracy"], capsys.readouterr().out

    trained.save(tmp_path / "model.keras")
    first, out = accuracy()
    assert first > 0.8 and out == ""
    assert accuracy(count=0) == (first, "")
    zoo.InResNet8(input_shape=digits.shape).save(tmp_path / "model.keras")
    second, out = accuracy()
    assert second < 0.5 and "replaced: the model changed" in out
    path = tmp_path / "evaluation.json"
    assert accuracy(count=0)[0] == second
    others = dataclasses.replace(digits, test=digits.test.take(slice(40, 80)))
    assert "the test images changed" in accuracy(others)[1]
    # Of an older version, which did not say what it was made from.
    path.write_text(json.dumps({"settings": {}, "clean": {"accuracy": 0.123}}))
    assert accuracy(others)[0] != 0.123
