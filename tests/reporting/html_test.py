import base64
import io
import json
import re
from html.parser import HTMLParser

import PIL.Image
import pytest

from inres_tf.reporting import comparison, html, measurements, plots, tables
from inres_tf.reporting.statistics import wilson

VOID = ("meta", "img", "link", "br", "hr", "input")


class Page(HTMLParser):
    """Collects elements, text and the rows of tables; every open tag must be closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.text, self.tables = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        elif tag == "tr":
            self.tables[-1]["rows"].append([])
        elif tag in ("td", "th"):
            self.tables[-1]["rows"][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "caption" in self.open and "table" in self.open:
            self.tables[-1]["caption"] += data
        elif {"td", "th"} & set(self.open) and "table" in self.open:
            bold = "*" if "strong" in self.open else ""
            self.tables[-1]["rows"][-1][-1] += f"{bold}{data}{bold}"

    def all(self, tag):
        """The attributes of the elements of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, *names):
        """The values of attributes."""
        return [v for _, a in self.elements for k, v in a.items() if k in names]

    def table(self, caption):
        """The rows of a table whose caption is this or the only one that starts so."""
        found = [t for t in self.tables if t["caption"].startswith(caption)]
        (table,) = [t for t in found if t["caption"] == caption] or found
        return table["rows"]


@pytest.fixture(scope="module")
def png():
    """A PNG in base64."""
    file = io.BytesIO()
    PIL.Image.new("L", (2, 2)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def make_sample(png):
    """Function that makes an adversarial example of a result."""

    def make(**changes):
        sample = {"attack": "pgd", "norm": "linf", "eps": 8.0, "index": 17, "label": 0}
        sample |= {"predicted": 1, "largest": 8.0}
        return (
            sample
            | dict.fromkeys(("clean", "adversarial", "perturbation"), png)
            | changes
        )

    return make


EVIL = "<b>&'\"|"
CHECK = {"name": "zero_gradients", "raised": True, "value": 0.1, "message": EVIL}


@pytest.fixture(scope="module")
def report(make_result, make_sample, answers, write_run, tmp_path_factory):
    """The page of two models, of which the second is worse under shot noise."""
    folder = tmp_path_factory.mktemp("report")
    facts = {"parameters": 273562, "flops": 5.1e6, "dampings": ["in"]}
    first = make_result(
        EVIL,
        samples=[make_sample(), make_sample(index=18)],
        class_names=["cat", "<i>"],
        checks=[CHECK],
        confusion={"0": {"0": 9, "1": 1}, "1": {"1": 9, "0": 1}},
        model_facts=facts,
        seconds=12.5,
        command="python -m train.evaluate",
    )
    noise = {"1": answers(range(2)), "2": answers(range(2))}
    runs = [
        write_run(folder / str(i), result)
        for i, result in enumerate((first, make_result("b", noise=noise)))
    ]
    (found,) = comparison.compare(measurements.read_measurements(runs))
    return html.page(EVIL, html.facts_of([found]) | {"command": EVIL}, [found])


def test_the_page_is_self_contained_and_escapes_names(report):
    page = Page(report)
    assert not {"b", "i", "link", "iframe", "object"} & {t for t, _ in page.elements}
    links = page.values("src", "href")
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert "@import" not in report and "http" not in report
    assert not re.search(r"url\((?!#)", report)
    assert page.text.count(EVIL) >= 4
    shown = {"pgd L∞ 8, image 17", "label cat", "predicted <i>", "8.0"}
    assert shown <= {text.strip() for text in page.text}


def test_anchors_lead_to_sections_and_ids_are_unique(report):
    page = Page(report)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in page.values("href") if link.startswith("#")]
    targets += page.values("aria-labelledby")
    targets += re.findall(r"url\(#([^)]+)\)", report)
    assert len(targets) > 20 and set(targets) <= set(ids)
    contents = [a["href"][1:] for a in page.all("a")]
    sections = [section["id"] for section in page.all("section")]
    assert set(sections) == set(contents) - {"main"}


