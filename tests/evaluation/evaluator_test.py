import dataclasses
import json

import keras
import numpy as np
import pytest

import zoo
from inres_tf import attacks, corruptions, models
from inres_tf.attacks import ATTACKS, AttackError, engine, geometry
from inres_tf.corruptions import GROUPS
from inres_tf.data import Images
from inres_tf.errors import UserError
from inres_tf.evaluation import EvaluationConfig, evaluate, evaluate_model, results
from inres_tf.reporting import tables


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(41))


@pytest.fixture(scope="module")
def result(trained, few):
    config = EvaluationConfig(eps=(8.0, 64.0), steps=5, step_size=8.0, batch_size=16)
    return evaluate(trained, few, config, progress=False)


def test_clean_accuracy(trained, few, result):
    correct = trained.predict(few.images, verbose=0).argmax(-1) == few.labels
    assert result["clean"]["accuracy"] == correct.mean()
    assert result["num_examples"] == 41 and result["protocol"] == "standard"


def test_confusions_agree_with_the_clean_accuracy(few, result):
    confusion = result["confusion"]
    assert sum(sum(row.values()) for row in confusion.values()) == len(few)
    right = sum(row.get(label, 0) for label, row in confusion.items())
    assert right == round(result["clean"]["accuracy"] * len(few))


def test_corruptions_are_generated_from_the_images(trained, few, result):
    assert tuple(result["corruptions"]) == GROUPS["noise"]
    for name, by_severity in result["corruptions"].items():
        *severities, mean = by_severity
        assert severities == ["1", "2", "3", "4", "5"] and mean == "mean"
        accuracies = [by_severity[s] for s in severities]
        assert by_severity["mean"] == pytest.approx(np.mean(accuracies))
        noisy = corruptions.corrupt(few.images, name, 5, seed=0)
        correct = trained.predict(noisy, verbose=0).argmax(-1) == few.labels
        assert by_severity["5"] == correct.mean()


def test_attacks_are_run_with_the_settings(trained, few, result):
    rows = {(a["name"], a["eps"]): a for a in result["attacks"]}
    assert len(rows) == len(result["attacks"]) == 6
    fgsm = attacks.fgsm(trained, few.images, few.labels, 64)
    correct = trained.predict(fgsm, verbose=0).argmax(-1) == few.labels
    assert rows["fgsm", 64.0]["accuracy"] == correct.mean()
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
    # The worst case: images that are robust to all three attacks.
    correct = [
        results.unpack(result["correct"][f"{name} linf 64"], 41)
        for name in ("fgsm", "ifgsm", "pgd")
    ]
    line = next(line for line in text.splitlines() if line.startswith("| worst"))
    worst = np.all(correct, axis=0).mean()
    assert line.split("|")[-2].strip() == f"{100 * worst:.1f}"


@pytest.mark.parametrize("batch_size", [1, 7, 41, 100])
def test_each_image_counts_exactly_once(few, batch_size, dense):
    """The only pixel is the label, except for two images."""
    slope = np.arange(10.0)
    model = dense((1, 1, 1), (slope[None], -(slope**2) / 2))
    labels = few.labels.copy()
    images = labels.astype(np.uint8).reshape(-1, 1, 1, 1)
    labels[[3, 40]] = (labels[[3, 40]] + 1) % 10
    config = EvaluationConfig(attacks=(), corruptions=(), batch_size=batch_size)
    result = evaluate(model, Images(images, labels), config, progress=False)
    assert result["clean"]["accuracy"] == pytest.approx(39 / 41)
    correct = results.unpack(result["correct"]["clean"], 41)
    assert np.flatnonzero(~correct).tolist() == [3, 40]


def test_batch_size_does_not_matter(trained, few):
    def run(size):
        config = EvaluationConfig(
            attacks=("ifgsm", "pgd"), eps=(16.0,), steps=2, step_size=2, batch_size=size
        )
        result = evaluate(trained, few, config, progress=False)
        checks = {check["name"]: check["raised"] for check in result.pop("checks")}
        return result, checks

    assert run(6) == run(41)


@pytest.fixture
def official_accuracies(trained, few):
    """Function of five sets that normalises them as the official script does."""
    raw = zoo.InResNet8(input_shape=(8, 8, 1), include_preprocessing=False)
    raw.set_weights(
        [v.numpy() for v in trained.weights if "normalization/" not in v.path]
    )

    def accuracies(sets):
        values = np.stack(sets) / 255  # (5, number, height, width, channels)
        values = (values - values.mean((0, 1, 2, 3))) / values.std((0, 1, 2, 3))
        count = len(few)
        return [
            (raw.predict(x[:count], verbose=0).argmax(-1) == few.labels).mean()
            for x in values
        ]

    return accuracies


def test_paper_protocol_normalises_all_severities_together(
    trained, few, official_accuracies
):
    config = EvaluationConfig(attacks=(), corruptions=("noise",), protocol="paper")
    result = evaluate(trained, few, config, progress=False)
    for name in GROUPS["noise"]:
        sets = [corruptions.corrupt(few.images, name, s) for s in range(1, 6)]
        found = [result["corruptions"][name][str(s)] for s in range(1, 6)]
        assert found == official_accuracies(sets), name


