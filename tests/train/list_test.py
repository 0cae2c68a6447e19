import json

import pytest

import zoo
from zoo import cards


def test_prints_the_descriptions_of_the_zoo(binary):
    code, out, _ = binary("list", "--models=in_resnet*, resnet50v2")
    assert code == 0
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in out.splitlines()]
    names = [row[0] for row in rows[2:]]
    assert names[:3] == ["in_resnet8", "in_resnet20", "in_resnet32"]
    assert set(names) == {
        n for n in zoo.list_models() if n.startswith("in_resnet") or n == "resnet50v2"
    }
    assert rows[3][1:4] == ["273,856", "0.08", "6 of 9"]
    assert rows[-1][0] == "resnet50v2" and rows[-1][-1] == "imagenet"

    code, out, _ = binary("list", "--models=resnet8", "--json")
    assert json.loads(out) == json.loads(json.dumps(zoo.describe("resnet8")))
    code, out, _ = binary("list")
    assert out.count("\n") == len(zoo.list_models()) + 2


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("inresnet20", "--models must name a model of the zoo, such as in_resnet20"),
        ("vgg*", "--models=vgg* matches no model of the zoo"),
        (",", "--models must name at least one model"),
    ],
)
def test_unknown_models(models, message, binary):
    code, out, err = binary("list", f"--models={models}")
    assert code == 1 and not out and message in err and err.count("\n") == 1


def test_shipped_tables(binary, monkeypatch):
    """Most images count; means and worst cases stand for single rows."""

    def card(model, weights, raised, *rows):
        keys = "column", "images", "accuracy"
        summary = [dict(zip(keys, row)) for row in rows]
        dataset = {"name": weights, "note": "only cats" if weights == "a" else ""}
        content = {"model": model, "weights": weights, "summary": summary}
        content["dataset"] = dataset
        return (model, weights), content | {"raised_checks": raised}

    clean = ("clean", 1000, 0.5), ("clean", 9000, 0.877), ("clean", 20, 0.25)
    noise = ("gaussian", 1000, 0.3), ("mCA", 1000, 0.25)
    attacks = ("pgd 8", 1000, 0.02), ("worst 8", 1000, 0.01), ("pgd L2 9", 20, 0.5)
    strong = ("autoattack 8", 20, 1.0), ("certified 9", 20, 0)
    shelf = [
        card("resnet20", "digits", ["step_size", "noise"], *clean, *noise, *attacks),
        card("resnet8", "digits", [], ("clean", 9, 0.75), *strong),
        card("resnet8", "a", [], ("clean", 5, 0.2)),
    ]
    monkeypatch.setattr(cards, "shipped_cards", lambda: dict(shelf))
    code, out, _ = binary("list", "--shipped")
    assert code == 0
    tables = [part.splitlines() for part in out.split("### ")[1:]]
    assert [table[0] for table in tables] == ['`weights="a"`', '`weights="digits"`']
    note = "Test images of a; they differ from those published: only cats."
    assert [table[2] for table in tables] == [note, "Test images of digits."]
    cells = [[cell.strip() for cell in line.split("|")] for line in tables[1][4:]]
    names = ["model", "clean", "autoattack 8", "certified 9", "mCA", "worst 8"]
    assert cells[0][1:-1] == [*names, "checks raised"]
    assert cells[2][1:-1] == ["resnet8", "75.0", "100.0", "0.0", "", "", "-"]
    expected = ["resnet20", "87.7", "", "", "25.0", "1.0", "step_size, noise"]
    assert cells[3][1:-1] == expected
    assert "resnet20" not in binary("list", "--shipped", "--models=resnet8")[1]
