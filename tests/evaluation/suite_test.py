"""Whole evaluations: all attacks and corruptions, interruptions, ready-made sets."""

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
from inres_tf.evaluation import EvaluationConfig, _parts, evaluate, results
from inres_tf.evaluation.results import PartialResult
from inres_tf.reporting import tables

QUICK = EvaluationConfig(
    attacks=("fgsm", "pgd"), eps=(12.0, 32.0), corruptions=("contrast",), steps=4
)


def run(model, data, config, **rest):
    return evaluate(model, data, config, progress=False, **rest)


def without_values(result):
    """A result as JSON, without the values of the checks."""
    checks = [(check["name"], check["raised"]) for check in result["checks"]]
    return json.dumps(result | {"checks": checks})


@pytest.mark.long
def test_everything_on_100_images(trained, digits):
    data = digits.test.take(slice(100))
    config = EvaluationConfig(
        attacks=tuple(ATTACKS),
        eps=(48.0,),
        step_size=6.0,
        corruptions=("all",),
        apgd_steps=20,
        queries=200,
        check_examples=20,
    )
    result = run(trained, data, config)
    assert result["num_examples"] == 100
    assert tuple(result["corruptions"]) == tuple(CORRUPTIONS)
    # Grey images have no saturation, and zooming 8 pixels by 6% rounds to nothing.
    assert result["unchanged_corruptions"] == {
        "zoom_blur": ["1"],
        "saturate": ["1", "2", "3", "4", "5"],
    }
    means = [
        a["mean"] for name, a in result["corruptions"].items() if name[:3] != "sat"
    ]
    assert len(means) == 17
    assert result["mean_corruption_accuracy"] == pytest.approx(np.mean(means))
    accuracy = {row["name"]: row["accuracy"] for row in result["attacks"]}
    assert list(accuracy) == list(ATTACKS)
    clean = result["clean"]["accuracy"]
    members = ("apgd_ce", "apgd_dlr", "fab", "square")
    assert accuracy["autoattack"] <= min(accuracy[name] for name in members)
    assert accuracy["autoattack"] <= accuracy["pgd"] <= accuracy["fgsm"] < clean
    rows = {row["name"]: row for row in result["attacks"]}
    after = list(rows["autoattack"]["after"].values())
    assert after == sorted(after, reverse=True)
    assert after[0] == accuracy["apgd_ce"] and after[-1] == accuracy["autoattack"]
    for row in result["attacks"]:
        packed = result["correct"][results.attack_key(row)]
        assert results.unpack(packed, 100).mean() == pytest.approx(row["accuracy"])
    # cw_l2 is in another norm.
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


def test_an_interrupted_evaluation_is_resumed(trained, digits, monkeypatch, tmp_path):
    data = digits.test.take(slice(50))
    dataset = Dataset("digits", digits.train, data, digits.class_names)
    partial = PartialResult(tmp_path / "r.json", trained, None, dataset, QUICK)
    assert partial.read() == {}
    uninterrupted = run(trained, data, QUICK)
    calls = []

    @functools.wraps(attacks.pgd)
    def interrupted(model, images, labels, eps, **settings):
        calls.append(eps)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return attacks.pgd(model, images, labels, eps, **settings)

    attack = dataclasses.replace(ATTACKS["pgd"], function=interrupted)
    monkeypatch.setitem(ATTACKS, "pgd", attack)
    with pytest.raises(KeyboardInterrupt):
        run(trained, data, QUICK, save=partial.write)
    assert [row["name"] for row in partial.read()["attacks"]] == ["fgsm", "fgsm", "pgd"]
    resumed = run(trained, data, QUICK, done=partial.read(), save=partial.write)
    # Only the interrupted radius is attacked again.
    assert calls == [12.0, 32.0, 32.0]
    assert without_values(resumed) == without_values(uninterrupted)
    partial.remove()
    assert partial.read() == {}


@pytest.mark.parametrize("stop", [2, 4])
def test_autoattack_resumes_after_its_last_member(
    trained, digits, monkeypatch, tmp_path, stop
):
    """Interrupted in the first or in the second part of the images."""
    data = digits.test.take(slice(40))
    config = EvaluationConfig(
        attacks=("autoattack",),
        autoattack=("apgd_ce", "square", "fab"),
        eps=(24.0,),
        apgd_steps=3,
        queries=10,
        corruptions=(),
        check_examples=5,
        batch_size=20,
        samples=3,
    )
    monkeypatch.setattr(_parts, "_BYTES_PER_CALL", 1)
    uninterrupted = run(trained, data, config)
    calls = []

    def counted(name):
        attack = getattr(attacks, name)

        @functools.wraps(attack)
        def function(*args, **settings):
            calls.append(name)
            if len(calls) == stop + 1:
                raise KeyboardInterrupt
            return attack(*args, **settings)

        return dataclasses.replace(ATTACKS[name], function=function)

    for name in ("apgd_ce", "square", "fab"):
        monkeypatch.setitem(ATTACKS, name, counted(name))
    dataset = Dataset("digits", digits.train, data, digits.class_names)
    partial = PartialResult(tmp_path / "r.json", trained, None, dataset, config)
    with pytest.raises(KeyboardInterrupt):
        run(trained, data, config, save=partial.write)
    assert partial.read()["attacks"] == []
    resumed = run(trained, data, config, done=partial.read(), save=partial.write)
    members = ["apgd_ce", "square", "fab"] * 2
    assert calls[:7] == [*members[: stop + 1], *members[stop:]]
    assert without_values(resumed) == without_values(uninterrupted)
    assert resumed["samples"] and "underway" not in partial.read()


