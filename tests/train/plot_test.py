import json

import numpy as np
import PIL.Image


def test_plot(run_of, binary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        run_of(tmp_path / "runs" / name)
    for arguments, output in (
        ((), "runs/metrics.png"),
        (("runs/a",), "runs/a/metrics.png"),
        (("runs/b/metrics.jsonl",), "runs/b/metrics.png"),
        (("runs/a", "runs/b"), "metrics.png"),
        (("runs/b", "--output=deep/b.svg"), "deep/b.svg"),
    ):
        code, out, err = binary("plot", *arguments)
        assert (code, out, err) == (0, f"{output}\n", ""), arguments
        if output.endswith(".svg"):
            assert "<svg" in (tmp_path / output).read_text()
        else:
            with PIL.Image.open(tmp_path / output) as image:
                assert image.width > 1000 and image.height > 500


def test_analyses_together(run_of, binary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path / "runs" / "a")
    steps = np.array([-1.0, 0, 1])
    for name in ("a", "b"):
        folder = tmp_path / "runs" / name / "analysis"
        folder.mkdir(parents=True)
        loss = np.ones((2, 3, 3))
        np.savez(
            folder / "landscape.npz",
            steps=steps,
            loss=loss,
            correct=loss > 0,
            direction="sign",
        )
        summary = {
            "dataset": "digits",
            "num_examples": 2,
            "analyses": {"landscape": {}},
            "settings": {
                "eps": 1,
                "grid": 3,
                "direction": "sign",
                "steps": 20,
                "seed": 0,
            },
        }
        (folder / "analysis.json").write_text(json.dumps(summary))
    both = ("runs/a/analysis", "runs/b/analysis")
    for arguments, output in (
        (both, "analyses.png"),
        (both[:1], "runs/a/analysis/analyses.png"),
        ((*both, "--output=both.svg"), "both.svg"),
    ):
        assert binary("plot", *arguments) == (0, f"{output}\n", ""), arguments
        assert (tmp_path / output).is_file()
    code, _, err = binary("plot", "runs/b/analysis", "runs/a")
    assert code == 1 and "runs/b/analysis is an analysis but runs/a is not" in err
