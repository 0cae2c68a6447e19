import json

import pytest

import zoo


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
