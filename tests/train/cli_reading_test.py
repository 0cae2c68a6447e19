"""The binaries that read results or runs, or look at a model."""

import json

import numpy as np
import PIL.Image
import pytest

from inres_tf import corruptions


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


def test_compare(result_of, binary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attack = {"name": "pgd", "eps": 8.0, "steps": 20, "step_size": 1.0, "accuracy": 0.5}
    result_of(tmp_path / "one", attacks=[attack])
    result_of(tmp_path / "two", clean={"accuracy": 0.9})
    arguments = ("one", "new=two", "--baseline=new", "--title=Mine")
    code, out, err = binary("compare", *arguments)
    assert (code, err) == (0, "")
    assert {p.name for p in (tmp_path / "comparison").iterdir()} == {
        "comparison.json",
        "comparison.md",
        "report.html",
        "accuracy_over_eps.png",
    }
    text = (tmp_path / "comparison" / "comparison.md").read_text()
    assert out == f"{text}\nreport: comparison/report.html\n"
    assert text.startswith("# Mine\n") and "| new   | 90.0 [78.6, 95.7] |" in text
    assert "command: python -m train.compare one new=two --baseline=new" in text
    found = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    (one,) = found["comparisons"]
    assert one["baseline"] == "new" and one["num_examples"] == 50
    clean, pgd = one["models"]["a"]["accuracies"]
    assert (clean["mean"], pgd["mean"], pgd["strength"]) == (0.8, 0.5, 8.0)
    assert [round(pgd[k], 4) for k in ("low", "high")] == [0.3664, 0.6336]
    (difference,) = one["differences"]
    assert difference["model"] == "a" and round(difference["points"], 9) == -0.1


def test_analyze(binary, saved, tmp_path):
    folder = tmp_path / "deep" / "analysis"
    arguments = [
        f"--checkpoint={saved}",
        "--num_examples=6",
        "--eps=32",
        "--grid=3",
        "--steps=2",
        "--iterations=2",
        "--rates=none",
        "--corruptions=shot_noise",
        "--bins=4",
        f"--output_dir={folder}",
    ]
    names = ("landscape", "lyapunov", "lipschitz", "gradients", "calibration")
    code, out, err = binary("analyze", *arguments)
    assert code == 0 and err == "" and out.endswith(f"-> {folder}\n")
    assert "in_resnet8 on digits: 6 images" in out
    found = json.loads((folder / "analysis.json").read_text())
    assert found["settings"]["rates"] == [] and found["num_examples"] == 6
    assert "tensorflow" in found["versions"]
    assert list(found["analyses"]) == list(names)
    for name in names:
        assert f"\n| {name} " in out
        with PIL.Image.open(folder / f"{name}.png") as image:
            assert image.width > 500
        with np.load(folder / f"{name}.npz") as arrays:
            assert len(arrays.files) > 3
    with np.load(folder / "landscape.npz") as arrays:
        assert arrays["loss"].shape == (6, 3, 3)
        clean = found["analyses"]["landscape"]["clean"]["loss"]
        assert arrays["mean_loss"][1, 1] == pytest.approx(clean)
    with np.load(folder / "lyapunov.npz") as arrays:
        assert arrays["names"][0] == "stage1_block1_merge"
        assert arrays["growth_pgd"].shape == (1, 6, 4)

    only = [f"--no{name}" for name in names if name != "gradients"]
    other = tmp_path / "other"
    arguments[-1] = f"--output_dir={other}"
    assert binary("analyze", *arguments, *only)[0] == 0
    written = {path.name for path in other.iterdir()}
    assert written == {"gradients.npz", "gradients.png", "analysis.json"}


def test_evaluate_goes_on_after_ctrl_c(binary, saved, tmp_path, monkeypatch):
    output = tmp_path / "result.json"
    arguments = [
        f"--checkpoint={saved}",
        "--num_examples=20",
        "--corruptions=contrast,fog",
        "--attacks=fgsm",
        "--eps=16",
        "--check_examples=5",
        "--samples=1",
        f"--output={output}",
    ]
    honest, made = corruptions.corrupt, []

    def interrupted(images, name, severity, seed):
        made.append(name)
        if made == ["contrast"] * 5 + ["fog"]:
            raise KeyboardInterrupt
        return honest(images, name, severity, seed)

    monkeypatch.setattr(corruptions, "corrupt", interrupted)
    code, out, err = binary("evaluate", *arguments)
    partial = f"{output}.partial"
    assert (code, out) == (130, "")
    assert err == (
        f"train.evaluate: interrupted; the same command goes on from {partial}\n"
    )
    assert not output.exists()
    code, out, err = binary("evaluate", *arguments)
    assert (code, err) == (0, "")
    # What was finished is not made again.
    assert made == ["contrast"] * 5 + ["fog"] * 6
    result = json.loads(output.read_text())
    assert list(result["corruptions"]) == ["contrast", "fog"]
    assert {path.name for path in tmp_path.iterdir()} == {"saved", "result.json"}
