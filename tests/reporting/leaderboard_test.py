import pathlib
import re

import pytest

from inres_tf.reporting import leaderboard, measurements
from inres_tf.reporting.statistics import wilson


@pytest.fixture
def entry(make_result):
    """Function that makes the entry of a model."""

    def make(model="a", training="", result=None, note="", **changes):
        result = result or make_result(model, **changes)
        run = measurements.measure(result, pathlib.Path("result.json"))
        return leaderboard.Entry(model, run, training, note)

    return make


def accuracies(rows, kind, ball=""):
    return {r.model: r.accuracy for r in rows if (r.kind, r.ball) == (kind, ball)}


def test_rows_are_sorted_from_the_best_within_each_ball(entry, certified_result):
    certified = [
        certified_result(model, certified=number)
        for model, number in (("a", 3), ("b", 12))
    ]
    entries = [entry(r["model"], result=r) for r in certified]
    rows = leaderboard.rank(entries)
    kinds = [row.kind for row in rows]
    assert kinds == sorted(kinds, key=list(leaderboard.KINDS).index)
    assert list(accuracies(rows, "certified", "L2 36/255").items()) == [
        ("b", 0.6),
        ("a", 0.15),
    ]
    # The attack beside certificates is an attack.
    assert accuracies(rows, "attacked", "L2 36/255") == {"a": 0.7, "b": 0.7}
    (row, _) = [r for r in rows if r.kind == "certified" and r.radius == 36]
    assert (row.low, row.high) == wilson(12, 20) and row.number == 20
    assert row.by == "lipschitz" and row.percent == "60.0 [38.7, 78.1]"


def test_the_lowest_accuracy_of_a_model_in_a_ball_is_kept(entry, answers):
    entries = [
        entry(attacks={(name, "linf", 8): answers(right)})
        for name, right in (("pgd", range(12)), ("autoattack", range(7)))
    ]
    for order in (entries, entries[::-1]):
        rows = leaderboard.rank(order)
        (row,) = [row for row in rows if row.kind == "attacked"]
        assert (row.accuracy, row.by, row.ball) == (0.35, "autoattack", "L∞ 8/255")


def test_other_corruptions_are_ranked_apart(entry, make_result):
    def corrupted(model, *names, **changes):
        result = make_result(model, **changes)
        shot = result["corruptions"]["shot_noise"]
        packed = [result["correct"][f"shot_noise {s}"] for s in "12"]
        result["corruptions"] = dict.fromkeys(names, shot)
        for name in names:
            result["correct"] |= {f"{name} {s}": p for s, p in zip("12", packed)}
        return entry(model, result=result)

    noise = ("speckle_noise", "gaussian_noise", "impulse_noise", "shot_noise")
    entries = [
        corrupted("a", "fog", "shot_noise"),
        corrupted("b", *noise),
        corrupted("c", "fog", corruption_source="folder:sets"),
        corrupted("d", *noise),
    ]
    rows = leaderboard.rank(entries)
    assert [(row.model, row.by) for row in rows if "corruptions" in row.by] == [
        ("c", "corruptions: fog of folder:sets"),
        ("a", "corruptions: fog, shot"),
        ("b", "corruptions: noise"),
        ("d", "corruptions: noise"),
    ]


def test_results_without_answers_are_ranked_by_each_attack(entry, make_old_result):
    rows = leaderboard.rank([entry(result=make_old_result("a"))])
    attacks = make_old_result("a")["attacks"]
    assert sorted(r.accuracy for r in rows if r.kind == "attacked") == sorted(
        min(a["accuracy"] for a in attacks if a["eps"] == eps)
        for eps in {a["eps"] for a in attacks}
    )


def test_other_images_are_another_section(entry):
    rows = leaderboard.rank([entry("a"), entry("b", fingerprint="fedcba9876543210")])
    assert len({row.images for row in rows}) == 2
    text = leaderboard.markdown(rows)
    first, second = (part for part in text.split("\n## ")[1:])
    assert "| a " in first and "| b " not in first
    assert "| b " in second and "| a " not in second


def test_checks_and_commands_are_listed(entry):
    check = {"name": "steps", "raised": True, "value": 1, "message": "more steps"}
    fine = {"name": "noise", "raised": False, "value": 0, "message": "fine"}
    one = entry("a", "python -m train.train", checks=[check, fine], command="evaluate")
    rows = leaderboard.rank([one, entry("b")])
    assert {row.checks for row in rows if row.model == "a"} == {("steps",)}
    text = leaderboard.markdown(rows)
    assert "- a: `evaluate`\n- a: `python -m train.train`" in text
    assert "noise" not in text
    page = leaderboard.page(rows)
    assert "python -m train.train" in page and "<td>steps</td>" in page


def test_the_page_is_self_contained_and_escapes_names(entry, tmp_path):
    rows = leaderboard.rank([entry("<b>&'\"", result=None), entry("b")])
    path = leaderboard.write(tmp_path, rows)
    page = path.read_text(encoding="utf-8")
    assert "<b>" not in page and "&lt;b&gt;&amp;" in page
    assert not re.search(r"""(src|href)=|url\(|@import""", page)
    assert page.count("<tr data-images") == len(rows)
    # Each filter offers the values that rows have.
    for name in ("images", "kind", "norm", "radius"):
        options = page.split(f'<select name="{name}">')[1].split("</select>")[0]
        offered = set(re.findall(r"<option>(.*?)</option>", options))
        values = set(re.findall(rf'data-{name}="(.*?)"', page)) - {""}
        assert offered == values != set()
    assert (tmp_path / "leaderboard.md").read_text() == leaderboard.markdown(rows)


def test_images_that_differ_from_those_published_are_named(entry):
    plain = entry("a", dataset="digits")
    noted = entry("b", dataset="photos", note="only cats & dogs")
    rows = leaderboard.rank([plain, noted, entry("c", dataset="photos")])
    text = leaderboard.markdown(rows)
    sentence = "These images differ from those published: only cats & dogs."
    assert text.count(sentence) == 1
    heading = next(row.images for row in rows if row.model == "b")
    assert heading.startswith("photos") and f"## {heading}\n\n{sentence}\n" in text
    page = leaderboard.page(rows)
    sentence = (
        "Images of photos that differ from those published: only cats &amp; dogs."
    )
    assert page.count(sentence) == 1
