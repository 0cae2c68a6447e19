import dataclasses
import json

import numpy as np
import pytest

import zoo
from inres_tf import attacks, evaluation
from inres_tf.data import Images
from inres_tf.errors import UserError
from inres_tf.evaluation import EvaluationConfig, checks, results
from inres_tf.evaluation.results import PartialResult
from inres_tf.reporting import measurements, tables


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 1000])
def test_packed_booleans_are_unpacked(rng, number):
    correct = rng.random(number) > 0.5
    np.testing.assert_array_equal(
        results.unpack(results.pack(correct), number), correct
    )


@pytest.mark.parametrize("text", ["", "AAA=", "A", "not base64", "o!A=="])
def test_damaged_booleans_are_refused(text):
    with pytest.raises(ValueError):
        results.unpack(text, 3)


def test_confusion_counts_images_by_true_and_predicted_class(rng):
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    logits[7] = np.nan
    logits[8, 2] = np.inf
    counts = results.confusion(logits, labels)
    expected: dict = {}
    for i, (row, label) in enumerate(zip(logits, labels)):
        predicted = "none" if i in (7, 8) else str(row.argmax())
        of_label = expected.setdefault(str(label), {})
        of_label[predicted] = of_label.get(predicted, 0) + 1
    assert counts == expected == json.loads(json.dumps(counts))
    assert list(counts) == ["0", "1", "2"]


def test_keys_name_the_attack_or_the_corrupted_set():
    row = {"name": "pgd", "norm": "l2", "eps": 127.5}
    assert results.attack_key(row) == "pgd l2 127.5"
    assert results.attack_key({"name": "pgd", "eps": 8.0}) == "pgd linf 8"
    assert results.by_gradients_key(row) == "pgd l2 127.5 by gradients"
    assert results.sample_key({"attack": "pgd", "norm": "l2", "eps": 64.0}) == (
        "pgd l2 64"
    )
    assert results.corruption_key("fog", 3) == "fog 3"


def test_robust_images_are_correct_unattacked_and_under_every_attack():
    """All 8 combinations of the answers: only one of them is robust."""
    clean, fgsm, pgd = np.array(list(np.ndindex(2, 2, 2)), bool).T
    correct = {"clean": clean, "fgsm linf 8": fgsm, "pgd linf 8": pgd}
    rows = [{"name": name, "norm": "linf", "eps": 8.0} for name in ("fgsm", "pgd")]
    assert np.flatnonzero(results.robust(correct, rows)).tolist() == [7]
    assert np.flatnonzero(results.robust(correct, rows[:1])).tolist() == [6, 7]
    np.testing.assert_array_equal(results.robust(correct, []), clean)
    with pytest.raises(KeyError, match="pgd l2 8"):
        results.robust(correct, [rows[1] | {"norm": "l2"}])


def test_robustness_to_gradients_ignores_what_square_achieves():
    after = {
        "apgd_ce": np.array([True, True, True, False]),
        "square": np.array([True, True, False, False]),
        "fab": np.array([True, False, False, False]),
    }
    expected = [True, False, True, False]
    assert results.robust_to_gradients(after).tolist() == expected
    assert results.robust_to_gradients({"square": after["square"]}).all()


@pytest.fixture
def recovering(dense):
    """A model, and an image whose misclassification is undone by a step of fgsm.

    The model classifies values from 120 to 130 as class 1 and all others as class 0.
    With ε = 8, fgsm moves 124 to 132 and 115 to 123; at 50 the gradient is zero.
    """
    slope = 0.3
    edges = ([[-slope, slope]], [120 * slope, -130 * slope])
    model = dense((1, 1, 1), edges, ([[1.0, 0.0], [1.0, 0.0]], [1.0, 0.0]))
    pixels = np.array([124, 115, 50], np.uint8).reshape(-1, 1, 1, 1)
    return model, Images(pixels, np.zeros(3, int))


