import json

import pytest

from inres_tf.errors import UserError
from inres_tf.reporting import measurements


def test_runs_are_named_after_their_model_or_argument(make_result, write_run, tmp_path):
    one = write_run(tmp_path / "deep" / "one", make_result("a"))
    two = write_run(tmp_path / "deep" / "two", make_result("b"))
    (tmp_path / "c=d.json").write_text(json.dumps(make_result("c")))

    def names(*arguments):
        return [run.name for run in measurements.read_measurements(arguments)]

    assert names(one, f"new={two / 'evaluation.json'}") == ["a", "new"]
    assert names(f"my={tmp_path}") == ["my a", "my b"]
    assert names(tmp_path / "c=d.json") == ["c"]
    assert names(one, one / "evaluation.json", tmp_path) == ["a", "b"]


def test_seed_and_flags_come_from_the_training(make_result, write_run, tmp_path):
    trained = write_run(tmp_path / "trained", make_result(), seed=3, epochs=5)
    unknown = write_run(tmp_path / "unknown", make_result())
    runs = measurements.read_measurements([trained, unknown])
    assert [run.seed for run in runs] == [3, None]
    assert runs[0].flags["epochs"] == 5 and runs[1].flags is None


def test_the_worst_case_needs_images_that_are_correct_unattacked(
    make_result, answers, write_run, tmp_path
):
    attacks = {("pgd", "linf", 8): answers([3, 19])}  # 19 is misclassified unattacked
    run = write_run(tmp_path / "run", make_result(attacks=attacks))
    (run,) = measurements.read_measurements([run])
    accuracies = {column.heading: a for column, a in run.accuracies.items()}
    assert accuracies["pgd 8"] == 2 / 20 and accuracies["worst 8"] == 1 / 20


def test_accuracies_may_be_0_and_1(make_result, answers, write_run, tmp_path):
    attacks = {("pgd", "linf", 8): answers([])}
    result = make_result(clean=answers(range(20)), attacks=attacks)
    (run,) = measurements.read_measurements([write_run(tmp_path / "run", result)])
    accuracies = {column.heading: a for column, a in run.accuracies.items()}
    assert accuracies["clean"] == 1 and accuracies["pgd 8"] == 0


DAMAGED = {
    "not a number": ({"clean": {"accuracy": "high"}}, "not supported"),
    "too large": ({"clean": {"accuracy": 1.5}}, "accuracy 1.5 of clean"),
    "nan": ({"clean": {"accuracy": float("nan")}}, "accuracy nan of clean"),
    "no eps": ({"attacks": [{"name": "pgd"}]}, "'eps' is missing"),
    "no mean": ({"corruptions": {"fog": {"1": 0.5}}}, "'mean' is missing"),
    "another mean": (
        {"corruptions": {"fog": {"1": 0.5, "mean": 0.6}}},
        "the mean of fog is not the mean of its severities",
    ),
    "short": ({"correct": {"clean": "AAA="}}, "20 images"),
    "other answers": (
        {"clean": {"accuracy": 0.5}},
        "accuracy 0.5 of clean does not match its answers, whose accuracy is 0.9",
    ),
    "list": ({"corruptions": [1]}, "no attribute"),
    "sample": ({"samples": [{"clean": "<script>"}]}, "base64"),
    "no images": ({"num_examples": 0}, "num_examples must be a positive integer"),
    "λ": ({"lambda": {"one": "high"}}, "str"),
    "class": ({"confusion": {"cat": {"0": 1}}}, "'cat'"),
    "confusion": ({"confusion": {"0": {"0": "many"}}}, "str"),
    "parameters": ({"model_facts": {"parameters": "many"}}, "str"),
    "dampings": ({"model_facts": {"dampings": [1]}}, "expected str"),
    "seconds": ({"seconds": "long"}, "str"),
    "fingerprint": ({"fingerprint": ["0" * 16]}, "list"),
    "revision": ({"git_revision": {"main": "abc"}}, "dict"),
    "processor": ({"processor": 2}, "int"),
    "command": ({"command": ["python"]}, "list"),
    "severities": ({"corruptions": {"fog": [1]}}, "index"),
    "huge": ({"seconds": 10**400}, "too large"),
    "unchanged": ({"unchanged_corruptions": {"fog": 1}}, "iterable"),
}


@pytest.mark.parametrize(("changes", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_reported_in_one_line(
    changes, message, make_result, write_run, tmp_path
):
    run = write_run(tmp_path / "run", make_result() | changes)
    with pytest.raises(UserError) as error:
        measurements.read_measurements([run])
    text = str(error.value)
    assert text.startswith(f"{run / 'evaluation.json'} is damaged: "), text
    assert message in text
    assert "\n" not in text


def test_missing_and_foreign_files_are_reported(tmp_path):
    with pytest.raises(UserError, match="no result file .*none"):
        measurements.read_measurements([tmp_path / "none"])
    with pytest.raises(UserError, match="holds no evaluation.json"):
        measurements.read_measurements([tmp_path])
    with pytest.raises(UserError, match="must be RUN or NAME=RUN; got 'name='"):
        measurements.read_measurements(["name="])
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="x.json is no.* result of train.evaluate"):
        measurements.read_measurements([tmp_path / "x.json"])


def test_damaged_certificates_are_refused(write_run, certified_result, tmp_path):
    result = certified_result()
    result["certificates"]["radii"]["36"] = 0.9
    write_run(tmp_path, result)
    with pytest.raises(UserError, match="certified 36 does not match its answers"):
        measurements.read_measurements([tmp_path])
    result = certified_result()
    result["certificates"]["attacks"][0]["name"] = None
    write_run(tmp_path, result)
    with pytest.raises(UserError, match="is damaged: .*NoneType"):
        measurements.read_measurements([tmp_path])
    del result["certificates"]["curve"]
    write_run(tmp_path, result)
    with pytest.raises(UserError, match="is damaged"):
        measurements.read_measurements([tmp_path])
