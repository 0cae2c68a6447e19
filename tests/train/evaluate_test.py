import json
import os

from inres_tf import corruptions


def test_model_with_weights(binary, trained, tmp_path):
    path = tmp_path / "model.weights.h5"
    trained.save_weights(path)
    none = ["--attacks=none", "--corruptions=none", "--num_examples=50"]
    code, out, _ = binary("evaluate", "--model=in_resnet8", f"--weights={path}", *none)
    assert code == 0 and float(out.split("clean")[1].split()[0]) > 80


def test_resumes_after_ctrl_c(binary, saved, tmp_path, monkeypatch):
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
    corrupt, corrupted = corruptions.corrupt, []

    def interrupted(images, name, severity, seed):
        corrupted.append(name)
        if corrupted == ["contrast"] * 5 + ["fog"]:
            raise KeyboardInterrupt
        return corrupt(images, name, severity, seed)

    monkeypatch.setattr(corruptions, "corrupt", interrupted)
    code, out, err = binary("evaluate", *arguments)
    partial = f"{output}.partial"
    assert (code, out) == (130, "")
    assert err == (
        f"train.evaluate: interrupted; the same command resumes from {partial}\n"
    )
    assert not output.exists()
    code, out, err = binary("evaluate", *arguments)
    assert (code, err) == (0, "")
    # The finished corruption is not repeated.
    assert corrupted == ["contrast"] * 5 + ["fog"] * 6
    result = json.loads(output.read_text())
    assert list(result["corruptions"]) == ["contrast", "fog"]
    assert {path.name for path in tmp_path.iterdir()} == {"saved", "result.json"}


def test_terminal_without_greek_letters(process, saved, tmp_path):
    result = tmp_path / "result.json"
    arguments = ["--corruptions=none", "--attacks=fgsm", "--num_examples=9"]
    run = process(
        "train.evaluate",
        f"--checkpoint={saved}",
        f"--output={result}",
        *arguments,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0 and err == "" and "? = 8/255" in out
    assert json.loads(result.read_text())["num_examples"] == 9