def test_the_verdict_comes_first_and_the_facts_last(report):
    page = Page(report)
    sections = [section["id"] for section in page.all("section")]
    assert sections[:3] == ["verdict", "accuracy", "warnings"]
    assert sections[-1] == "facts"
    text = " ".join("".join(page.text).split())
    assert f"b is significantly worse than {EVIL} in mean corruption accuracy." in text
    assert "1 check warns" in text[: text.index("Accuracy in %")]


def test_the_page_can_be_read_without_seeing_it(report):
    page = Page(report)
    assert page.all("html")[0]["lang"] == "en" and len(page.all("main")) == 1
    skip = next(a for a in page.all("a"))
    assert skip["href"] == "#main" and skip["class"] == "skip"
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 5
    drawings = [svg for svg in page.all("svg") if "role" in svg]
    # worst, fgsm, pgd; trade-off; shot; λ.
    assert len(drawings) == 6 and len(page.all("figcaption")) == 4
    labels = [d["aria-label"] for d in drawings] + [i["alt"] for i in page.all("img")]
    assert len(labels) == len(set(labels)) and all(labels)
    curves = f"{EVIL} from 90 to 50; b from 90 to 50"
    assert f"pgd: accuracy (%) over ε (1/255); {curves}" in labels
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and set(levels[1:]) == {2}


def test_drawings_follow_dark_mode(report):
    drawings = re.findall(r'<svg [^>]*role="img".*?</svg>', report, re.DOTALL)
    assert len(drawings) == 6
    for drawing in drawings:
        assert "currentColor" in drawing and "var(--c0)" in drawing
        assert "#000000" not in drawing and "fill: #ffffff" not in drawing
        assert "<text" in drawing and "font-family" not in drawing
        assert len(drawing) < 20_000
    assert report.count('class="legend"') == 4 and "prefers-color-scheme" in report


def test_the_best_values_are_bold_and_differences_marked(report):
    header, first, second = Page(report).table("Accuracy in %")
    assert header == ["model", "clean", "mCA", "worst 8"]
    # All are equal but the mean corruption accuracy.
    assert first[1:3] == ["90.0 [69.9, 97.2]", "*65.0* [43.3, 81.9]"]
    assert second[2] == "▼significantly worse: 10.0 [2.8, 30.1]"
    rows = Page(report).table("Corruptions")
    assert [row[1][:6] for row in rows[2:]] == ["*65.0*"] and rows[1][0] == "clean"


def test_significant_differences_are_shown_and_the_others_folded(report):
    before, details, rest = report.split("<details>")[0:3]
    page = Page(report)
    _, mean = page.table("Significant differences, from")
    assert mean[1:5] == ["mCA", "▼significantly worse: -55.0", "0", "14"]
    _, shot = page.table("Significant differences under single")
    assert shot[1] == "shot"
    assert len(page.table("Differences that are not significant")) == 5
    assert "Significant differences, from" in before
    assert "<summary>Significant differences under single" in details
    assert "<summary>Differences that are not significant: 4</summary>" in rest


def test_nothing_is_claimed_where_no_difference_is_significant(
    compare_results, make_result
):
    found = compare_results(make_result("a"), make_result("b"))
    page = html.page("T", {}, found)
    assert "No difference from a above is significant." in page
    assert "▼</span>" not in page and "▲</span>" not in page
    assert "<strong>" not in page  # all are equal: none is the best


def test_no_raised_check_is_folded(report):
    shown = re.sub(r"<details>.*?</details>", "", report, flags=re.DOTALL)
    assert f"{EVIL}: {EVIL}" in "".join(Page(shown).text)


