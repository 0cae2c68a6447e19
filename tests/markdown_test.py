import pytest

from inres_tf import markdown


@pytest.mark.parametrize(
    ("values", "text"), [([0.8456], "84.6"), ([0.8, 0.9], "85.0 ± 7.1")]
)
def test_percent_is_the_mean_and_the_standard_deviation(values, text):
    assert markdown.percent(values) == text


def test_columns_of_a_table_are_aligned():
    text = markdown.table(["a", "long"], [["wide cell", "1"]])
    assert text.splitlines() == [
        "| a         | long |",
        "|-----------|------|",
        "| wide cell | 1    |",
    ]


def test_separators_in_cells_are_escaped():
    assert markdown.table(["x"], [["a|b"]]).splitlines()[-1] == "| a\\|b |"


def test_line_breaks_in_cells_do_not_end_a_row():
    assert markdown.table(["a"], [["b\nc"]]).splitlines()[-1] == "| b c |"
