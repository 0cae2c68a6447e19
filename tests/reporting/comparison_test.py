import json

import numpy as np
import pytest
from scipy import stats

from inres_tf.errors import UserError
from inres_tf.reporting import comparison, measurements
from inres_tf.reporting.measurements import CLEAN
from inres_tf.reporting.statistics import holm, wilson


def cells(compared, model):
    """Cells of a model by heading of the column."""
    by_column = {
        column.heading: compared.cell(model, column) for column in compared.columns
    }
    return {heading: cell for heading, cell in by_column.items() if cell}


def differences(compared):
    return {d.column.heading: d for d in compared.differences}


def test_single_networks_have_wilsons_interval_and_the_worst_case(
    compare_results, make_result, answers
):
    attacks = {
        ("fgsm", "linf", 8): answers([0, 1, 2, 3, 4, 19]),
        ("pgd", "linf", 8): answers([1, 2, 3, 4, 5]),
        ("pgd", "l2", 64): answers(range(7)),
    }
    (compared,) = compare_results(make_result(attacks=attacks))
    for heading, correct in (
        ("clean", 18),
        ("fgsm 8", 6),
        ("pgd 8", 5),
        ("worst 8", 4),  # images 1 to 4 are robust to both
        ("worst L2 64", 7),
        ("shot", 13),
        ("mCA", 13),
        ("shot 2", 10),
    ):
        cell = cells(compared, "a")[heading]
        assert cell.accuracies == (correct / 20,), heading
        assert (cell.low, cell.high) == pytest.approx(wilson(correct, 20)), heading


def test_seeds_have_their_mean_and_standard_deviation(
    make_result, answers, write_run, tmp_path
):
    for seed, correct in ((3, 16), (1, 18)):
        result = make_result(clean=answers(range(correct)))
        write_run(tmp_path / f"a-seed{seed}", result, seed)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert [run.seed for run in compared.models["a"]] == [1, 3]
    cell = compared.cell("a", CLEAN)
    assert cell.accuracies == (0.9, 0.8)
    deviation = np.std([0.9, 0.8], ddof=1)
    expected = (0.85 - deviation, 0.85 + deviation)
    assert (cell.low, cell.high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({}, "the config.json of their training is not next to all of them"),
        ({"seed": 0}, "their seeds are 0, 0"),
        ({"seed": 1, "epochs": 9}, "they were trained with different --epochs"),
        ({"seed": 1, "nesterov": True}, "they were trained with different --nesterov"),
    ],
)
def test_other_runs_with_the_same_name_are_separate_models(
    second, reason, make_result, write_run, tmp_path
):
    write_run(tmp_path / "one", make_result(), 0)
    write_run(tmp_path / "two", make_result(), **second)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert list(compared.models) == ["a (one)", "a (two)"]
    assert compared.notes[0] == (
        f"The results of a are not treated as seeds of one model: {reason}."
    )


def test_seeds_may_have_different_output_folders(make_result, write_run, tmp_path):
    write_run(tmp_path / "one", make_result(), 0)
    write_run(tmp_path / "two", make_result(), 1, output_dir="elsewhere")
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert list(compared.models) == ["a"]


def test_flags_that_an_older_version_lacked_count_as_their_defaults(
    make_result, write_run, tmp_path
):
    write_run(tmp_path / "older", make_result(), 0)
    write_run(tmp_path / "newer", make_result(), 1, margin_offset=1.0, momentum=0.9)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert [run.seed for run in compared.models["a"]] == [0, 1]


@pytest.mark.parametrize("second", ["1" * 16, None])
def test_seeds_with_other_training_images_are_noted(
    second, make_result, write_run, tmp_path
):
    for seed, images in enumerate(("0" * 16, second)):
        folder = write_run(tmp_path / f"s{seed}", make_result(), seed, dataset="x")
        config = json.loads((folder / "config.json").read_text())
        if images:
            config["images"] = {"training": {"fingerprint": images}}
        (folder / "config.json").write_text(json.dumps(config))
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert list(compared.models) == ["a"]
    assert compared.notes == [
        "The seeds of a were not all trained on the same images, as far as is "
        f"recorded: their fingerprints are {'0' * 16}, {second or 'unknown'}."
    ]


