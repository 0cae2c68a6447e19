import math

import numpy as np
import pytest
from scipy import stats

from inres_tf.reporting.statistics import holm, mcnemar, over_images, over_seeds, wilson

Z = 1.959963984540054


def test_wilson_returns_published_values():
    """Newcombe, Statistics in Medicine 1998, table I, method 3."""
    for (successes, number), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(successes, number) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("successes", "number"), [(1, 9), (44, 50), (7.4, 12)])
def test_wilsons_ends_are_where_the_score_test_becomes_significant(successes, number):
    for end in wilson(successes, number):
        score = abs(successes / number - end) / math.sqrt(end * (1 - end) / number)
        assert score == pytest.approx(Z)


def test_wilson_at_none_and_all_has_a_closed_form_and_is_symmetric():
    assert wilson(0, 30) == (0.0, pytest.approx(Z**2 / (30 + Z**2)))
    assert wilson(30, 30) == (pytest.approx(30 / (30 + Z**2)), 1.0)
    low, high = wilson(11, 40)
    assert wilson(29, 40) == pytest.approx((1 - high, 1 - low))


def test_wilson_narrows_with_more_images_and_widens_with_the_level():
    widths = [high - low for low, high in (wilson(n / 2, n) for n in (10, 40, 4000))]
    assert widths[0] > widths[1] > widths[2]
    # Far from the ends it approaches the normal approximation.
    assert widths[2] == pytest.approx(2 * Z / math.sqrt(4 * 4000), rel=1e-3)
    assert wilson(5, 10, 0.99)[0] < wilson(5, 10)[0] < wilson(5, 10, 0.5)[0] < 0.5


@pytest.mark.parametrize(
    "arguments", [(-1, 3), (4, 3), (0, 0), (1, 3, 1.0), (1, 3, 0.0)]
)
def test_wilson_rejects_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"`successes` must be in \[0, number\]"):
        wilson(*arguments)


def answers(both, first, second, neither):
    """Answers of two classifiers, by the number of images that each gets right."""
    pairs = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * neither
    return np.array(pairs, bool).T


def test_mcnemar_is_the_binomial_test_of_the_images_that_differ():
    # 2 (C(8, 0) + C(8, 1)) / 2^8; images on which both agree do not matter.
    for both, neither in ((5, 3), (900, 0)):
        b, c, p = mcnemar(*answers(both, 1, 7, neither))
        assert (b, c) == (1, 7) and p == pytest.approx(18 / 256)
    assert mcnemar(*answers(9, 7, 1, 0))[:2] == (7, 1)
    assert mcnemar(*answers(9, 0, 5, 0))[2] == pytest.approx(2 / 32)
    assert mcnemar(*answers(9, 4, 4, 0)) == (4, 4, 1.0)


def test_over_seeds_is_students_and_welchs_test():
    first, second = [0.92, 0.91, 0.95], [0.90, 0.91, 0.90]
    paired, expected = over_seeds(first, second, True), stats.ttest_rel(first, second)
    assert paired.name == "paired t" and paired.p == pytest.approx(expected.pvalue)
    interval = tuple(expected.confidence_interval(0.95))
    assert (paired.low, paired.high) == pytest.approx(interval)
    welch = over_seeds(first, second[:2], False, level=0.9)
    expected = stats.ttest_ind(first, second[:2], equal_var=False)
    assert welch.name == "Welch t" and welch.p == pytest.approx(expected.pvalue)
    interval = tuple(expected.confidence_interval(0.9))
    assert (welch.low, welch.high) == pytest.approx(interval)
    # Of one side alone, the seeds need not vary.
    assert 0 < over_seeds([0.9, 0.9], [0.8, 0.7], False).p < 1


def test_over_seeds_needs_seeds_that_vary():
    assert over_seeds([0.9], [0.8], True) is None
    assert over_seeds([0.9, 0.8], [0.8], False) is None
    # 0.9 - 0.8 and 0.8 - 0.7 differ by rounding.
    assert over_seeds([0.9, 0.8], [0.8, 0.7], True) is None
    assert over_seeds([0.9, 0.9], [0.8, 0.8], False) is None
    assert over_seeds([0.9, 0.8], [0.9, 0.8], True)[1:] == (0, 0, 1)
    with pytest.raises(ValueError, match="same shape"):
        over_seeds([0.9, 0.8], [0.9, 0.8, 0.7], True)


def test_mcnemar_of_equal_answers_and_of_many_different_ones():
    assert mcnemar(*answers(6, 0, 0, 2)) == (0, 0, 1.0)
    p = mcnemar(*answers(0, 4900, 5100, 0))[2]
    # The normal approximation with continuity correction.
    z = (5100 - 4900 - 1) / math.sqrt(10000)
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_means_over_several_answers_are_tested_by_students_paired_test(rng):
    first, second = rng.integers(0, 6, (2, 80))
    test = over_images(first, second)
    assert (test.better, test.worse) == ((first > second).sum(), (first < second).sum())
    expected = stats.ttest_rel(first, second).pvalue
    assert test.name == "t over images" and test.p == pytest.approx(expected)


def test_being_better_on_more_images_is_not_being_better_on_average():
    # Better by 1 answer on 50 images, worse by 5 on 10, equal on 40: equal means.
    first = np.repeat([3, 0, 2], [50, 10, 40])
    second = np.repeat([2, 5, 2], [50, 10, 40])
    test = over_images(first, second)
    assert (test.better, test.worse) == (50, 10)
    assert test.p == pytest.approx(1.0)
    assert mcnemar(first > second, first < second)[2] < 1e-6


@pytest.mark.parametrize("amount", [1, 5])
def test_images_that_all_differ_by_the_same_are_tested_by_mcnemar(amount):
    first = amount * np.repeat([1, 0, 1], [7, 1, 9])
    second = amount * np.repeat([0, 1, 1], [7, 1, 9])
    assert over_images(first, second) == ("McNemar", 7, 1, 18 / 256)
    assert over_images(first, first) == ("McNemar", 0, 0, 1.0)
    with pytest.raises(ValueError, match="must have the same shape"):
        over_images([1], [1, 0])


def test_the_test_of_means_keeps_its_level_under_the_null_hypothesis(rng):
    rejected = 0
    for _ in range(400):
        # The first is better on more images, but by less.
        difference = np.where(rng.random(200) < 0.8, 1, -4)
        rejected += over_images(4 + difference, np.full(200, 4)).p < 0.05
    assert rejected / 400 < 0.08


def test_mcnemar_keeps_its_level_under_the_null_hypothesis(rng):
    rejected = 0
    for _ in range(400):
        first, second = rng.random((2, 60)) < 0.7
        rejected += mcnemar(first, second)[2] < 0.05
    assert rejected / 400 < 0.06


def test_mcnemar_rejects_different_shapes():
    with pytest.raises(ValueError, match="must have the same shape"):
        mcnemar([True], [True, False])


def test_intervals_of_no_and_all_successes_end_exactly_at_0_and_1():
    for number in range(1, 200):
        assert wilson(0, number)[0] == 0 and wilson(number, number)[1] == 1


def test_holm_by_hand():
    # 0.01·4, 0.02·3, 0.03·2, and 0.04·1, which is raised to the previous value.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2] and holm([]) == []