def test_classes_networks_and_budgets_are_listed(report):
    page = Page(report)
    assert page.table("Clean accuracy of each class") == [
        ["class", EVIL],
        ["cat", "90.0"],
        ["<i>", "90.0"],
    ]
    matrix = page.table(f"Confusion matrix of {EVIL}")
    assert matrix[1:] == [["cat", "9", "1"], ["<i>", "1", "9"]]
    _, first, second = page.table("Size and cost")
    assert first == [EVIL, "1", "in", "1 of 2", "273,562", "5.1", "12"]
    assert second[4:] == ["–", "–", "–"]
    _, fgsm, _ = page.table("Attack budget")
    assert fgsm == ["fgsm", "8", "20 steps of 1/255", "all"]


def test_samples_are_below_their_headings(report):
    page = Page(report)
    header, row = page.table(EVIL)
    assert header == ["attack", "clean", "adversarial", "perturbation"]
    assert [text.strip() for text in row] == [
        "pgd L∞ 8, image 17",
        "label cat",
        "predicted <i>",
        "8.0",
    ]
    # One of each attack is shown, and the others are folded.
    assert "pgd L∞ 8, image 18" in report.split("<summary>Further examples")[1]


def test_the_markdown_has_the_verdict_and_the_tables(compare_results, make_result):
    (compared,) = compare_results(make_result(EVIL), make_result("b"))
    text = html.markdown("T", {"command": "x"}, [compared])
    assert text.index("No network differs significantly") < text.index("## Accuracy")
    assert text.endswith("## Facts\n\n- command: x\n")
    headings = set(tables.comparison(compared))
    assert len(headings) > 1
    assert headings <= {line.removeprefix("## ") for line in text.splitlines()}
    # The name contains the separator of markdown columns.
    table = [line for line in text.splitlines() if line.startswith("|")][:4]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}


def test_raised_checks_are_below_the_table(compare_results, make_result):
    checks = [
        {"name": "zero_gradients", "raised": True, "value": 0.1, "message": "zero"},
        {"name": "steps", "raised": False, "value": 0, "message": "fine"},
    ]
    (compared,) = compare_results(make_result("a", checks=checks))
    text = html.markdown("T", {}, [compared])
    assert "zero_gradients: zero" in text and "fine" not in text
    page = html.page("T", {}, [compared])
    assert "a: zero" in page and "fine" not in page


@pytest.mark.parametrize(
    ("label", "shown"), [(0, "cat"), (1, "dog"), (2, "2"), (-1, "-1")]
)
def test_classes_without_a_name_are_shown_as_numbers(
    label, shown, compare_results, make_result, make_sample
):
    sample = make_sample(norm="l2", eps=64.0, index=0, label=label, predicted=label)
    result = make_result("a", class_names=["cat", "dog"], samples=[sample])
    page = Page(html.page("T", {}, compare_results(result)))
    (row,) = page.table("a")[1:]
    assert row[0] == "pgd L2 64, image 0"
    assert [text.strip() for text in row[1:3]] == [
        f"label {shown}",
        f"predicted {shown}",
    ]


def test_many_classes_are_folded_and_the_frequent_confusions_listed(
    compare_results, make_result
):
    confusion = {str(i): {str(i): 5, "none": 1} for i in range(21)}
    confusion["3"]["7"] = 4
    page = html.page("T", {}, compare_results(make_result("a", confusion=confusion)))
    assert "<summary>Clean accuracy of each class in %, over all seeds: 21" in page
    rows = Page(page).table("Most frequent confusions of a")
    assert rows[1] == ["3", "7", "4"] and ["0", "none", "1"] in rows


def test_facts_name_the_models_where_they_differ(compare_results, make_result):
    results = make_result("a"), make_result("b", processor="brain")
    facts = html.facts_of(compare_results(*results))
    assert facts["machine"] == "abacus (a); brain (b)"
    assert facts["versions"] == "keras 3"
    assert facts["data"] == "digits, 20 images, standard protocol"
    assert facts["fingerprint of the images"] == "0123456789abcdef"
    assert facts["damped blocks with λ = 0"] == "a 1 of 2, b 1 of 2"


