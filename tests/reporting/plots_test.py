import pytest

from inres_tf.reporting import plots
from inres_tf.reporting.comparison import Cell


def test_accuracy_over_strength_has_a_panel_per_curve_and_a_line_per_model():
    clean, attacked = Cell((0.9,), 0.8, 0.95), Cell((0.5,), 0.4, 0.6)
    panels = {
        "pgd": {"a": {8.0: attacked, 0.0: clean}, "b": {0.0: clean, 8.0: clean}},
        "fgsm": {"b": {0.0: clean, 8.0: attacked}},
    }
    figure = plots.accuracy_over(panels, "ε (1/255)", ["a", "b"])
    pgd, fgsm = figure.axes
    assert (pgd.get_title(), fgsm.get_title()) == ("pgd", "fgsm")
    assert pgd.get_xlabel() == "ε (1/255)"
    # The panels share an axis that fits the curves and their bands.
    (low, high) = pgd.get_ylim()
    assert fgsm.get_ylim() == (low, high) and 35 < low < 40 and 95 < high < 100
    line, other = pgd.get_lines()
    assert list(line.get_xdata()) == [0, 8]
    assert list(line.get_ydata()) == pytest.approx([90, 50])
    band = pgd.collections[0].get_paths()[0].vertices
    assert {round(y) for x, y in band if x == 8} == {40, 60}
    (alone,) = fgsm.get_lines()
    assert alone.get_color() == other.get_color() != line.get_color()


def test_trade_off_has_a_point_with_intervals_per_model():
    clean, attacked = Cell((0.9,), 0.8, 0.95), Cell((0.5,), 0.4, 0.6)
    panels = {"worst 8": {"a": (clean, attacked), "b": (clean, clean)}}
    (ax,) = plots.trade_off(panels, ["a", "b"]).axes
    assert ax.get_ylabel() == "worst 8 (%)"
    point, _, (horizontal, vertical) = ax.containers[0]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((90, 50))
    ((left, _), (right, _)) = horizontal.get_segments()[0]
    ((_, low), (_, high)) = vertical.get_segments()[0]
    assert (left, right, low, high) == pytest.approx((80, 95, 40, 60))
    # Colours do not depend on which models a panel shows.
    (alone,) = plots.trade_off({"x": {"b": (clean, clean)}}, ["a", "b"]).axes
    colors = [a.containers[-1].lines[0].get_color() for a in (ax, alone)]
    assert colors[0] == colors[1] != point.get_color()


def test_certified_accuracy_is_a_line_and_the_attacked_one_a_dashed_line():
    high, low = Cell((0.9,), 0.8, 0.95), Cell((0.5,), 0.4, 0.6)
    panels = {"certified": {"a": {36.0: low, 0.0: high}, "b": {0.0: high, 36.0: low}}}
    attacked = {"b": {0.0: high, 36.0: high}}
    (ax,) = plots.certified_over(panels, attacked, ["a", "b"]).axes
    assert ax.get_xlabel() == "L2 radius (1/255)"
    first, second, dashed = ax.get_lines()
    assert list(first.get_xdata()) == [0, 36]
    assert list(first.get_ydata()) == pytest.approx([90, 50])
    assert list(dashed.get_ydata()) == pytest.approx([90, 90])
    assert dashed.get_linestyle() == "--" and second.get_linestyle() == "-"
    assert dashed.get_color() == second.get_color() != first.get_color()
    assert dashed.get_label() == "b, attacked"
