import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest

from inres_tf.errors import UserError
from inres_tf.evaluation import results
from inres_tf.reporting import comparison, html, measurements, tables
from inres_tf.reporting.measurements import CLEAN
from inres_tf.reporting.statistics import holm, wilson

NUMBER = 20
FLAGS = {"model": "x", "epochs": 3, "output_dir": "anywhere"}


def some(*right):
    """Answers of which those of the given images, or the first ones, are right."""
    answers = np.zeros(NUMBER, bool)
    answers[list(range(right[0])) if len(right) == 1 else list(right)] = True
    return answers


def png():
    file = io.BytesIO()
    PIL.Image.new("L", (2, 2)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def result(model="a", clean=None, noise=None, attacks=None, **changes):
    """A result file made of answers: by severity, and by (name, norm, ε)."""
    clean = some(18) if clean is None else clean
    noise = {"1": some(16), "2": some(10)} if noise is None else noise
    if attacks is None:
        attacks = {("fgsm", "linf", 8): some(12), ("pgd", "linf", 8): some(10)}
    correct = {"clean": clean}
    correct |= {f"shot_noise {s}": answers for s, answers in noise.items()}
    by_severity = {s: float(answers.mean()) for s, answers in noise.items()}
    by_severity["mean"] = float(np.mean(list(by_severity.values())))
    rows = []
    for (name, norm, eps), answers in attacks.items():
        row = {"name": name, "eps": float(eps), "norm": norm, "steps": 20}
        row |= {"step_size": 1.0, "restarts": 1, "accuracy": float(answers.mean())}
        correct[results.attack_key(row)] = answers
        rows.append(row)
    found = {
        "model": model,
        "dataset": "digits",
        "num_examples": NUMBER,
        "protocol": "standard",
        "seed": 0,
        "fingerprint": "0123456789abcdef",
        "clean": {"accuracy": float(clean.mean())},
        "corruption_source": "generated",
        "corruptions": {"shot_noise": by_severity},
        "attacks": rows,
        "correct": {key: results.pack(value) for key, value in correct.items()},
        "checks": [],
        "lambda": {"one": 0.25, "two": 0.0},
        "versions": {"keras": "3"},
        "processor": "abacus",
    }
    return {k: v for k, v in (found | changes).items() if v is not None}


def old(model="a", **changes):
    """A result as before answers, fingerprints, norms and restarts were written."""
    new = dict.fromkeys(("correct", "fingerprint", "checks", "corruption_source"))
    found = result(model, **new | changes)
    for row in found["attacks"]:
        del row["norm"], row["restarts"]
    return found


def write(folder, content, seed=None, **flags):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(content))
    if seed is not None:
        config = {"flags": FLAGS | {"seed": seed} | flags, "seed": seed}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def compared(*contents, tmp_path, **settings):
    paths = [write(tmp_path / str(i), c) for i, c in enumerate(contents)]
    return comparison.compare(measurements.read_measurements(paths), **settings)


def by_heading(found, model):
    return {
        c.heading: found.cell(model, c) for c in found.columns if found.cell(model, c)
    }


def test_single_networks_have_wilsons_interval_and_the_worst_case(tmp_path):
    fgsm, pgd = some(0, 1, 2, 3, 4, 19), some(1, 2, 3, 4, 5)
    attacks = {("fgsm", "linf", 8): fgsm, ("pgd", "linf", 8): pgd}
    attacks[("pgd", "l2", 64)] = some(7)
    (found,) = compared(result(attacks=attacks), tmp_path=tmp_path)
    cells = by_heading(found, "a")
    # Images 1 to 4 survive both; 19 and 18 are wrong from the beginning.
    for heading, right in (
        ("clean", 18),
        ("fgsm 8", 6),
        ("pgd 8", 5),
        ("worst 8", 4),
        ("worst L2 64", 7),
        ("shot", 13),
        ("mCA", 13),
        ("shot 2", 10),
    ):
        cell = cells[heading]
        assert cell.accuracies == (right / NUMBER,), heading
        assert (cell.low, cell.high) == pytest.approx(wilson(right, NUMBER)), heading
    (header, rows), *_ = tables.comparison(found).values()
    assert header == ["model", "clean", "mCA", "worst 8", "worst L2 64"]
    # (0.9 + z²/40 ± z √(0.9 · 0.1 / 20 + z²/1600)) / (1 + z²/20)
    assert rows[0][:2] == ["a", "90.0 [69.9, 97.2]"]


