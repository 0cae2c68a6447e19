import base64
import io
import re
from html.parser import HTMLParser

import PIL.Image
import pytest

from inres_tf.reporting import comparison, html, measurements, tables
from inres_tf.reporting.statistics import wilson


class Page(HTMLParser):
    """Collects tags, links and text; checks that every open tag is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def png():
    """A PNG in base64."""
    file = io.BytesIO()
    PIL.Image.new("L", (2, 2)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_the_page_is_self_contained_and_escapes_names(
    compare_results, make_result, png
):
    sample = {"attack": "pgd", "norm": "linf", "eps": 8.0, "index": 17, "label": 0}
    sample |= {"predicted": 1, "largest": 8.0}
    sample |= dict.fromkeys(("clean", "adversarial", "perturbation"), png)
    evil = "<b>&'\"|"
    first = make_result(evil, samples=[sample], class_names=["cat", "<i>"])
    (compared,) = compare_results(first, make_result("b"))
    text = html.page(evil, {"command": evil}, [compared])
    page = Page(text)
    assert not {"b", "i", "script", "link", "iframe"} & set(page.tags)
    # worst, fgsm, pgd; shot; one trade-off; λ; and three images of the sample.
    svgs = [x for x in page.links if x.startswith("data:image/svg+xml;base64,")]
    pngs = [x for x in page.links if x.startswith("data:image/png;base64,")]
    assert len(svgs) == 6 and pngs == [f"data:image/png;base64,{png}"] * 3
    assert len(svgs) + len(pngs) == len(page.links)
    assert "@import" not in text and "url(" not in text
    assert page.text.count(evil) >= 4
    shown = {"pgd L∞ 8, image 17", "label cat", "predicted <i>", "8.0"}
    assert shown <= set(page.text)
    assert "90.0 [69.9, 97.2]" in page.text
    headings = set(tables.comparison(compared))
    assert len(headings) > 1 and headings <= set(page.text)
    # The name contains the separator of markdown columns.
    lines = html.markdown("T", {}, [compared]).splitlines()
    table = [line for line in lines if line.startswith("|")][:4]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}


def test_raised_checks_are_below_the_table(compare_results, make_result):
    checks = [
        {"name": "zero_gradients", "raised": True, "value": 0.1, "message": "zero"},
        {"name": "steps", "raised": False, "value": 0, "message": "fine"},
    ]
    (compared,) = compare_results(make_result("a", checks=checks))
    for text in (html.markdown("T", {}, [compared]), html.page("T", {}, [compared])):
        assert "zero_gradients: zero" in text and "fine" not in text


def test_classes_without_a_name_are_shown_as_numbers(make_result, png):
    sample = {"attack": "pgd", "norm": "l2", "eps": 64.0, "index": 0, "largest": 8.0}
    sample |= dict.fromkeys(("clean", "adversarial", "perturbation"), png)
    for label, shown in ((0, "cat"), (1, "dog"), (2, "2"), (-1, "-1")):
        result = make_result(class_names=["cat", "dog"])
        text = html._sample(sample | {"label": label, "predicted": label}, result)
        assert f"label {shown}<" in text and f"predicted {shown}<" in text
        assert "pgd L2 64, image 0" in text


@pytest.mark.parametrize(("rows", "long"), [(30, False), (31, True)])
def test_tables_of_more_than_30_rows_are_marked_as_long(rows, long):
    page = html._table(["header"], [["cell"]] * rows)
    assert page.count("<td>cell</td>") == rows and ("scroll long" in page) == long


def test_facts_name_the_models_where_they_differ(compare_results, make_result):
    results = make_result("a"), make_result("b", processor="brain")
    facts = html.facts_of(compare_results(*results))
    assert facts["machine"] == "abacus (a); brain (b)"
    assert facts["versions"] == "keras 3"
    assert facts["data"] == "digits, 20 images, standard protocol"
    assert facts["damped blocks with λ = 0"] == "a 1 of 2, b 1 of 2"


def test_drawings_show_the_cells(compare_results, make_result):
    (compared,) = compare_results(make_result("a"), make_result("b"))
    drawings = html._drawings(compared)
    assert list(drawings) == [
        "accuracy_over_eps",
        "accuracy_over_severity",
        "trade_off",
        "lambda_by_depth",
    ]
    _, draw, panels = drawings["accuracy_over_eps"]
    axes = draw(panels).axes
    assert [ax.get_title() for ax in axes] == ["worst", "fgsm", "pgd"]
    line = axes[1].get_lines()[0]
    assert list(line.get_xdata()) == [0, 8]
    assert list(line.get_ydata()) == pytest.approx([90, 60])
    (band, _) = axes[1].collections
    ends = sorted({round(y, 6) for x, y in band.get_paths()[0].vertices if x == 8})
    low, high = wilson(12, 20)
    assert [ends[0], ends[-1]] == pytest.approx([100 * low, 100 * high], abs=1e-4)
    _, draw, panels = drawings["trade_off"]
    (ax,) = draw(panels).axes
    point = ax.containers[0].lines[0]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((90, 50))


def test_comparisons_are_written_separately(compare_results, make_result, tmp_path):
    other = make_result("b", dataset="mnist", fingerprint="other")
    results = make_result("a"), other
    parts = compare_results(*results, allow_different=True)
    path = html.write(tmp_path / "out", "tables", "T", {}, parts)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names >= {"tables.md", "trade_off_1.png", "trade_off_2.png"}
    text = "".join(Page(path.read_text()).text)
    first, second = (text.index(part.title) for part in parts)
    assert first < second < len(text)
    markdown = (tmp_path / "out" / "tables.md").read_text()
    assert all(f"# {part.title}" in markdown for part in parts)


def test_certified_accuracy_is_drawn_with_the_attack(compare_results, certified_result):
    (compared,) = compare_results(certified_result("a"), certified_result("b", 4))
    heading, draw, panels = html._drawings(compared)["certified_over_radius"]
    assert heading == "Certified accuracy over radius" and list(panels) == ["certified"]
    (ax,) = draw(panels).axes
    line, dashed, *_ = ax.get_lines()
    assert list(line.get_xdata()) == [0, 36, 96]
    assert list(line.get_ydata()) == pytest.approx([80, 60, 5])
    # Without an attack, the radius is 0 and the accuracy that on clean images.
    assert list(dashed.get_xdata()) == [0, 36]
    assert list(dashed.get_ydata()) == pytest.approx([90, 70])
    text = html.markdown("T", {}, [compared])
    assert "| certified 36 " in text and "certified 96" not in text


def test_rates_that_are_not_finite_are_shown(make_result, write_run, tmp_path):
    rates = {"one": None, "two": 0.0}
    run = write_run(tmp_path / "a", make_result("a", **{"lambda": rates}))
    (compared,) = comparison.compare(measurements.read_measurements([run]))
    facts = html.facts_of([compared])
    assert facts["damped blocks with λ = 0"] == "a 1 of 2"
    html.write(tmp_path, "x", "title", facts, [compared])
    assert (tmp_path / "lambda_by_depth.png").is_file()