def test_differences_are_tested_image_by_image(compare_results, make_result, answers):
    base = make_result("base", clean=answers(range(12)))
    other = make_result("other", clean=answers([*range(3), *range(5, 20)]))
    (compared,) = compare_results(base, other)
    clean = differences(compared)["clean"]
    assert (clean.model, clean.better, clean.worse) == ("other", 8, 2)
    assert clean.points == pytest.approx(6 / 20)
    # 2 (C(10, 0) + C(10, 1) + C(10, 2)) / 2^10
    assert clean.p == pytest.approx(112 / 1024)
    adjusted = [d.adjusted for d in compared.differences]
    assert adjusted == pytest.approx(holm([d.p for d in compared.differences]))
    expected = {"clean", "mCA", "worst 8", "shot", "fgsm 8", "pgd 8"}
    assert differences(compared).keys() == expected


def test_a_mean_over_corrupted_sets_counts_each_image_once(
    compare_results, make_result, answers
):
    base = make_result("a", noise={"1": answers(range(10)), "2": answers(range(10))})
    other = make_result("b", noise={"1": answers(range(4)), "2": answers(range(12))})
    (compared,) = compare_results(base, other)
    shot = differences(compared)["shot"]
    # Worse on images 4 to 9, better on 10 and 11.
    assert (shot.better, shot.worse, shot.points) == (2, 6, pytest.approx(-0.1))
    assert shot.test == "McNemar"


def test_a_mean_over_corrupted_sets_is_tested_as_a_mean(
    compare_results, make_result, answers
):
    """Better on more images, but by less: on average the networks are equal."""
    base = make_result("a", noise={"1": answers(range(2)), "2": answers(range(2))})
    other = make_result("b", noise={"1": answers(range(2, 6)), "2": answers([])})
    (compared,) = compare_results(base, other)
    for heading in ("shot", "mCA"):
        row = differences(compared)[heading]
        assert (row.better, row.worse, row.points) == (4, 2, 0)
        assert row.test == "t over images" and row.over_images
        assert row.p == pytest.approx(1) and not row.significant
    # All tests over images are adjusted for each other.
    adjusted = [d.adjusted for d in compared.differences]
    assert adjusted == pytest.approx(holm([d.p for d in compared.differences]))


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"queries": 10}, ["100 steps, queries 5000", "100 steps, queries 10"]),
        ({"surrogate": "b 0123"}, ["100 steps, queries 5000"] * 2),
    ],
)
def test_settings_that_no_other_attack_has_separate_columns_too(
    changes, labels, compare_results, make_result, answers
):
    attacks = {("autoattack", "linf", 8): answers(range(10))}
    results = [make_result(name, attacks=attacks) for name in "ab"]
    for result in results:
        result["attacks"][0] |= {"steps": 100, "step_size": None, "queries": 5000}
    results[1]["attacks"][0] |= changes
    (compared,) = compare_results(*results)
    found = [column.settings for column in compared.columns if column.group == "attack"]
    assert len(found) == 2 and [s[: len(e)] for s, e in zip(found, labels)] == labels
    assert not {"autoattack 8", "worst 8"} & differences(compared).keys()


def test_the_order_of_attacks_and_corruptions_does_not_matter(
    compare_results, make_result, answers
):
    fgsm, pgd = ("fgsm", "linf", 8), ("pgd", "linf", 8)
    answered = {fgsm: answers(range(12)), pgd: answers(range(10))}
    results = [
        make_result(name, attacks={key: answered[key] for key in order})
        for name, order in (("a", (fgsm, pgd)), ("b", (pgd, fgsm)))
    ]
    for result, order in zip(results, (("fog", "snow"), ("snow", "fog"))):
        result["corruptions"] = {
            name: result["corruptions"]["shot_noise"] for name in order
        }
        shot = {s: result["correct"][f"shot_noise {s}"] for s in "12"}
        result["correct"] |= {f"{n} {s}": shot[s] for n in order for s in "12"}
    (compared,) = compare_results(*results)
    assert {"worst 8", "mCA"} <= differences(compared).keys()
    assert not any("different settings" in note for note in compared.notes)


