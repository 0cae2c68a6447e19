import dataclasses
import json

import keras
import numpy as np
import pytest

import zoo
from inres_tf import attacks, corruptions
from inres_tf.attacks import ATTACKS, AttackError, engine, geometry
from inres_tf.corruptions import GROUPS
from inres_tf.data import Images
from inres_tf.distribution.classifier import Classifier
from inres_tf.errors import UserError
from inres_tf.evaluation import evaluator, results
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.evaluation.evaluator import evaluate
from inres_tf.reporting import tables


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(41))


@pytest.fixture(scope="module")
def result(trained, few):
    config = EvaluationConfig(eps=(8.0, 64.0), steps=5, step_size=8.0, batch_size=16)
    return evaluate(trained, few, config, progress=False)


def test_clean_accuracy(trained, few, result):
    right = trained.predict(few.images, verbose=0).argmax(-1) == few.labels
    assert result["clean"]["accuracy"] == right.mean()
    assert result["num_examples"] == 41 and result["protocol"] == "standard"


def test_corruptions_are_those_of_the_module(trained, few, result):
    assert tuple(result["corruptions"]) == GROUPS["noise"]
    for name, by in result["corruptions"].items():
        assert list(by) == ["1", "2", "3", "4", "5", "mean"]
        found = [by[str(s)] for s in range(1, 6)]
        assert by["mean"] == pytest.approx(np.mean(found))
        noisy = corruptions.corrupt(few.images, name, 5, seed=0)
        right = trained.predict(noisy, verbose=0).argmax(-1) == few.labels
        assert by["5"] == right.mean()


def test_attacks_are_those_of_the_module(trained, few, result):
    rows = {(a["name"], a["eps"]): a for a in result["attacks"]}
    assert len(rows) == len(result["attacks"]) == 6
    fgsm = attacks.fgsm(trained, few.images, few.labels, 64)
    right = trained.predict(fgsm, verbose=0).argmax(-1) == few.labels
    assert rows["fgsm", 64.0]["accuracy"] == right.mean()
    assert rows["fgsm", 64.0]["steps"] == 1 and rows["fgsm", 64.0]["step_size"] == 64.0
    assert rows["pgd", 8.0]["steps"] == 5 and rows["pgd", 8.0]["step_size"] == 8.0
    assert rows["pgd", 64.0]["accuracy"] < 0.5 < result["clean"]["accuracy"]


def test_result_is_json_and_a_table(result):
    result = json.loads(json.dumps({"model": "m", "dataset": "digits", **result}))
    text = tables.evaluation(result)
    assert f"clean {100 * result['clean']['accuracy']:.1f}" in text
    assert "| shot_noise " in text and "| ε = 64/255 |" in text
    pgd = result["attacks"][-1]
    assert (pgd["name"], pgd["eps"]) == ("pgd", 64.0)
    line = next(line for line in text.splitlines() if line.startswith("| pgd"))
    assert line.split("|")[-2].strip() == f"{100 * pgd['accuracy']:.1f}"
    # The worst case: images that withstand all three attacks.
    stands = [
        results.unpack(result["correct"][f"{name} linf 64"], 41)
        for name in ("fgsm", "ifgsm", "pgd")
    ]
    line = next(line for line in text.splitlines() if line.startswith("| worst"))
    worst = np.all(stands, axis=0).mean()
    assert line.split("|")[-2].strip() == f"{100 * worst:.1f}"


@pytest.mark.parametrize("batch_size", [1, 7, 41, 100])
def test_each_image_counts_exactly_once(few, batch_size):
    """A model that reads the label off the image, wrong for known ones."""
    inputs = keras.Input((1, 1, 1))
    scores = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, scores)
    slope = np.arange(10.0)
    model.layers[-1].set_weights([slope[None], -(slope**2) / 2])
    labels = few.labels.copy()
    images = labels.astype(np.uint8).reshape(-1, 1, 1, 1)
    labels[[3, 40]] = (labels[[3, 40]] + 1) % 10
    right = Classifier(model, batch_size).correct(images, labels)
    assert list(np.flatnonzero(~right)) == [3, 40]
    config = EvaluationConfig(attacks=(), corruptions=(), batch_size=batch_size)
    found = evaluate(model, Images(images, labels), config, progress=False)
    assert found["clean"]["accuracy"] == pytest.approx(39 / 41)


def test_batch_size_does_not_matter(trained, few):
    def run(size):
        config = EvaluationConfig(
            attacks=("ifgsm", "pgd"), eps=(16.0,), steps=2, step_size=2, batch_size=size
        )
        found = evaluate(trained, few, config, progress=False)
        checks = {check["name"]: check["raised"] for check in found.pop("checks")}
        return found, checks

    assert run(6) == run(41)


