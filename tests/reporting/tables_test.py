import dataclasses

import pytest

from inres_tf.reporting import comparison, measurements, tables


def test_single_networks_are_shown_with_their_interval(compare_results, make_result):
    (compared,) = compare_results(make_result("a"))
    (header, rows), *_ = tables.comparison(compared).values()
    assert header == ["model", "clean", "mCA", "worst 8"]
    # (0.9 + z²/40 ± z √(0.9 · 0.1 / 20 + z²/1600)) / (1 + z²/20)
    assert rows[0][:2] == ["a", "90.0 [69.9, 97.2]"]


def test_seeds_are_one_row_with_their_standard_deviation(
    make_result, answers, write_run, tmp_path
):
    for seed, correct in ((3, 16), (1, 18)):
        result = make_result(clean=answers(range(correct)))
        write_run(tmp_path / f"a-seed{seed}", result, seed)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert tables.comparison(compared)["Accuracy in %"][1][0][1] == "85.0 ± 7.1"


def test_differences_are_shown_with_their_tests(compare_results, make_result, answers):
    base = make_result("base", clean=answers(range(12)))
    other = make_result("other", clean=answers([*range(3), *range(5, 20)]))
    (compared,) = compare_results(base, other)
    title = "Differences from base on the same images"
    header, rows = tables.comparison(compared)[title]
    assert header[2:] == ["points", "better on", "worse on", "p", "p (Holm)"]
    adjusted = f"{compared.differences[0].adjusted:.3f}"
    assert rows[0] == ["other", "clean", "+30.0", "8", "2", "0.109", adjusted]


def test_tests_over_seeds_are_shown_with_their_interval(
    make_result, answers, write_run, tmp_path
):
    for model, correct in (("a", (10, 12, 17)), ("b", (12, 15, 18))):
        for seed, number in enumerate(correct):
            result = make_result(model, clean=answers(range(number)))
            write_run(tmp_path / f"{model}-seed{seed}", result, seed)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    header, rows = tables.comparison(compared)["Differences from a on the same images"]
    assert header[2:] == ["points", "95% interval", "test", "p", "p (Holm)"]
    # 10 ± 4.303 · 5 / √3
    assert rows[0][:5] == ["b", "clean", "+10.0", "-2.4 to +22.4", "paired t"]
    untested = dataclasses.replace(compared.differences[0], low=None, high=None)
    _, ((*_, interval, _, _, _),) = tables.differences(compared, [untested])
    assert (interval.text, interval.value) == ("–", -2.0)  # sorted as a number
    # Of 2, 3 and 1 images that are correct only with b: 2 / 2^n, but at most 1
    header, rows = tables.comparison(compared)[tables.BY_SEED]
    assert header == ["model", "column", "seed 0", "seed 1", "seed 2"]
    assert rows[0] == ["b", "clean", "+10.0 (0.500)", "+15.0 (0.250)", "+5.0 (1.000)"]


def test_only_models_with_the_seeds_of_the_baseline_are_compared_by_seed(
    make_result, answers, write_run, tmp_path
):
    for model, seeds in (("a", (0, 1)), ("b", (0, 2)), ("c", (0, 1)), ("d", (0,))):
        for seed in seeds:
            result = make_result(model, clean=answers(range(10 + (model == "c"))))
            write_run(tmp_path / f"{model}-seed{seed}", result, seed)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    found = tables.comparison(compared)
    assert {row[0] for row in found[tables.BY_SEED][1]} == {"c"}
    assert found[tables.BY_SEED][1][1] == ["c", "mCA", "+0.0 (1.000)", "+0.0 (1.000)"]
    runs = compared.models
    alone = dataclasses.replace(compared, models={k: runs[k] for k in ("a", "b", "d")})
    assert tables.BY_SEED not in tables.comparison(alone)


def test_columns_that_one_seed_lacks_are_left_out(
    make_result, answers, write_run, tmp_path
):
    for seed in range(2):
        attacks = {("pgd", "linf", 4 + seed): answers(range(5))}
        result = make_result("a", attacks=attacks)
        write_run(tmp_path / f"s{seed}", result, seed)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    (header, _), *others = tables.comparison(compared).values()
    assert header == ["model", "clean", "mCA"]
    assert all("pgd" not in name for names, _ in others for name in names)
    assert "Not all seeds of a have worst 4, worst 5, pgd 4, pgd 5: left out." in (
        compared.notes
    )