def test_the_baseline_can_be_chosen(compare_results, make_result):
    results = make_result("a"), make_result("b")
    (compared,) = compare_results(*results, baseline="b")
    assert compared.baseline == "b" and {d.model for d in compared.differences} == {"a"}
    with pytest.raises(UserError, match="--baseline must be one of a, b; got c"):
        compare_results(*results, baseline="c")


def test_a_single_seed_is_not_compared_with_several(
    make_result, answers, write_run, tmp_path
):
    write_run(tmp_path / "a-seed0", make_result("a"), 0)
    write_run(tmp_path / "b-seed0", make_result("b", clean=answers(range(10))), 0)
    write_run(tmp_path / "b-seed1", make_result("b", clean=answers(range(14))), 1)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    clean = compared.differences[0]
    assert clean.points == pytest.approx(0.6 - 0.9)
    assert clean.p is clean.adjusted is None
    assert "b has 2 seeds and a 1: their differences are not tested." in compared.notes
    write_run(tmp_path / "a-seed1", make_result("a"), 1)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    # Of b, images 0 to 9 are correct for both seeds, 10 to 13 for one, 14 to 17 for
    # none.
    clean = compared.differences[0]
    assert (clean.better, clean.worse) == (0, 8)


@pytest.fixture
def compare_seeds(make_result, answers, write_run, tmp_path):
    """Function that compares two models by numbers of correct answers of each seed."""

    def compare(**correct):
        for model, by_seed in correct.items():
            for seed, number in by_seed.items():
                result = make_result(model, clean=answers(range(number)))
                write_run(tmp_path / f"{model}-seed{seed}", result, seed)
        runs = measurements.read_measurements([tmp_path])
        return comparison.compare(runs, baseline="a")[0]

    return compare


def test_models_with_the_same_seeds_are_compared_by_paired_differences(compare_seeds):
    compared = compare_seeds(a={0: 10, 1: 12, 2: 17}, b={0: 12, 1: 15, 2: 18})
    clean = differences(compared)["clean"]
    # Differences of 2, 3 and 1 of 20 images: t = 2 √3 / 1, two degrees of freedom.
    expected = stats.ttest_1samp([0.1, 0.15, 0.05], 0)
    interval = expected.confidence_interval(0.95)
    assert clean.test == "paired t" and clean.p == pytest.approx(expected.pvalue)
    assert (clean.low, clean.high) == pytest.approx(tuple(interval))
    assert clean.points == pytest.approx(0.1)
    assert clean.by_seed == pytest.approx((0.1, 0.15, 0.05))
    assert json.loads(json.dumps(compared.as_json()))["differences"][0]["low"] < 0


def test_models_with_other_seeds_are_compared_by_welchs_test(compare_seeds):
    compared = compare_seeds(a={0: 10, 1: 12}, b={0: 12, 1: 15, 2: 19})
    clean = differences(compared)["clean"]
    expected = stats.ttest_ind([0.6, 0.75, 0.95], [0.5, 0.6], equal_var=False)
    assert clean.test == "Welch t" and clean.p == pytest.approx(expected.pvalue)
    assert (clean.better, clean.worse, clean.by_seed) == (None, None, ())
    assert not any("not tested" in note for note in compared.notes)


def test_the_main_table_is_adjusted_apart_from_the_details(compare_seeds):
    compared = compare_seeds(a={0: 10, 1: 12, 2: 17}, b={0: 12, 1: 15, 2: 18})
    for main in (True, False):
        rows = [
            d
            for d in compared.differences
            if (d.column.group in comparison.HEADLINE) == main
        ]
        assert len(rows) > 1
        adjusted = [d.adjusted for d in rows]
        assert adjusted == pytest.approx(holm([d.p for d in rows]))


def test_differences_that_do_not_vary_over_the_seeds_are_not_tested(compare_seeds):
    compared = compare_seeds(a={0: 10, 1: 12}, b={0: 12, 1: 14})
    clean = differences(compared)["clean"]
    assert clean.points == pytest.approx(0.1) and clean.by_seed
    assert clean.p is None and clean.test == "" and not clean.significant


