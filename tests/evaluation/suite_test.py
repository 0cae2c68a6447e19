"""Whole evaluations: every attack and corruption, interruptions, other sources."""

import dataclasses
import functools
import json

import numpy as np
import pytest

import zoo
from inres_tf import attacks, corruptions
from inres_tf.attacks import ATTACKS
from inres_tf.corruptions import CORRUPTIONS
from inres_tf.data import Dataset
from inres_tf.errors import UserError
from inres_tf.evaluation import results
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.evaluation.evaluator import evaluate
from inres_tf.evaluation.results import PartialResult
from inres_tf.reporting import tables

QUICK = EvaluationConfig(
    attacks=("fgsm", "pgd"), eps=(12.0, 32.0), corruptions=("contrast",), steps=4
)


def run(model, data, config, **rest):
    return evaluate(model, data, config, progress=False, **rest)


def alike(first, second):
    """Whether two results agree but for the figures of the checks."""
    for found in (first, second):
        found["checks"] = [(c["name"], c["raised"]) for c in found["checks"]]
    return json.dumps(first) == json.dumps(second)


def test_everything_on_200_images(trained, digits):
    data = digits.test.take(slice(200))
    config = EvaluationConfig(
        attacks=tuple(ATTACKS),
        eps=(48.0,),
        step_size=6.0,
        corruptions=("all",),
        apgd_steps=20,
        queries=200,
        check_examples=50,
    )
    result = run(trained, data, config)
    assert result["num_examples"] == 200
    assert tuple(result["corruptions"]) == tuple(CORRUPTIONS)
    means = [by["mean"] for by in result["corruptions"].values()]
    assert result["mean_corruption_accuracy"] == pytest.approx(np.mean(means))
    accuracy = {row["name"]: row["accuracy"] for row in result["attacks"]}
    assert list(accuracy) == list(ATTACKS)
    clean = result["clean"]["accuracy"]
    members = ("apgd_ce", "apgd_dlr", "fab", "square")
    assert accuracy["autoattack"] <= min(accuracy[name] for name in members)
    assert accuracy["autoattack"] <= accuracy["pgd"] <= accuracy["fgsm"] < clean
    after = list(result["attacks"][-1]["after"].values())
    assert after == sorted(after, reverse=True)
    assert after[0] == accuracy["apgd_ce"] and after[-1] == accuracy["autoattack"]
    for row in result["attacks"]:
        packed = result["correct"][results.attack_key(row)]
        assert results.unpack(packed, 200).mean() == pytest.approx(row["accuracy"])
    # cw_l2 alone bounds another norm, and that is said.
    raised = {check["name"] for check in result["checks"] if check["raised"]}
    assert "norms" in raised and "black_box" not in raised
    text = tables.evaluation(
        json.loads(json.dumps({"model": "m", "dataset": "digits", **result}))
    )
    for name in (*ATTACKS, *CORRUPTIONS):
        assert f"| {name} " in text
    for sample in result["samples"]:
        assert sample["label"] == data.labels[sample["index"]] != sample["predicted"]


def test_same_seed_same_results(trained, digits):
    data = digits.test.take(slice(60))
    config = EvaluationConfig(
        attacks=("pgd", "square"),
        eps=(24.0,),
        steps=3,
        queries=20,
        corruptions=("fog",),
        check_examples=5,
        seed=3,
    )
    first, again = run(trained, data, config), run(trained, data, config)
    assert json.dumps(first) == json.dumps(again)
    other = run(trained, data, dataclasses.replace(config, seed=4))
    assert other["correct"] != first["correct"]


def test_an_interrupted_evaluation_goes_on(trained, digits, monkeypatch, tmp_path):
    data = digits.test.take(slice(50))
    dataset = Dataset("digits", digits.train, data, digits.class_names)
    partial = PartialResult(tmp_path / "r.json", trained, None, dataset, QUICK)
    assert partial.read() == {}
    undisturbed = run(trained, data, QUICK)
    calls, honest = [], ATTACKS["pgd"]

    @functools.wraps(attacks.pgd)
    def interrupted(model, images, labels, eps, **settings):
        calls.append(eps)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return attacks.pgd(model, images, labels, eps, **settings)

    spied = dataclasses.replace(honest, function=interrupted)
    monkeypatch.setitem(ATTACKS, "pgd", spied)
    with pytest.raises(KeyboardInterrupt):
        run(trained, data, QUICK, save=partial.write)
    assert [row["name"] for row in partial.read()["attacks"]] == ["fgsm", "fgsm", "pgd"]
    whole = run(trained, data, QUICK, done=partial.read(), save=partial.write)
    # The radius that was interrupted; the one before it is not attacked again.
    assert calls == [12.0, 32.0, 32.0]
    assert alike(whole, undisturbed)
    partial.remove()
    assert partial.read() == {}