def test_an_image_that_is_wrong_unattacked_does_not_survive(tmp_path):
    attacks = {("pgd", "linf", 8): some(3, 19)}
    (found,) = compared(result(attacks=attacks), tmp_path=tmp_path)
    cells = by_heading(found, "a")
    assert cells["pgd 8"].mean == 2 / NUMBER and cells["worst 8"].mean == 1 / NUMBER


def test_seeds_are_one_row_with_their_deviation(tmp_path):
    for seed, right in ((3, 16), (1, 18)):
        write(tmp_path / f"a-seed{seed}", result(clean=some(right)), seed)
    (found,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert [run.seed for run in found.models["a"]] == [1, 3]
    cell = found.cell("a", CLEAN)
    assert cell.accuracies == (0.9, 0.8)
    deviation = np.std([0.9, 0.8], ddof=1)
    expected = (0.85 - deviation, 0.85 + deviation)
    assert (cell.low, cell.high) == pytest.approx(expected)
    assert tables.comparison(found)["Accuracy in %"][1][0][1] == "85.0 ± 7.1"


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({}, "no config.json of its training lies beside each"),
        ({"seed": 0}, "their seeds are 0, 0"),
        ({"seed": 1, "epochs": 9}, "they were trained with different --epochs"),
    ],
)
def test_what_are_no_seeds_of_one_model_is_told_apart(second, why, tmp_path):
    write(tmp_path / "one", result(), 0)
    write(tmp_path / "two", result(), **second)
    (found,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert list(found.models) == ["a (one)", "a (two)"]
    assert found.notes[0] == f"The results of a are not taken for seeds of one: {why}."


def test_where_a_run_was_trained_does_not_matter(tmp_path):
    write(tmp_path / "one", result(), 0)
    write(tmp_path / "two", result(), 1, output_dir="elsewhere")
    (found,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert list(found.models) == ["a"]


def test_runs_are_named(tmp_path):
    one = write(tmp_path / "deep" / "one", result("a"))
    two = write(tmp_path / "deep" / "two", result("b"))
    (tmp_path / "c=d.json").write_text(json.dumps(result("c")))

    def names(*arguments):
        return [run.name for run in measurements.read_measurements(arguments)]

    assert names(one, f"new={two / 'evaluation.json'}") == ["a", "new"]
    assert names(f"my={tmp_path}") == ["my a", "my b"]
    assert names(tmp_path / "c=d.json") == ["c"]
    assert names(one, one / "evaluation.json", tmp_path) == ["a", "b"]


def test_differences_are_tested_image_by_image(tmp_path):
    base = result("base", clean=some(12))
    other = result("other", clean=some(*range(3), *range(5, 20)))
    (found,) = compared(base, other, tmp_path=tmp_path)
    row = {d.column.heading: d for d in found.differences}["clean"]
    assert (row.model, row.better, row.worse) == ("other", 8, 2)
    assert row.points == pytest.approx(6 / 20)
    # 2 (C(10, 0) + C(10, 1) + C(10, 2)) / 2^10
    assert row.p == pytest.approx(112 / 1024)
    adjusted = [d.adjusted for d in found.differences]
    assert adjusted == pytest.approx(holm([d.p for d in found.differences]))
    assert {d.column.heading for d in found.differences} == {
        "clean",
        "mCA",
        "worst 8",
        "shot",
        "fgsm 8",
        "pgd 8",
    }
    title = "Differences from base on the same images"
    header, rows = tables.comparison(found)[title]
    assert header[2:] == ["points", "better on", "worse on", "p", "p (Holm)"]
    # worst 8 differs on three images that are now wrong unattacked.
    line = ["other", "clean", "+30.0", "8", "2", "0.109", f"{adjusted[0]:.3f}"]
    assert rows[0] == line


def test_a_mean_over_sets_takes_each_image_once(tmp_path):
    noises = ({"1": some(10), "2": some(10)}, {"1": some(4), "2": some(12)})
    base, other = (result(str(i), noise=noise) for i, noise in enumerate(noises))
    (found,) = compared(base, other, tmp_path=tmp_path)
    row = {d.column.heading: d for d in found.differences}["shot"]
    # Worse on images 4 to 9, better on 10 and 11.
    assert (row.better, row.worse, row.points) == (2, 6, pytest.approx(-0.1))


def test_the_baseline_is_chosen(tmp_path):
    (found,) = compared(result("a"), result("b"), tmp_path=tmp_path, baseline="b")
    assert found.baseline == "b" and {d.model for d in found.differences} == {"a"}
    with pytest.raises(UserError, match="--baseline=c is none of a, b"):
        compared(result("a"), result("b"), tmp_path=tmp_path, baseline="c")


def test_unequal_numbers_of_seeds_have_no_test(tmp_path):
    write(tmp_path / "a-seed0", result("a"), 0)
    write(tmp_path / "b-seed0", result("b", clean=some(10)), 0)
    write(tmp_path / "b-seed1", result("b", clean=some(14)), 1)
    (found,) = comparison.compare(measurements.read_measurements([tmp_path]))
    row = found.differences[0]
    assert row.points == pytest.approx(0.6 - 0.9) and row.p is row.adjusted is None
    assert "b has 2 seeds and a 1: differences without a test." in found.notes
    write(tmp_path / "a-seed1", result("a"), 1)
    (found,) = comparison.compare(measurements.read_measurements([tmp_path]))
    # Images 0 to 9 are right under all seeds; 10 to 13 under one, 14 to 17 under none.
    row = found.differences[0]
    assert (row.better, row.worse) == (0, 8) and row.p == pytest.approx(2 / 2**8)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"dataset": "mnist"}, "dataset digits and mnist"),
        ({"protocol": "paper"}, "protocol standard and paper"),
        (
            {"fingerprint": "f" * 16},
            "images, by fingerprint 0123456789abcdef and ffffffffffffffff",
        ),
    ],
)
def test_what_is_not_comparable_is_refused_or_stands_apart(changes, what, tmp_path):
    contents = result("a"), result("b", **changes), result("c")
    files = [tmp_path / str(i) / "evaluation.json" for i in range(2)]
    with pytest.raises(UserError) as error:
        compared(*contents, tmp_path=tmp_path)
    assert str(error.value).startswith(
        f"{files[0]} and {files[1]} cannot stand in one table: {what};"
    )
    first, second = compared(*contents, tmp_path=tmp_path, allow_different=True)
    assert list(first.models) == ["a", "c"] and list(second.models) == ["b"]
    assert not second.differences
    text = html.markdown("T", {}, [first, second])
    assert f"# {second.title}" in text