def test_separate_columns_have_empty_cells(compare_results, make_result):
    other = make_result("b")
    other["attacks"][1]["steps"] = 50
    (compared,) = compare_results(make_result("a"), other)
    header, rows = tables.comparison(compared)["Attacks: accuracy in %, by ε in 1/255"]
    pgd = ["pgd 8 (20 steps of 1/255)", "pgd 8 (50 steps of 1/255)"]
    assert header == ["model", "clean", "fgsm 8", *pgd]
    assert [row[3:].index("–") for row in rows] == [1, 0]


def test_the_mean_corruption_error_is_shown_without_an_interval(
    compare_results, make_result
):
    (compared,) = compare_results(make_result("a", mce=1.05), make_result("b", mce=0.8))
    header, rows = tables.comparison(compared)["Accuracy in %"]
    assert [row[header.index("mCE")] for row in rows] == ["105.0", "80.0"]


def test_an_evaluation_is_shown_with_its_worst_case(make_result):
    checks = [{"name": "steps", "raised": True, "value": 0, "message": "too few"}]
    text = tables.evaluation(make_result("a", checks=checks, mce=1.05))
    assert text.startswith("a on digits: 20 images, standard protocol, accuracy in %;")
    # z / (1 + z²/20) √(1/80 + z²/1600)
    assert "at most ±20.1" in text
    assert "clean 90.0" in text
    assert "mean corruption accuracy 65.0; mean corruption error 105.0" in text
    rows = [line.split("|")[1:-1] for line in text.splitlines() if "|" in line]
    cells = {row[0].strip(): row[-1].strip() for row in rows}
    assert cells["shot_noise"] == "65.0"
    assert (cells["fgsm"], cells["pgd"], cells["worst case"]) == (
        "60.0",
        "50.0",
        "50.0",
    )
    assert text.endswith("\n- steps: too few")


@pytest.mark.parametrize("name", ["pgd", "fgsm"])
def test_a_single_attack_has_no_worst_case(make_result, answers, name):
    text = tables.evaluation(
        make_result(attacks={(name, "linf", 8): answers(range(10))})
    )
    assert f"| {name} " in text and "worst case" not in text


def test_the_summary_is_short(compare_results, make_result):
    warning = {"name": "reach", "raised": True, "value": [], "message": "too short"}
    (found,) = compare_results(make_result("a"), make_result("b", checks=[warning]))
    title, *rows, _, note = tables.summary(found).splitlines()
    assert title.startswith(found.title) and title.endswith("accuracy in %")
    assert [row.split()[1] for row in rows[3:]] == ["a", "b"]
    assert note == "Checks that warn: 1; the report lists them."
    assert "mCA" in rows[1] and "Differences" not in tables.summary(found)


def test_certificates_are_columns_of_their_own(compare_results, certified_result):
    (compared,) = compare_results(certified_result("a"), certified_result("b", 4))
    title = "Certificates: accuracy in %, by L2 radius in 1/255"
    header, rows = tables.comparison(compared)[title]
    assert header == ["model", "clean", "certified 36", "certified 72", "attacked 36"]
    assert [row[2].split()[0] for row in rows] == ["60.0", "20.0"]
    tested = {d.column.heading: d for d in compared.differences}
    difference = tested["certified 36"]
    assert (difference.better, difference.worse) == (0, 8)
    # The points of the curve are not tested, of which there are many.
    assert "certified 0" not in tested


def rows_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_certificates_are_shown_beside_the_attack_if_there_is_one(certified_result):
    result = certified_result()
    result["certificates"]["attacked"]["72"] = 0.15
    rows = rows_of(tables.evaluation(result))
    assert ["L2 radius", "certified", "under pgd"] in rows
    assert ["36/255", "60.0", "70.0"] in rows and ["72/255", "10.0", "15.0"] in rows
    result["certificates"] |= {"attacked": {}, "attacks": []}
    rows = rows_of(tables.evaluation(result))
    assert ["L2 radius", "certified"] in rows and ["36/255", "60.0"] in rows


def test_certificates_by_other_methods_are_not_compared(
    compare_results, certified_result
):
    other = certified_result("b")
    other["certificates"] |= {"method": "smoothing", "settings": {"sigma": 32.0}}
    (compared,) = compare_results(certified_result("a"), other)
    title = "Certificates: accuracy in %, by L2 radius in 1/255"
    header, rows = tables.comparison(compared)[title]
    assert header[2:4] == [
        "certified 36 (lipschitz)",
        "certified 36 (smoothing, sigma 32.0)",
    ]
    assert rows[0][3] == rows[1][2] == "–"
    (note,) = (n for n in compared.notes if n.startswith("Evaluated with different"))
    assert "certified 0" not in note and "certified 36" in note
