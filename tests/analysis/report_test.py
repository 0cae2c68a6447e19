import re

import pytest

from inres_tf.analysis import _report as report
from inres_tf.pages import Plot

ROWS = {
    "gradients": {"share of zeros": {"mean": 0.25, "max": 1.0}},
    "calibration": {"clean": {"accuracy": 0.9, "confidence": 0.95, "ece": 0.05}},
}


@pytest.fixture
def summary():
    """Content of `analysis.json`."""
    return {
        "model": "<b>",
        "dataset": "digits",
        "num_examples": 5,
        "settings": {"eps": 8.0},
        "lambda": {"one": 0.25},
        "analyses": ROWS,
        "checks": [],
        "versions": {"keras": "3"},
        "git_revision": None,
        "processor": "abacus",
        "seconds": 1.5,
    }


def page(summary):
    titles = dict.fromkeys(ROWS, "Title")
    plots = {name: Plot("Caption", [], ["<svg></svg>"]) for name in ROWS}
    return report.page(summary, titles, plots)


def test_the_page_has_the_verdict_first_and_the_facts_last(summary):
    text = page(summary)
    sections = re.findall(r'<section [^>]*id="(\w+)"|<section id="(\w+)"', text)
    names = [a or b for a, b in sections]
    assert names == ["verdict", "gradients", "calibration", "facts"]
    assert "<b>" not in text and "Analysis of &lt;b&gt;" in text
    assert "the expected calibration error is 5.0%" in text
    assert '<td data-value="0.25">0.25</td>' in text and "abacus" in text
    assert "code" not in re.findall(r"<dt>(.*?)</dt>", text)


def test_raised_checks_are_linked_from_the_verdict(summary):
    checks = [
        {"name": "outputs", "raised": True, "message": "4 are not finite"},
        {"name": "weights", "raised": False, "message": "fine"},
    ]
    text = page(summary | {"checks": checks})
    assert '<a href="#warnings">1 check warns' in text
    assert "4 are not finite" in text and "fine" not in text
    assert "check warns" not in page(summary)


def test_undefined_numbers_are_not_put_into_words():
    broken = {"calibration": {"clean": {"accuracy": 0.0, "confidence": None}}}
    assert report.verdict(broken) == []
    assert report.verdict(ROWS)[1].startswith("25.0% of the entries")


def test_nothing_to_analyse_is_said(summary):
    assert "Nothing was analysed." in page(summary | {"analyses": {}})