def test_numbers_of_images_must_agree(tmp_path):
    other = old("b", num_examples=30)
    with pytest.raises(UserError, match="num_examples 20 and 30"):
        compared(old("a"), other, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"steps": 50}, "50 steps of 1/255"),
        ({"step_size": 2.0}, "20 steps of 2/255"),
        ({"step_size": None}, "20 steps"),
        ({"restarts": 5}, "20 steps of 1/255, 5 restarts"),
    ],
)
def test_attacks_of_other_settings_share_no_column(changes, settings, tmp_path):
    other = result("b")
    other["attacks"][1] |= changes
    (found,) = compared(result("a"), other, tmp_path=tmp_path)
    header, rows = tables.comparison(found)["Attacks: accuracy in %, by ε in 1/255"]
    theirs = f"pgd 8 ({settings})"
    assert header[2:] == ["fgsm 8", "pgd 8 (20 steps of 1/255)", theirs]
    assert [row[3:].index("–") for row in rows] == [1, 0]
    headings = {d.column.heading for d in found.differences}
    assert headings == {"clean", "mCA", "shot", "fgsm 8"}
    note = "Evaluated with different settings, a column for each: worst 8, pgd 8."
    assert note in found.notes
    curves = found.curves("attack")
    assert {title: list(models) for title, models in curves.items()} == {
        "fgsm": ["a", "b"],
        "pgd": ["a"],
        f"pgd ({settings})": ["b"],
    }