def test_what_another_evaluation_left_does_not_count(trained, digits, tmp_path):
    def partial(model, config):
        return PartialResult(tmp_path / "r.json", model, None, digits, config)

    partial(trained, QUICK).write({"clean": {}})
    assert partial(trained, QUICK).read() == {"clean": {}}
    other = dataclasses.replace(QUICK, seed=1)
    assert partial(trained, other).read() == {}
    fresh = zoo.InResNet8(input_shape=(8, 8, 1))
    assert partial(fresh, QUICK).read() == {}
    (tmp_path / "r.json.partial").write_text("{")
    assert partial(trained, QUICK).read() == {}


def test_transferred_examples(trained, digits):
    """From the model itself they are PGD's; from another one they are weaker."""
    data = digits.test.take(slice(100))
    config = EvaluationConfig(
        attacks=("pgd",),
        eps=(40.0,),
        step_size=5.0,
        corruptions=(),
        early_stop=False,
        check_examples=10,
    )
    mine = run(trained, data, config, surrogate=trained)["attacks"]
    assert [row["name"] for row in mine] == ["pgd", "transfer"]
    assert mine[0]["accuracy"] == mine[1]["accuracy"]
    fresh = zoo.InResNet8(input_shape=(8, 8, 1))
    theirs = run(trained, data, config, surrogate=fresh)["attacks"]
    assert theirs[1]["accuracy"] > mine[0]["accuracy"] + 0.2


def test_ready_made_sets_and_a_baseline(trained, digits, tmp_path):
    """The folder holds what would be generated, so that results agree."""
    data = digits.test.take(slice(30))
    pixels = [corruptions.corrupt(data.images, "fog", s) for s in range(1, 6)]
    np.save(tmp_path / "fog.npy", np.concatenate(pixels))
    np.save(tmp_path / "labels.npy", np.tile(data.labels, 5))
    config = EvaluationConfig(attacks=(), corruptions=("fog",), check_examples=10)
    generated = run(trained, data, config)
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps({"model": "m", "dataset": "digits", **generated}))
    source = f"folder:{tmp_path}"
    ready = dataclasses.replace(config, corruption_source=source)
    found = run(trained, data, ready)
    assert found["corruptions"] == generated["corruptions"]
    assert found["corruption_source"] == source
    again = dataclasses.replace(config, baseline=str(baseline))
    found = run(trained, data, again)
    assert found["mce"] == 1.0 and found["relative_errors"] == {"fog": 1.0}
    np.save(tmp_path / "labels.npy", np.tile(np.roll(data.labels, 1), 5))
    names = {c["name"] for c in run(trained, data, ready)["checks"] if c["raised"]}
    assert names == {"labels"}
    for change, message in (
        ({"seed": 1}, "was evaluated with another seed: 0 there, 1 here"),
        ({"corruptions": ("fog", "snow")}, "lacks snow"),
        ({"corruptions": ()}, "--baseline needs --corruptions"),
    ):
        changed = dataclasses.replace(config, baseline=str(baseline), **change)
        with pytest.raises(UserError, match=message):
            run(trained, data, changed)
    with pytest.raises(UserError, match="has 30 images of fog and 40 are evaluated"):
        run(trained, digits.test.take(slice(40)), ready)


def test_autoattack_needs_classes(digits):
    model = zoo.InResNet8(input_shape=(8, 8, 1), classes=3)
    few = digits.test.take(np.flatnonzero(digits.test.labels < 3)[:5])
    config = EvaluationConfig(attacks=("autoattack",))
    with pytest.raises(
        UserError, match="autoattack needs 4 classes and model .* has 3"
    ):
        run(model, few, config)