def test_paper_protocol_normalises_each_set_with_its_own_statistics(trained, few):
    config = EvaluationConfig(attacks=(), corruptions=("shot_noise",), protocol="paper")
    found = evaluate(trained, few, config, progress=False)
    raw = zoo.InResNet8(input_shape=(8, 8, 1), include_preprocessing=False)
    raw.set_weights(
        [v.numpy() for v in trained.weights if "normalization/" not in v.path]
    )
    noisy = corruptions.corrupt(few.images, "shot_noise", 4) / 255
    normalised = (noisy - noisy.mean((0, 1, 2))) / noisy.std((0, 1, 2))
    pixels = evaluator._normalized_by_own_statistics(
        trained, corruptions.corrupt(few.images, "shot_noise", 4)
    )
    np.testing.assert_allclose(
        trained.predict(pixels, verbose=0),
        raw.predict(normalised, verbose=0),
        rtol=1e-3,
        atol=1e-5,
    )
    right = raw.predict(normalised, verbose=0).argmax(-1) == few.labels
    assert found["corruptions"]["shot_noise"]["4"] == right.mean()


def test_paper_protocol_attacks_around_the_random_start(trained, few, monkeypatch):
    centers = []

    def spy(model, images, labels, eps, *, center="image", early_stop=False, **rest):
        centers.append((center, early_stop))
        return images.astype(np.float32)

    spied = dataclasses.replace(ATTACKS["pgd"], function=spy)
    monkeypatch.setitem(ATTACKS, "pgd", spied)
    for protocol in ("standard", "paper"):
        config = EvaluationConfig(
            attacks=("pgd",), eps=(8.0,), corruptions=(), protocol=protocol
        )
        evaluate(trained, few, config, progress=False)
    assert centers == [("image", True), ("start", False)]


def test_a_breach_of_the_ball_is_an_error(trained, few, monkeypatch):
    honest = geometry.clip_eta
    monkeypatch.setattr(
        geometry, "clip_eta", lambda eta, norm, eps: 2 * honest(eta, norm, eps)
    )
    engine._compile.cache_clear()
    try:
        with pytest.raises(AttackError, match="outside the ball"):
            config = EvaluationConfig(attacks=("fgsm",), eps=(8.0,), corruptions=())
            evaluate(trained, few, config, progress=False)
    finally:
        engine._compile.cache_clear()


def test_seed_decides_the_noise_and_the_start(trained, few):
    def run(seed):
        config = EvaluationConfig(
            attacks=("pgd",),
            eps=(60.0,),
            steps=1,
            corruptions=("gaussian_noise",),
            seed=seed,
        )
        return evaluate(trained, few, config, progress=False)

    assert run(1) == run(1)
    found = [run(seed) for seed in (1, 2, 3)]
    assert len({json.dumps(f["corruptions"]) for f in found}) > 1
    assert len({json.dumps(f["attacks"]) for f in found}) > 1


def test_what_does_not_fit_is_said(trained, few):
    config = EvaluationConfig()
    with pytest.raises(
        UserError, match="takes images of 8x8x1 and the dataset's are 4x4x3"
    ):
        evaluate(
            trained, Images(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, int)), config
        )
    with pytest.raises(
        UserError, match="knows 10 classes and the dataset has at least 12"
    ):
        evaluate(trained, Images(few.images[:2], np.array([1, 11])), config)
    with pytest.raises(UserError, match="--num_examples=50 is more than the 41"):
        evaluate(trained, few, EvaluationConfig(num_examples=50))
    two = keras.Model(inputs := keras.Input((8, 8, 1)), [inputs, inputs])
    with pytest.raises(ValueError, match="has 2 outputs"):
        evaluate(two, few, config)
    raw = zoo.InResNet8(input_shape=(8, 8, 1), include_preprocessing=False)
    with pytest.raises(UserError, match="has 0 Normalization layers"):
        evaluate(raw, few, EvaluationConfig(protocol="paper"), progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": (-1.0,)}, r"--eps must be in \(0, 255\].* got -1"),
        ({"eps": (8.0, 300.0)}, "got 300"),
        ({"eps": ()}, "--eps must name at least one"),
        (
            {"attacks": ("pdg",)},
            "--attacks does not know 'pdg'; known: fgsm, ifgsm, pgd",
        ),
        ({"corruptions": ("fogg",)}, "--corruptions: unknown corruption 'fogg'.*fog"),
        ({"corruptions": ("frost",)}, "frost is not generated.* --corruption_source"),
        ({"norm": "l1"}, "--norm does not know 'l1'; known: linf, l2"),
        ({"autoattack": ("apgd",)}, "--autoattack does not know 'apgd'.*apgd_ce"),
        ({"autoattack": ()}, "--autoattack must name a version"),
        ({"autoattack": ("standard", "fab")}, "does not know 'standard'"),
        ({"queries": 0}, "--queries must be from 1 to 1000000; got 0"),
        ({"norm": "l2", "eps": (float("inf"),)}, r"--eps must be in \(0, 1000000000\]"),
        (
            {"protocol": "mine"},
            "--protocol does not know 'mine'; known: standard, paper",
        ),
        ({"steps": 0}, "--steps must be from 1 to 1000000; got 0"),
        ({"step_size": -1.0}, "--step_size must be from 0 to 1000000000; got -1"),
        ({"num_examples": -1}, "--num_examples must be at least 0"),
    ],
)
def test_wrong_settings(change, message):
    with pytest.raises(UserError, match=message):
        EvaluationConfig(**change)