@pytest.mark.parametrize("settings", [{"early_stop": False}, {"protocol": "paper"}])
def test_the_worst_case_is_the_same_everywhere(
    recovering, settings, tmp_path, monkeypatch
):
    """If attacks take all steps, they may return correctly classified examples.

    The table of an evaluation used to count these, and the comparison did not.
    """
    model, data = recovering
    config = EvaluationConfig(
        attacks=("fgsm", "ifgsm"),
        eps=(8.0,),
        steps=1,
        step_size=8.0,
        corruptions=(),
        **settings,
    )
    result = evaluation.evaluate(model, data, config, progress=False)
    result = {"model": "m", "dataset": "digits", **result}
    correct = {key: results.unpack(v, 3) for key, v in result["correct"].items()}
    assert correct["clean"].tolist() == [False, True, True]
    for name in ("fgsm", "ifgsm"):
        assert correct[f"{name} linf 8"].tolist() == [True, False, True]
    robust = results.robust(correct, result["attacks"])
    assert robust.tolist() == [False, False, True]

    rows = [line.split("|") for line in tables.evaluation(result).splitlines()]
    assert ["worst case", "33.3"] in [[c.strip() for c in row[1:-1]] for row in rows]

    path = tmp_path / "result.json"
    path.write_text(json.dumps(result))
    (run,) = measurements.read_measurements([path])
    worst = {c.heading: a for c, a in run.accuracies.items() if c.group == "worst"}
    assert worst == {"worst 8": pytest.approx(1 / 3)}

    attacked = []

    def pgd(model, images, labels, eps, *, ids, **settings):
        attacked.append(ids.tolist())
        return images.astype(np.float32)

    monkeypatch.setattr(attacks, "pgd", pgd)
    checks.of_attacks(model, data, result["attacks"], correct, config)
    # Two step sizes and restarts, on the robust images; `huge_eps` on the correct ones.
    assert attacked == [[2]] * 3 + [[1, 2]]


def test_result_files_are_read_from_files_and_folders(result_of, tmp_path):
    folder = result_of(tmp_path / "run")
    result = results.read(folder)
    assert result["dataset"] == "digits"
    assert results.read(str(folder / "evaluation.json")) == result
    with pytest.raises(UserError, match="no result file .*train.evaluate --output"):
        results.read(tmp_path / "none.json")
    damaged = tmp_path / "damaged.json"
    for text, message in (
        ("{", "damaged.json is damaged"),
        ("[]", "is not a result of train.evaluate: it lacks model, dataset"),
        (json.dumps({**result, "clean": None} | {"x": 1}), None),
        (json.dumps({"model": "m", "dataset": "d"}), "it lacks num_examples, protocol"),
    ):
        damaged.write_text(text)
        if message is None:
            assert results.read(damaged)["x"] == 1
            continue
        with pytest.raises(UserError, match=message):
            results.read(damaged)


def test_partial_results_are_only_reused_by_the_same_evaluation(
    trained, digits, tmp_path
):
    config = EvaluationConfig()

    def partial(model=trained, surrogate=None, dataset=digits, **changes):
        return PartialResult(
            tmp_path / "r.json",
            model,
            surrogate,
            dataset,
            dataclasses.replace(config, **changes),
        )

    assert partial().read() == {}
    partial().write({"clean": {}})
    assert partial().read() == {"clean": {}}
    fewer = dataclasses.replace(digits, test=digits.test.take(slice(10)))
    fresh = zoo.InResNet8(input_shape=(8, 8, 1))
    folder = f"folder:{tmp_path}"
    assert partial(seed=1).read() == {}
    assert partial(fresh).read() == {}
    assert partial(surrogate=fresh).read() == {}
    assert partial(dataset=fewer).read() == {}
    renamed = dataclasses.replace(digits, class_names=tuple("abcdefghij"))
    assert partial(dataset=renamed).read() == {}
    partial(corruption_source=folder).write({"clean": {}})
    assert partial(corruption_source=folder).read() == {"clean": {}}
    (tmp_path / "fog.npy").write_bytes(b"")
    assert partial(corruption_source=folder).read() == {}
    partial().path.write_text("{")
    assert partial().read() == {}
    partial().remove()
    assert not list(tmp_path.glob("r.json*"))
    partial().remove()


def test_packed_radii_are_never_larger():
    radii = np.array([-1.0, 0.0, 36.1, 1 / 3, 108.00000001, 2e4])
    found = results.unpack_radii(results.pack_radii(radii), 6)
    assert (found <= radii).all()
    np.testing.assert_allclose(found, radii, rtol=2e-7)
    with pytest.raises(ValueError, match="expected 7 radii"):
        results.unpack_radii(results.pack_radii(radii), 7)


def test_the_files_of_an_evaluation_belong_to_its_origin(
    trained, digits, tmp_path, monkeypatch
):
    (tmp_path / "mine.py").write_text("def attack(model, images, labels, eps): 1")
    (tmp_path / "base.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    config = EvaluationConfig(
        attacks=("mine:attack",), baseline=str(tmp_path / "base.json")
    )

    def origin():
        return results.origin(trained, None, digits, config)

    before = origin()
    assert results.changed(json.loads(json.dumps(before)), origin()) == []
    for name in ("mine.py", "base.json"):
        (tmp_path / name).write_text("{ }")
        words = ["the files that its settings name"]
        assert results.changed(before, origin()) == words
        before = origin()
    assert results.changed({}, before)[:2] == ["its settings", "the model"]