def test_another_norm_is_another_attack(tmp_path):
    other = result("b", attacks={("pgd", "l2", 8): some(9)})
    (found,) = compared(result("a"), other, tmp_path=tmp_path)
    headings = [c.heading for c in found.columns if c.group == "attack"]
    assert headings == ["fgsm 8", "pgd 8", "pgd L2 8"]


def test_corruptions_from_elsewhere_share_no_column(tmp_path):
    other = result("b", corruption_source="cifar10_corrupted")
    (found,) = compared(result("a"), other, tmp_path=tmp_path)
    assert not {"mCA", "shot"} & {d.column.heading for d in found.differences}
    labels = [found.label(c) for c in found.columns if c.group == "corruption"]
    assert labels == [
        "shot (generated, severities 1, 2)",
        "shot (cifar10_corrupted, severities 1, 2)",
    ]


def test_the_mean_corruption_error_has_no_interval_and_no_test(tmp_path):
    (found,) = compared(result("a", mce=1.05), result("b", mce=0.8), tmp_path=tmp_path)
    header, rows = tables.comparison(found)["Accuracy in %"]
    assert [row[header.index("mCE")] for row in rows] == ["105.0", "80.0"]
    assert "mCE" not in {d.column.heading for d in found.differences}


def test_older_files_have_what_can_be_computed(tmp_path):
    (found,) = compared(result("a"), old("b"), tmp_path=tmp_path)
    assert "worst 8" in by_heading(found, "a")
    assert "worst 8" not in by_heading(found, "b")
    rows = {d.column.heading: d for d in found.differences}
    assert rows["pgd 8"].points == 0 and rows["pgd 8"].p is None
    (note,) = found.notes
    assert note.startswith("b comes from an older version: that its images are those")
    assert "it has no worst case" in note


def test_checks_that_were_raised_are_below_the_table(tmp_path):
    checks = [
        {"name": "zero_gradients", "raised": True, "value": 0.1, "message": "blind"},
        {"name": "steps", "raised": False, "value": 0, "message": "fine"},
    ]
    write(tmp_path / "a", result("a", checks=checks), seed=4)
    (found,) = comparison.compare(measurements.read_measurements([tmp_path]))
    assert found.raised == ["a, seed 4: zero_gradients: blind"]
    for text in (html.markdown("T", {}, [found]), html.page("T", {}, [found])):
        assert "zero_gradients: blind" in text and "fine" not in text


def damaged():
    return {
        "no number": ({"clean": {"accuracy": "high"}}, "not supported"),
        "too much": ({"clean": {"accuracy": 1.5}}, "accuracy 1.5 of clean"),
        "nan": ({"clean": {"accuracy": float("nan")}}, "accuracy nan of clean"),
        "no eps": ({"attacks": [{"name": "pgd"}]}, "it lacks 'eps'"),
        "no mean": ({"corruptions": {"fog": {"1": 0.5}}}, "it lacks 'mean'"),
        "short": ({"correct": {"clean": "AAA="}}, "16 answers packed, of 20 images"),
        "other answers": (
            {"clean": {"accuracy": 0.5}},
            "its answers give clean an accuracy of 0.9, and it says 0.5",
        ),
        "list": ({"corruptions": [1]}, "no attribute"),
        "sample": ({"samples": [{"clean": "<script>"}]}, "base64"),
        "images": ({"num_examples": 0}, "num_examples is 0"),
        "λ": ({"lambda": {"one": "high"}}, "str"),
    }