@pytest.mark.parametrize(
    ("first", "others", "order"),
    [
        ({"lambda": {"one": 0.1}}, [{"lambda": {}}], ["b", "a"]),
        # Without shortcuts, there is no λ either.
        (
            {"lambda": {"one": 0.1}},
            [
                {"lambda": {}, "model_facts": {"dampings": ["plain"]}},
                {"lambda": {}, "model_facts": {"dampings": []}},
            ],
            ["c", "a", "b"],
        ),
        ({"lambda": {}}, [{"lambda": {}}], ["a", "b"]),
        # Of an older version, which did not say.
        ({"lambda": {"one": 0.1}}, [{"lambda": None}], ["a", "b"]),
    ],
)
def test_the_undamped_network_is_the_baseline_and_comes_first(
    first, others, order, compare_results, make_result
):
    results = [make_result(n, **c) for n, c in zip("abc", [first, *others])]
    (compared,) = compare_results(*results)
    assert list(compared.models) == order and compared.baseline == order[0]
    (compared,) = compare_results(*results, baseline="b")
    assert next(iter(compared.models)) == compared.baseline == "b"


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"dataset": "mnist", "fingerprint": "f" * 16},
            "dataset (digits and mnist)",
        ),
        ({"protocol": "paper"}, "protocol (standard and paper)"),
        (
            {"fingerprint": "f" * 16},
            "the images' fingerprint (0123456789abcdef and ffffffffffffffff)",
        ),
    ],
)
def test_other_images_or_protocols_are_rejected_or_separated(
    changes, difference, compare_results, make_result, tmp_path
):
    contents = make_result("a"), make_result("b", **changes), make_result("c")
    files = [tmp_path / str(i) / "evaluation.json" for i in range(2)]
    with pytest.raises(UserError) as error:
        compare_results(*contents)
    assert str(error.value) == (
        f"{files[0]} and {files[1]} cannot be compared: they differ in {difference}; "
        "use --allow_different to report them separately"
    )
    first, second = compare_results(*contents, allow_different=True)
    assert list(first.models) == ["a", "c"] and list(second.models) == ["b"]
    assert not second.differences


def test_numbers_of_images_must_agree(compare_results, make_old_result):
    with pytest.raises(UserError, match=r"num_examples \(20 and 30\)"):
        compare_results(make_old_result("a"), make_old_result("b", num_examples=30))


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"steps": 50}, "50 steps of 1/255"),
        ({"step_size": 2.0}, "20 steps of 2/255"),
        ({"step_size": None}, "20 steps"),
        ({"restarts": 5}, "20 steps of 1/255, 5 restarts"),
        ({"early_stop": False}, "20 steps of 1/255, no early stop"),
        ({"steps": None, "step_size": None}, "custom attack"),
    ],
)
def test_attacks_with_other_settings_have_separate_columns(
    changes, settings, compare_results, make_result
):
    other = make_result("b")
    other["attacks"][1] |= changes
    (compared,) = compare_results(make_result("a"), other)
    labels = [compared.label(c) for c in compared.columns if c.group == "attack"]
    assert labels == ["fgsm 8", "pgd 8 (20 steps of 1/255)", f"pgd 8 ({settings})"]
    assert differences(compared).keys() == {"clean", "mCA", "shot", "fgsm 8"}
    note = "Evaluated with different settings, in separate columns: worst 8, pgd 8."
    assert note in compared.notes
    curves = compared.curves("attack")
    assert {title: list(models) for title, models in curves.items()} == {
        "fgsm": ["a", "b"],
        "pgd": ["a"],
        f"pgd ({settings})": ["b"],
    }


def test_curves_start_at_the_clean_accuracy(compare_results, make_result):
    (compared,) = compare_results(make_result("a"))
    curve = compared.curves("attack")["pgd"]["a"]
    assert {eps: cell.mean for eps, cell in curve.items()} == {0: 0.9, 8: 0.5}


def test_attacks_in_another_norm_have_separate_columns(
    compare_results, make_result, answers
):
    other = make_result("b", attacks={("pgd", "l2", 8): answers(range(9))})
    (compared,) = compare_results(make_result("a"), other)
    headings = [c.heading for c in compared.columns if c.group == "attack"]
    assert headings == ["fgsm 8", "pgd 8", "pgd L2 8"]


