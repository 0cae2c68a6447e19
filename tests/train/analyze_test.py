import json

import numpy as np
import PIL.Image
import pytest


def test_analyze(binary, saved, tmp_path, monkeypatch):
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
    summary = json.loads((folder / "analysis.json").read_text())
    assert summary["settings"]["rates"] == [] and summary["num_examples"] == 6
    assert "tensorflow" in summary["versions"]
    assert list(summary["analyses"]) == list(names)
    for name in names:
        assert f"\n| {name} " in out
        with PIL.Image.open(folder / f"{name}.png") as image:
            assert image.width > 500
        with np.load(folder / f"{name}.npz") as arrays:
            assert len(arrays.files) > 3
    with np.load(folder / "landscape.npz") as arrays:
        assert arrays["loss"].shape == (6, 3, 3)
        clean = summary["analyses"]["landscape"]["clean"]["loss"]
        assert arrays["mean_loss"][1, 1] == pytest.approx(clean)
    with np.load(folder / "lyapunov.npz") as arrays:
        assert arrays["names"][0] == "stage1_block1_merge"
        assert arrays["growth_pgd"].shape == (1, 6, 4)

    only = [f"--no{name}" for name in names if name != "gradients"]
    other = tmp_path / "other"
    arguments[-1] = f"--output_dir={other}"
    assert binary("analyze", *arguments, *only)[0] == 0
    written = {path.name for path in other.iterdir()}
    assert written == {"gradients.npz", "gradients.png", "analysis.json", "report.html"}

    def interrupted(*_):
        raise KeyboardInterrupt

    # An interrupted second analysis does not leave the numbers of the first.
    monkeypatch.setattr("inres_tf.plotting.save", interrupted)
    assert binary("analyze", *arguments, *only)[0] == 130
    written = {path.name for path in other.iterdir()}
    assert written == {"gradients.npz", "gradients.png"}