@pytest.mark.parametrize("case", damaged())
def test_damaged_files_are_said_in_one_line(case, tmp_path):
    changes, message = damaged()[case]
    run = write(tmp_path / "run", result() | changes)
    with pytest.raises(UserError) as error:
        measurements.read_measurements([run])
    text = str(error.value)
    assert text.startswith(f"{run / 'evaluation.json'} is damaged: "), text
    assert message in text
    assert "\n" not in text


def test_what_is_no_result_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no result file .*none"):
        measurements.read_measurements([tmp_path / "none"])
    with pytest.raises(UserError, match="holds no evaluation.json"):
        measurements.read_measurements([tmp_path])
    with pytest.raises(UserError, match="'name=' is not NAME=RUN"):
        measurements.read_measurements(["name="])
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="is no result of train.evaluate"):
        measurements.read_measurements([tmp_path / "x.json"])


class Parsed(HTMLParser):
    """Checks that what is opened is closed; gathers tags, links and text."""

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


def test_the_page_stands_alone_and_escapes_names(tmp_path):
    sample = {"attack": "pgd", "norm": "linf", "eps": 8.0, "index": 17, "label": 0}
    sample |= {"predicted": 1, "largest": 8.0}
    sample |= dict.fromkeys(("clean", "adversarial", "perturbation"), png())
    evil = "<b>&'\"|"
    contents = result(evil, samples=[sample], class_names=["cat", "<i>"]), result("b")
    (found,) = compared(*contents, tmp_path=tmp_path)
    page = html.page(evil, {"command": evil}, [found])
    parsed = Parsed(page)
    assert not {"b", "i", "script", "link", "iframe"} & set(parsed.tags)
    # worst, fgsm, pgd; shot; one trade-off; λ; and the sample's three.
    svgs = [x for x in parsed.links if x.startswith("data:image/svg+xml;base64,")]
    pngs = [x for x in parsed.links if x.startswith("data:image/png;base64,")]
    assert len(svgs) == 6 and pngs == [f"data:image/png;base64,{png()}"] * 3
    assert len(svgs) + len(pngs) == len(parsed.links)
    assert "@import" not in page and "url(" not in page
    assert parsed.text.count(evil) >= 4
    shown = {"pgd L∞ 8, image 17", "label cat", "taken for <i>", "8.0"}
    assert shown <= set(parsed.text)
    assert "90.0 [69.9, 97.2]" in parsed.text
    # A name may hold the character that divides columns.
    lines = html.markdown("T", {}, [found]).splitlines()
    table = [line for line in lines if line.startswith("|")][:4]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}


def test_facts_say_whose_machine_it_was(tmp_path):
    contents = result("a"), result("b", processor="brain")
    facts = html.facts_of(compared(*contents, tmp_path=tmp_path))
    assert facts["machine"] == "abacus (a); brain (b)"
    assert facts["versions"] == "keras 3"
    assert facts["data"] == "digits, 20 images, standard protocol"
    assert facts["damped blocks with λ = 0"] == "a 1 of 2, b 1 of 2"


def test_plots_show_the_cells(tmp_path):
    (found,) = compared(result("a"), result("b"), tmp_path=tmp_path)
    drawings = html._drawings(found)
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
    one = draw({k: {"b": v["b"]} for k, v in panels.items()})
    color = one.axes[0].containers[0].lines[0].get_color()
    assert color == ax.containers[1].lines[0].get_color()


def test_what_stands_apart_has_plots_of_its_own(tmp_path):
    contents = result("a"), result("b", dataset="mnist")
    parts = compared(*contents, tmp_path=tmp_path, allow_different=True)
    path = html.write(tmp_path / "out", "tables", "T", {}, parts)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names >= {"tables.md", "trade_off_1.png", "trade_off_2.png"}
    text = "".join(Parsed(path.read_text()).text)
    first, second = (text.index(part.title) for part in parts)
    assert first < second < len(text)
