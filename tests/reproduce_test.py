import json
import re

import numpy as np
import pytest

import zoo
from inres_tf import markdown, reproduce
from inres_tf.data import Images
from inres_tf.errors import Stopped, UserError
from inres_tf.evaluation import evaluator
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.evaluation.validation import check_number
from inres_tf.reproduce import ReproduceConfig
from inres_tf.training import run as training_run
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
    )
    config = ReproduceConfig(MODELS, seeds)
    return reproduce.reproduce(config, settings, evaluating, build, "the command")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce") / "main"
    run(folder)
    return folder


def test_leaves_tables_plots_and_one_report(folder):
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
    found = json.loads((folder / "results.json").read_text())
    assert [(r["model"]) for r in found["results"]] == [
        m for m in MODELS for _ in (0, 1)
    ]
    assert found["facts"]["command"] == "the command"
    rates = found["results"][2]["lambda"].values()
    assert found["facts"]["damped blocks with λ = 0"] == (
        f"in_resnet20 {sum(r == 0 for r in rates)} of 6"
    )


def test_report_needs_no_other_file(folder):
    page = (folder / "report.html").read_text()
    # Two attacks and their worst, two noises, two radii's trade-off, λ, the curves.
    assert page.count("data:image/svg+xml;base64,") == 9
    assert not re.search(r'(src|href)="(?!data:)', page) and "@import" not in page
    assert 'name="viewport"' in page and "the command" in page
    for model in MODELS:
        assert f"<td>{model}</td>" in page


def test_tables_hold_the_evaluations(folder):
    text = (folder / "results.md").read_text()
    results = json.loads((folder / "results.json").read_text())["results"]
    mine = [r for r in results if r["model"] == "in_resnet20"]
    pgd = [
        next(
            a["accuracy"]
            for a in r["attacks"]
            if (a["name"], a["eps"]) == ("pgd", 32.0)
        )
        for r in mine
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


def test_what_is_finished_is_not_done_again(folder, monkeypatch):
    before = (folder / "results.md").read_text()

    def never(*args, **kwargs):
        raise AssertionError("done again")

    monkeypatch.setattr(Loop, "run", never)
    monkeypatch.setattr(evaluator, "evaluate_model", never)
    run(folder, verbose=2)
    assert (folder / "results.md").read_text() == before


def test_damaged_evaluation_is_made_again(folder, monkeypatch):
    path = folder / "resnet8-seed0" / "evaluation.json"
    result = json.loads(path.read_text())
    path.write_text(path.read_text()[:50])
    run(folder)
    again = json.loads(path.read_text())
    assert again["attacks"] == result["attacks"]
    assert again["corruptions"] == result["corruptions"]


def test_mistakes_are_found_before_any_training(tmp_path):
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


def test_model_of_other_classes_is_refused(digits):
    model = zoo.ResNet8(input_shape=digits.shape, classes=100)
    with pytest.raises(UserError, match="knows 100 classes and dataset digits has 10"):
        evaluator.evaluate_model(model, digits, EvaluationConfig())


def test_another_reproduction_does_not_mix_in(folder):
    with pytest.raises(UserError, match=r"run \(--learning_rate=0.1 there, 0.2"):
        run(folder, learning_rate=0.2)
    with pytest.raises(UserError, match="--resume goes on with it"):
        run(folder, resume=False)
    with pytest.raises(UserError, match=r"holds another run \(--seeds=\[0, 1\] there"):
        run(folder, seeds=(0,))


def test_interruption_is_passed_on(tmp_path, monkeypatch):
    cut = TrainResult(None, [], None, None, preempted=True)
    monkeypatch.setattr(training_run, "train", lambda *args: cut)
    with pytest.raises(Stopped, match="preempted: a checkpoint is saved"):
        run(tmp_path / "main")
    assert not (tmp_path / "main" / "report.html").exists()


def test_percent_is_the_mean_and_the_standard_deviation():
    assert markdown.percent([0.8456]) == "84.6"
    assert markdown.percent([0.8, 0.9]) == "85.0 ± 7.1"


def test_markdown_lines_up():
    text = markdown.table(["a", "long"], [["wide cell", "1"]])
    assert text.splitlines() == [
        "| a         | long |",
        "|-----------|------|",
        "| wide cell | 1    |",
    ]