def test_paper_protocol_normalises_by_a_whole_file(
    trained, digits, few, official_accuracies, tmp_path
):
    """Even if only the first of its images are evaluated."""
    images = digits.test.images[:100]
    sets = [corruptions.corrupt(images, "shot_noise", s) for s in range(1, 6)]
    # The images that are not evaluated are so bright that they matter.
    sets = [np.concatenate([x[:41], np.full_like(x[41:], 255)]) for x in sets]
    np.save(tmp_path / "shot_noise.npy", np.concatenate(sets))
    np.save(tmp_path / "labels.npy", digits.test.labels[:100])
    config = EvaluationConfig(
        attacks=(),
        corruptions=("shot_noise",),
        protocol="paper",
        corruption_source=f"folder:{tmp_path}",
    )
    result = evaluate(trained, few, config, progress=False)
    found = [result["corruptions"]["shot_noise"][str(s)] for s in range(1, 6)]
    assert found == official_accuracies(sets)
    assert found != official_accuracies([x[:41] for x in sets])


@pytest.mark.parametrize("nested", [False, True])
def test_paper_protocol_refuses_scaled_pixels(nested, few):
    """With pixels in [0, 1] before it, the layer would get nearly black images."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 16)(inputs)
    network = keras.layers.Normalization(mean=[0.3], variance=[0.1], name="norm")
    if nested:
        image = keras.Input((8, 8, 1))
        network = keras.Model(image, network(image))
    x = keras.layers.Flatten()(network(x))
    model = keras.Model(inputs, keras.layers.Dense(10)(x), name="scaled")
    config = EvaluationConfig(attacks=(), corruptions=("noise",), protocol="paper")
    with pytest.raises(UserError, match="model scaled change them before 'norm'"):
        evaluate(model, few, config, progress=False)


def test_paper_protocol_refuses_layers_without_statistics(few):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10)(x), name="raw")
    model = models.with_preprocessing(model, "unit")
    config = EvaluationConfig(attacks=(), corruptions=("noise",), protocol="paper")
    with pytest.raises(UserError, match="scales pixels like --preprocessing=unit"):
        evaluate(model, few, config, progress=False)


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


def test_examples_outside_the_ball_are_an_error(trained, few, monkeypatch):
    clip_eta = geometry.clip_eta
    monkeypatch.setattr(
        geometry, "clip_eta", lambda eta, norm, eps: 2 * clip_eta(eta, norm, eps)
    )
    engine._compile.cache_clear()
    try:
        with pytest.raises(AttackError, match="outside the ball"):
            config = EvaluationConfig(attacks=("fgsm",), eps=(8.0,), corruptions=())
            evaluate(trained, few, config, progress=False)
    finally:
        engine._compile.cache_clear()


def test_noise_and_random_starts_depend_on_the_seed(trained, few):
    def run(seed):
        config = EvaluationConfig(
            attacks=("pgd",),
            eps=(60.0,),
            steps=1,
            corruptions=("gaussian_noise",),
            check_examples=5,
            seed=seed,
        )
        return evaluate(trained, few, config, progress=False)

    assert run(1) == run(1)
    for key in ("corruptions", "attacks"):
        assert len({json.dumps(run(seed)[key]) for seed in (1, 2, 3)}) > 1


def test_a_model_that_does_not_fit_is_refused(trained, few, dense):
    config = EvaluationConfig()
    colour = Images(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, int))
    others = Images(few.images[:2], np.array([1, 10]))
    twice = keras.Model(inputs := keras.Input((8, 8, 1)), [inputs, inputs])
    small = dense((8, 8, 1), (np.zeros((64, 3)), np.zeros(3)))
    three = few.take(few.labels < 3)
    for arguments, error, message in (
        ((trained, colour, config), UserError, "takes images of 8x8x1"),
        ((trained, others, config), UserError, "dataset has at least 11"),
        ((twice, few, config), ValueError, "has 2 outputs"),
        (
            (trained, few, EvaluationConfig(num_examples=50)),
            UserError,
            "--num_examples=50 is more than the 41",
        ),
        (
            (small, three, EvaluationConfig(attacks=("autoattack",))),
            UserError,
            "autoattack needs at least 4 classes",
        ),
    ):
        with pytest.raises(error, match=message):
            evaluate(*arguments, progress=False)
    with pytest.raises(UserError, match="takes images of 4x4x3"):
        other = zoo.InResNet8(input_shape=(4, 4, 3))
        evaluate(trained, few, config, progress=False, surrogate=other)


def test_a_model_of_other_classes_than_the_dataset_is_refused(digits):
    model = zoo.ResNet8(input_shape=digits.shape, classes=100)
    with pytest.raises(UserError, match="has 100 classes, but dataset digits has 10"):
        evaluate_model(model, digits, EvaluationConfig(), progress=False)


def test_numbers_that_are_not_finite_are_wrong_null_and_reported(digits):
    """Also where only images beyond those of the checks have such outputs."""
    few = digits.test.take(slice(40))
    totals = few.images.reshape(40, -1).sum(1, dtype=np.float32)
    few, limit = few.take(np.argsort(totals)), np.sort(totals)[-4]
    inputs = keras.Input(digits.shape)
    x = keras.layers.Flatten()(inputs)
    total = keras.ops.sum(x, axis=1, keepdims=True)
    x = keras.ops.where(total > limit, float("nan"), x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    config = EvaluationConfig(
        attacks=(), corruptions=("contrast",), check_examples=5, batch_size=16
    )
    result = evaluate(model, few, config, progress=False)
    right = results.unpack(result["correct"]["clean"], 40)
    assert not right[-3:].any()
    found = {check["name"]: check for check in result["checks"]}
    assert found["outputs"]["raised"] and found["outputs"]["value"] == 3
    assert "3 (clean)" in found["outputs"]["message"]
    assert not found["weights_changed"]["raised"] and "randomness" in found


def answers_by_hand(model, data, name, eps, **settings):
    """Which images an attack that is called by hand leaves correct."""
    attacked = getattr(attacks, name)(model, data.images, data.labels, eps, **settings)
    return model.predict(attacked, verbose=0).argmax(-1) == data.labels


def answers(result, key):
    return results.unpack(result["correct"][key], result["num_examples"])


def test_attacks_in_the_l2_norm_equal_those_called_by_hand(trained, few):
    eps, steps = 127.5, 4
    config = EvaluationConfig(
        attacks=("pgd", "square"),
        eps=(eps,),
        norm="l2",
        steps=steps,
        queries=60,
        restarts=2,
        corruptions=(),
        seed=3,
    )
    result = evaluate(trained, few, config, progress=False)
    shared = {"norm": "l2", "restarts": 2, "seed": 3}
    by_pgd = answers_by_hand(
        trained, few, "pgd", eps, steps=steps, step_size=2.5 * eps / steps, **shared
    )
    np.testing.assert_array_equal(answers(result, "pgd l2 127.5"), by_pgd)
    by_square = answers_by_hand(trained, few, "square", eps, queries=60, **shared)
    np.testing.assert_array_equal(answers(result, "square l2 127.5"), by_square)
    assert 0 < by_pgd.sum() < len(few)


def test_restarts_reach_pgd(trained, few):
    """The best of several random starts is at least as strong as each of them."""
    settings = {"attacks": ("pgd",), "eps": (24.0,), "steps": 1, "step_size": 1.0}

    def survivors(restarts):
        config = EvaluationConfig(corruptions=(), restarts=restarts, **settings)
        result = evaluate(trained, few, config, progress=False)
        return answers(result, "pgd linf 24")

    one, many = survivors(1), survivors(20)
    by_hand = answers_by_hand(
        trained, few, "pgd", 24.0, steps=1, step_size=1.0, restarts=20
    )
    np.testing.assert_array_equal(many, by_hand)
    assert many.sum() < one.sum()


def test_examples_are_transferred_from_the_surrogate(trained, few, dense, rng):
    surrogate = dense((8, 8, 1), (rng.normal(size=(64, 10)) / 99, np.zeros(10)))
    config = EvaluationConfig(
        attacks=("pgd",), eps=(48.0,), steps=3, step_size=16.0, corruptions=()
    )
    result = evaluate(trained, few, config, progress=False, surrogate=surrogate)
    examples = attacks.pgd(
        surrogate,
        few.images,
        few.labels,
        48.0,
        steps=3,
        step_size=16.0,
        early_stop=False,
    )
    expected = trained.predict(examples, verbose=0).argmax(-1) == few.labels
    transferred = answers(result, "transfer linf 48")
    np.testing.assert_array_equal(transferred, expected)
    assert (transferred != answers(result, "pgd linf 48")).any()


def test_random_starts_of_a_large_set_do_not_repeat(trained, few, monkeypatch):
    """Sets that do not fit into memory are attacked in parts, each by its own ids."""
    parts = []

    def spy(model, images, labels, eps, *, ids, **rest):
        parts.append(ids.tolist())
        return images.astype(np.float32)

    spied = dataclasses.replace(ATTACKS["pgd"], function=spy)
    monkeypatch.setitem(ATTACKS, "pgd", spied)
    monkeypatch.setattr(
        "inres_tf.evaluation.evaluator.checks.of_attacks", lambda *_: []
    )
    monkeypatch.setattr("inres_tf.evaluation._parts._BYTES_PER_CALL", 1)
    config = EvaluationConfig(
        attacks=("pgd",), eps=(8.0,), corruptions=(), batch_size=8, check_examples=1
    )
    evaluate(trained, few, config, progress=False)
    assert parts == [[*range(i, min(i + 8, 41))] for i in range(0, 41, 8)]


def test_samples_were_correct_before_the_attack(trained, few):
    config = EvaluationConfig(
        attacks=("fgsm",), eps=(64.0,), corruptions=(), samples=len(few)
    )
    result = evaluate(trained, few, config, progress=False)
    clean, attacked = answers(result, "clean"), answers(result, "fgsm linf 64")
    indices = [sample["index"] for sample in result["samples"]]
    assert indices == np.flatnonzero(clean & ~attacked).tolist()
    assert not clean.all()