def test_blocks_without_damping_are_counted_by_seed(make_result, write_run, tmp_path):
    for seed, rates in enumerate(([0, 0], [0.5, 0], [0.5, 1])):
        result = make_result("a", **{"lambda": dict(zip(("one", "two"), rates))})
        write_run(tmp_path / f"s{seed}", result, seed)
    (compared,) = comparison.compare(measurements.read_measurements([tmp_path]))
    facts = html.facts_of([compared])
    assert facts["damped blocks with λ = 0"] == "a 2, 1 and 0 of 2"
    drawing = plots.drawings(compared)["lambda_by_depth"]
    assert drawing.heading == "λ by depth, first seed"


def test_drawings_show_the_cells(compare_results, make_result):
    (compared,) = compare_results(make_result("a"), make_result("b"))
    drawings = plots.drawings(compared)
    assert list(drawings) == [
        "accuracy_over_eps",
        "accuracy_over_severity",
        "trade_off",
        "lambda_by_depth",
    ]
    axes = drawings["accuracy_over_eps"].figure().axes
    assert [ax.get_title() for ax in axes] == ["worst", "fgsm", "pgd"]
    line = axes[1].get_lines()[0]
    assert list(line.get_xdata()) == [0, 8]
    assert list(line.get_ydata()) == pytest.approx([90, 60])
    (band, _) = axes[1].collections
    ends = sorted({round(y, 6) for x, y in band.get_paths()[0].vertices if x == 8})
    low, high = wilson(12, 20)
    assert [ends[0], ends[-1]] == pytest.approx([100 * low, 100 * high], abs=1e-4)
    (ax,) = drawings["trade_off"].figure().axes
    point = ax.containers[0].lines[0]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((90, 50))


def test_comparisons_are_written_separately(compare_results, make_result, tmp_path):
    other = make_result("b", dataset="mnist", fingerprint="other")
    results = make_result("a"), other
    parts = compare_results(*results, allow_different=True)
    path = html.write(tmp_path / "out", "tables", "T", {}, parts)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names >= {"tables.md", "trade_off_1.png", "trade_off_2.png"}
    page = Page(path.read_text())
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    sections = [section["id"] for section in page.all("section")]
    assert sections.index("attacks-1") < sections.index("accuracy-2")
    text = "".join(page.text)
    first, second = (text.index(part.title) for part in parts)
    assert first < second < len(text)
    markdown = (tmp_path / "out" / "tables.md").read_text()
    assert all(f"# {part.title}" in markdown for part in parts)


def test_certified_accuracy_is_drawn_with_the_attack(compare_results, certified_result):
    (compared,) = compare_results(certified_result("a"), certified_result("b", 4))
    drawing = plots.drawings(compared)["certified_over_radius"]
    assert drawing.heading == "Certified accuracy over radius"
    assert list(drawing.panels) == ["certified"]
    (ax,) = drawing.figure().axes
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


def test_curves_of_the_training_beside_a_result_are_shown(
    make_result, write_run, tmp_path
):
    rows = [
        {"epoch": i, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.4}
        | {"learning_rate": 0.1, "images_per_second": 1.0, "dead_blocks": 0}
        | {"lambda": {"one": 0.1 * i, "two": 0.2}}
        for i in (1, 2)
    ]
    run = write_run(tmp_path / "a", make_result("a"), seed=0)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (run / "metrics.jsonl").write_text(lines)
    alone, started = (
        write_run(tmp_path / name, make_result(name), seed=0) for name in "bc"
    )
    (started / "metrics.jsonl").touch()
    found = comparison.compare(measurements.read_measurements([run, alone, started]))
    histories = html.histories_of(found)
    assert histories == {"a": rows}
    page = Page(html.page("T", {}, found, histories))
    labels = [svg["aria-label"] for svg in page.all("svg") if "role" in svg]
    assert "a: λ over epoch; one from 0.1 to 0.2; two from 0.2 to 0.2" in labels