def test_corruptions_from_another_source_have_separate_columns(
    compare_results, make_result
):
    other = make_result("b", corruption_source="cifar10_corrupted")
    (compared,) = compare_results(make_result("a"), other)
    assert not {"mCA", "shot"} & differences(compared).keys()
    labels = [compared.label(c) for c in compared.columns if c.group == "corruption"]
    assert labels == [
        "shot (generated, severities 1, 2)",
        "shot (cifar10_corrupted, severities 1, 2)",
    ]


def test_the_mean_corruption_error_has_no_interval_and_no_test(
    compare_results, make_result
):
    (compared,) = compare_results(make_result("a", mce=1.05), make_result("b", mce=0.8))
    cell = cells(compared, "a")["mCE"]
    assert cell.low == cell.mean == cell.high == 1.05
    assert "mCE" not in differences(compared)


def test_results_of_older_versions_have_what_can_be_computed(
    compare_results, make_result, make_old_result
):
    (compared,) = compare_results(make_result("a"), make_old_result("b"))
    assert "worst 8" in cells(compared, "a")
    assert "worst 8" not in cells(compared, "b")
    pgd = differences(compared)["pgd 8"]
    assert pgd.points == 0 and pgd.p is None
    assert compared.notes == [
        "b was evaluated by an older version: its images may differ from those of the "
        "others, it has no worst case, no checks were run."
    ]


def test_columns_that_some_seeds_lack_are_left_out(make_result, write_run, tmp_path):
    write_run(tmp_path / "one", make_result(), 0)
    write_run(tmp_path / "two", make_result(attacks={}, seed=1), 1)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert "pgd 8" not in cells(compared, "a")
    assert compared.notes == [
        "Not all seeds of a have worst 8, fgsm 8, pgd 8: left out.",
        "Noise and random starts were drawn with seeds 0, 1.",
    ]


def test_corruptions_without_effect_are_named(compare_results, make_result):
    unchanged = {"saturate": ["1", "2", "3", "4", "5"], "zoom_blur": ["1"]}
    (compared,) = compare_results(make_result(unchanged_corruptions=unchanged))
    assert compared.notes == [
        "Severities at which a corruption changes no image: saturate at 1, 2, 3, 4, 5; "
        "zoom_blur at 1. If it changes none at any, it does not count in the mean."
    ]


def test_raised_checks_are_listed(make_result, write_run, tmp_path):
    checks = [
        {"name": "zero_gradients", "raised": True, "value": 0.1, "message": "zero"},
        {"name": "steps", "raised": False, "value": 0, "message": "fine"},
    ]
    write_run(tmp_path / "a", make_result("a", checks=checks), seed=4)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert compared.raised == ["a, seed 4: zero_gradients: zero"]


def test_the_same_images_are_compared_whatever_their_path(
    compare_results, make_result, make_old_result, write_run, tmp_path
):
    paths = ("folder:photos", "folder:/data/photos", "folder:photos/")
    results = [make_result(name, dataset=path) for name, path in zip("abc", paths)]
    (compared,) = compare_results(*results)
    assert list(compared.models) == ["a", "b", "c"]
    assert all(d.p is not None for d in compared.differences if d.column.group != "mCE")
    # Without fingerprints there is only the name.
    with pytest.raises(UserError, match="they differ in dataset"):
        compare_results(make_old_result("a"), make_old_result("b", dataset="mnist"))
    # Trainings on the same images are seeds of one model.
    for seed, path in enumerate(paths[:2]):
        folder = write_run(tmp_path / f"s{seed}", make_result("a"), seed, dataset=path)
        config = json.loads((folder / "config.json").read_text())
        config["images"] = {"training": {"fingerprint": "0" * 16}}
        (folder / "config.json").write_text(json.dumps(config))
    runs = measurements.read_measurements([tmp_path / "s0", tmp_path / "s1"])
    (compared,) = comparison.compare(runs)
    assert [run.seed for run in compared.models["a"]] == [0, 1]