def test_transferred_examples(trained, digits):
    """Those of the model itself are PGD's; those of another model are weaker."""
    data = digits.test.take(slice(100))
    config = EvaluationConfig(
        attacks=("pgd",),
        eps=(40.0,),
        step_size=5.0,
        corruptions=(),
        early_stop=False,
        check_examples=10,
    )
    pgd, transfer = run(trained, data, config, surrogate=trained)["attacks"]
    assert (pgd["name"], transfer["name"]) == ("pgd", "transfer")
    itself = transfer["surrogate"]
    assert itself.startswith("in_resnet8 ") and "surrogate" not in pgd
    assert pgd["accuracy"] == transfer["accuracy"]
    fresh = zoo.InResNet8(input_shape=(8, 8, 1))
    _, transfer = run(trained, data, config, surrogate=fresh)["attacks"]
    assert transfer["accuracy"] > pgd["accuracy"] + 0.2
    # Of the same architecture, but with other weights.
    assert transfer["surrogate"] != itself


def test_ready_made_sets_and_a_baseline(trained, digits, tmp_path):
    """The folder holds what would be generated, so that the results are the same."""
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
    result = run(trained, data, ready)
    assert result["corruptions"] == generated["corruptions"]
    assert result["corruption_source"] == source
    relative = run(trained, data, dataclasses.replace(config, baseline=str(baseline)))
    assert relative["mce"] == 1.0 and relative["relative_errors"] == {"fog": 1.0}
    assert relative["baseline"].startswith("m, mCA 0.")
    np.save(tmp_path / "labels.npy", np.tile(np.roll(data.labels, 1), 5))
    parts = []
    result = run(trained, data, ready, save=lambda part: parts.append(dict(part)))
    done = json.loads(json.dumps(parts[-1]))  # with all corruptions, without checks
    for found in (result, run(trained, data, ready, done=done)):
        assert {c["name"] for c in found["checks"] if c["raised"]} == {"labels"}
    with pytest.raises(UserError, match="has 30 images of fog, but 40 are evaluated"):
        run(trained, digits.test.take(slice(40)), ready)


def test_corruptions_without_effect_do_not_count(trained, digits):
    data = digits.test.take(slice(20))
    config = EvaluationConfig(
        attacks=(),
        corruptions=("saturate", "zoom_blur", "contrast"),
        check_examples=2,
    )
    parts = []
    result = run(trained, data, config, save=lambda part: parts.append(dict(part)))
    of = result["corruptions"]
    assert of["saturate"]["mean"] == result["clean"]["accuracy"]
    expected = (of["zoom_blur"]["mean"] + of["contrast"]["mean"]) / 2
    assert result["mean_corruption_accuracy"] == pytest.approx(expected)
    text = tables.evaluation({"model": "m", "dataset": "digits", **result})
    assert f"mean corruption accuracy {100 * expected:.1f}" in text
    assert "not in the mean: saturate, which leaves these images as they are" in text
    assert "no effect on these images: zoom_blur at severity 1" in text
    # Nor after an interruption.
    resumed = run(trained, data, config, done=json.loads(json.dumps(parts[1])))
    assert without_values(resumed) == without_values(result)

    alone = dataclasses.replace(config, corruptions=("saturate",))
    result = run(trained, data, alone)
    assert "mean_corruption_accuracy" not in result
    text = tables.evaluation({"model": "m", "dataset": "digits", **result})
    assert "not in the mean: saturate" in text
    assert "mean corruption accuracy" not in text


def test_corruptions_without_effect_do_not_count_in_errors(trained, digits, tmp_path):
    data = digits.test.take(slice(20))
    names, path = ("saturate", "contrast"), tmp_path / "baseline.json"
    config = EvaluationConfig(attacks=(), corruptions=names, check_examples=2)
    baseline = run(trained, data, config) | {"model": "m", "dataset": "digits"}
    path.write_text(json.dumps(baseline))
    config = dataclasses.replace(config, baseline=str(path))
    result = run(trained, data, config)
    assert list(result["relative_errors"]) == ["contrast"] and result["mce"] == 1
    mean = baseline["mean_corruption_accuracy"]
    assert result["baseline"] == f"m, mCA {mean:.4f}"
