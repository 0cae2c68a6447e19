import pytest

from inres_tf.reporting import comparison, measurements, verdicts

ONE = {0: 10, 1: 12, 2: 15}


@pytest.fixture
def verdict(make_result, answers, write_run, tmp_path):
    """Function of the number of correct answers by model and seed."""

    def make(noise=None, attacks=None, **correct):
        for model, by_seed in correct.items():
            for seed, number in by_seed.items():
                result = make_result(
                    model,
                    clean=answers(range(number)),
                    noise={"1": answers(range(5))},
                    attacks={("pgd", "linf", 8): answers(range(3))},
                )
                write_run(tmp_path / f"{model}-seed{seed}", result, seed)
        runs = measurements.read_measurements([tmp_path])
        return verdicts.verdict(comparison.compare(runs)[0])

    return make


def test_significant_differences_are_the_headline(verdict):
    headline, best, basis = verdict(a={0: 5}, b={0: 20})
    assert headline == "b is significantly better than a in clean accuracy."
    assert best == (
        "Highest clean accuracy: b (100.0%); mean corruption accuracy: all equal "
        "(25.0%); accuracy under attack at ε = 8/255: all equal (15.0%)."
    )
    assert basis.startswith("Tested over 20 images with one network each")


def test_the_highest_are_those_that_the_tables_show(compare_results):
    known = {"dataset": "d", "num_examples": 10_000, "protocol": "standard"}
    results = [
        known | {"model": name, "clean": {"accuracy": accuracy}}
        for name, accuracy in (("a", 0.9004), ("b", 0.9006), ("c", 0.9014))
    ]
    _, best = verdicts.verdict(compare_results(*results[:2])[0])
    assert best == "Highest clean accuracy: b (90.1%)."
    _, best = verdicts.verdict(compare_results(*results)[0])
    assert best == "Highest clean accuracy: b and c (90.1%)."


def test_models_that_do_not_differ_are_named_beside_those_that_do(verdict):
    headline, *_ = verdict(a={0: 5}, b={0: 20}, c={0: 6})
    assert headline == (
        "b is significantly better than a in clean accuracy. c does not differ "
        "significantly from a."
    )


def test_models_of_which_the_same_holds_share_a_sentence(verdict):
    headline, *_ = verdict(a={0: 5}, b={0: 20}, c={0: 19})
    assert headline == "b and c are significantly better than a in clean accuracy."


def test_a_gain_is_not_told_without_the_loss(make_result, answers, compare_results):
    results = [
        make_result(
            name,
            clean=answers(range(clean)),
            attacks={("pgd", "linf", 8): answers(range(attacked))},
        )
        for name, clean, attacked in (("a", 10, 10), ("b", 20, 0))
    ]
    headline, *_ = verdicts.verdict(compare_results(*results)[0])
    assert headline == (
        "b is significantly better than a in clean accuracy, but worse than a in "
        "accuracy under attack at ε = 8/255."
    )


def test_only_accuracies_under_the_same_corruptions_are_ranked(compare_results):
    known = {"dataset": "d", "num_examples": 20, "protocol": "standard"}
    results = [
        known
        | {
            "model": name,
            "clean": {"accuracy": 0.9},
            "corruptions": {corruption: {"1": accuracy, "mean": accuracy}},
        }
        for name, corruption, accuracy in (
            ("a", "fog", 0.95),
            ("b", "fog", 0.9),
            ("c", "snow", 0.3),
            ("d", "snow", 0.25),
        )
    ]
    _, best = verdicts.verdict(compare_results(*results)[0])
    assert best == "Highest clean accuracy: all equal (90.0%)."


def test_models_that_were_tested_in_less_are_said_to_be(
    make_result, answers, compare_results
):
    results = [
        make_result("a", clean=answers(range(10))),
        make_result("b", clean=answers(range(11))),
        make_result("c", clean=answers(range(12)), attacks={}),
    ]
    headline, *_ = verdicts.verdict(compare_results(*results)[0])
    assert headline == (
        "b does not differ significantly from a. c does not differ significantly from "
        "a in clean accuracy or mean corruption accuracy."
    )


def test_small_differences_are_not_claimed(verdict):
    headline, *_, basis = verdict(a={0: 10}, b={0: 12})
    assert headline == (
        "No network differs significantly from a in clean accuracy, mean corruption "
        "accuracy or accuracy under attack at ε = 8/255."
    )
    assert "not about others trained the same way" in basis


def test_several_seeds_are_tested_over_seeds(verdict):
    """Over the images of all seeds, b would be significantly better."""
    headline, _, agreed, basis = verdict(a=ONE, b={0: 13, 1: 19, 2: 20})
    assert headline.startswith("No network differs significantly from a")
    assert agreed == (
        "Not significant, but with the same sign for all 3 seeds (by chance alone, one "
        "comparison in 4 is): b is higher than a in clean accuracy."
    )
    assert basis.startswith("Tested over 3 seeds, not over images")


def test_a_large_difference_over_seeds_is_significant(verdict):
    headline, *rest = verdict(a=ONE, b={0: 15, 1: 17, 2: 19})
    assert headline == "b is significantly better than a in clean accuracy."
    assert not any("Not significant" in line for line in rest)


def test_seeds_that_disagree_are_not_mentioned(verdict):
    lines = verdict(a=ONE, b={0: 12, 1: 11, 2: 18})
    assert not any("the same sign" in line for line in lines)


def test_equal_differences_are_not_called_tested(verdict):
    headline, _, equal, *_ = verdict(a=ONE, b={k: v + 1 for k, v in ONE.items()})
    assert "clean accuracy" not in headline
    assert equal == (
        "Equal for every seed, and therefore not tested: b is higher than a in clean "
        "accuracy."
    )


def test_the_highest_under_attack_is_at_the_largest_radius_that_differs(
    make_result, answers, compare_results
):
    results = [
        make_result(
            name,
            attacks={
                ("pgd", "linf", eps): answers(range(right))
                for eps, right in ((2, 9), (4, at_4), (8, 0))
            },
        )
        for name, at_4 in (("a", 3), ("b", 2))
    ]
    _, best, *_ = verdicts.verdict(compare_results(*results)[0])
    assert best.endswith("accuracy under attack at ε = 4/255: a (15.0%).")


def test_untested_differences_are_called_so(verdict):
    headline, *rest = verdict(a={0: 5}, b={0: 20, 1: 20})
    assert "was not tested" in headline
    assert len(rest) == 1 and rest[0].startswith("Highest")


def test_a_model_that_was_not_tested_is_not_said_to_be_equal(verdict):
    others = {"b": {0: 20, 1: 20}, "c": {0: 5}}
    headline, *_ = verdict(a={0: 5}, **others)
    assert headline.startswith("No network differs significantly from a in clean")
    assert headline.endswith(" b was not tested.")


def test_a_single_model_has_its_accuracies(verdict):
    assert verdict(a={0: 16}) == [
        "a has a clean accuracy of 80.0%, a mean corruption accuracy of 25.0% and an "
        "accuracy under attack at ε = 8/255 of 15.0%."
    ]


def test_radii_of_a_curve_are_named_together():
    columns = [
        measurements.Column("worst", "", curve=curve, strength=radius)
        for curve, radius in (("worst", 4.0), ("worst", 8.0), ("worst L2", 64.0))
    ]
    assert verdicts.in_words(columns) == (
        "accuracy under attack at ε = 4 and 8/255 and accuracy under attack at L2 "
        "radius 64/255"
    )
