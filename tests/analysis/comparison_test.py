import json
import shutil

import numpy as np
import pytest

import zoo
from inres_tf import analysis
from inres_tf.analysis import AnalysisConfig, comparison
from inres_tf.errors import UserError

_SETTINGS = {
    "num_examples": 3,
    "grid": 3,
    "steps": 1,
    "iterations": 1,
    "rates": (1.0,),
    "lipschitz": False,
    "gradients": False,
    "calibration": False,
}


@pytest.fixture(scope="module")
def folders(digits, damped, tmp_path_factory):
    """Analyses of a damped and of an undamped network, and variants of the latter."""
    root = tmp_path_factory.mktemp("analyses")
    undamped = zoo.ResNet8(input_shape=digits.shape)
    for name, model in (("in", damped), ("res", undamped)):
        folder = root / name / "analysis"
        analysis.analyze(model, digits, AnalysisConfig(**_SETTINGS), folder, False)
    for name, missing, key, value in (
        ("plane", ["lyapunov"], None, None),
        ("depth", ["landscape"], None, None),
        ("neither", ["lyapunov", "landscape"], None, None),
        ("far", [], "settings", {"eps": 3.0}),
        ("fewer", [], "num_examples", 2),
        ("others", [], "fingerprint", "0" * 16),
    ):
        folder = shutil.copytree(root / "res", root / name) / "analysis"
        file = folder / "analysis.json"
        summary = json.loads(file.read_text())
        for analysed in missing:
            del summary["analyses"][analysed]
            (folder / f"{analysed}.npz").unlink()
        if key:
            new = summary[key] | value if isinstance(value, dict) else value
            summary[key] = new
        file.write_text(json.dumps(summary))
    return {path.name: path / "analysis" for path in root.iterdir()}


def lines(ax):
    return [line.get_ydata() for line in ax.get_lines()]


@pytest.mark.long
def test_networks_are_drawn_together(folders):
    read = comparison.read([folders["in"], folders["res"]])
    assert list(read) == ["in", "res"]
    loss, accuracy, growth, rates = comparison.figure(read).axes
    for i, name in enumerate(("in", "res")):
        summary = json.loads((folders[name] / "analysis.json").read_text())["analyses"]
        points = summary["landscape"]
        ends = ["attack direction, -eps", "clean", "attack direction, +eps"]
        np.testing.assert_allclose(lines(loss)[i], [points[e]["loss"] for e in ends])
        np.testing.assert_allclose(
            lines(accuracy)[i], [100 * points[e]["accuracy"] for e in ends]
        )
        trained = summary["lyapunov"]["λ as trained"]
        pgd, random = lines(growth)[2 * i : 2 * i + 2]
        assert pgd[0] == random[0] == 1 and len(pgd) == 4
        assert pgd[-1] == pytest.approx(trained["median growth, PGD"])
        assert random[-1] == pytest.approx(trained["median growth, random"])
    damped, undamped = lines(rates)
    np.testing.assert_allclose(damped, 0.3, rtol=1e-6)
    assert np.isnan(undamped).all()
    (legend,) = comparison.figure(read).legends
    assert [text.get_text() for text in legend.get_texts()] == ["in", "res"]


def test_panels_without_values_are_left_out(folders):
    def labels(*names):
        figure = comparison.figure(comparison.read(folders[n] for n in names))
        return [ax.get_ylabel() for ax in figure.axes]

    plane = ["cross-entropy (nats)", "accuracy (%)"]
    growth = "growth of the difference (L2)"
    assert labels("plane") == plane
    assert labels("depth") == [growth]
    assert labels("plane", "depth") == [*plane, growth]


def test_what_cannot_be_compared_is_named(folders):
    for other, message in (
        ("far", r"far.analysis is not comparable with .*res.analysis: eps is 3.0"),
        ("fewer", "num_examples is 2 instead of 3"),
        ("others", "fingerprint is 0000000000000000 instead of"),
        ("neither", "neither.analysis holds neither a landscape nor growth"),
    ):
        with pytest.raises(UserError, match=message):
            comparison.read([folders["res"], folders[other]])


@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(("plane", key) for key in ("eps", "grid", "direction", "steps", "seed")),
        *(("depth", key) for key in ("eps", "steps", "seed")),
        ("plane", "dataset"),
    ],
)
def test_settings_that_the_arrays_depend_on_must_agree(part, key, folders, tmp_path):
    other = shutil.copytree(folders[part], tmp_path / "other")
    file = other / "analysis.json"
    summary = json.loads(file.read_text())
    holder = summary if key == "dataset" else summary["settings"]
    holder[key] = "changed"
    file.write_text(json.dumps(summary))
    with pytest.raises(UserError, match=f"{key} is changed instead of"):
        comparison.read([folders[part], other])


def test_settings_of_other_analyses_may_differ(folders, tmp_path):
    other = shutil.copytree(folders["depth"], tmp_path / "other")
    file = other / "analysis.json"
    summary = json.loads(file.read_text())
    summary["settings"] |= {"grid": 5, "rates": [2.0], "bins": 3}
    file.write_text(json.dumps(summary))
    assert len(comparison.read([folders["depth"], other])) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"dataset": "digits"}'])
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / "analysis.json").write_text(text)
    with pytest.raises(UserError, match="analysis.json is damaged"):
        comparison.read([tmp_path])


def test_names(folders, tmp_path):
    """Folders are named after themselves, their runs or, failing both, their paths."""
    for name in ("a/x/analysis", "b/x/analysis", "b/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(folders["depth"], target_is_directory=True)
    twice = [tmp_path / "a/x/analysis", tmp_path / "b/x/analysis"]
    assert list(comparison.read([folders["in"], folders["res"]])) == ["in", "res"]
    assert list(comparison.read([twice[0], tmp_path / "b/y"])) == ["analysis", "y"]
    assert list(comparison.read(twice)) == list(map(str, twice))
