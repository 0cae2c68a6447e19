import json

import zoo


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
    summary = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    (comparison,) = summary["comparisons"]
    assert comparison["baseline"] == "new" and comparison["num_examples"] == 50
    clean, pgd = comparison["models"]["a"]["accuracies"]
    assert (clean["mean"], pgd["mean"], pgd["strength"]) == (0.8, 0.5, 8.0)
    assert [round(pgd[k], 4) for k in ("low", "high")] == [0.3664, 0.6336]
    (difference,) = comparison["differences"]
    assert difference["model"] == "a" and round(difference["points"], 9) == -0.1


def test_the_undamped_network_is_the_baseline(result_of, binary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result_of(tmp_path / "in_resnet20", **{"lambda": {"one": 0.2}})
    result_of(tmp_path / "resnet20", **{"lambda": {}})
    names = ("in_resnet20", "resnet20")
    code, out, _ = binary("compare", *(f"{name}={name}" for name in names))
    assert code == 0
    assert out.index("| resnet20 ") < out.index("| in_resnet20 ")
    summary = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    assert summary["comparisons"][0]["baseline"] == "resnet20"


def test_results_on_different_images_need_a_flag(
    result_of, binary, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result_of(tmp_path / "one", dataset="digits")
    result_of(tmp_path / "two", dataset="cifar10")
    code, _, err = binary("compare", "one", "two")
    assert code == 1 and "--allow_different" in err
    code, out, _ = binary("compare", "one", "two", "--allow_different")
    assert code == 0 and "digits" in out and "cifar10" in out


def test_a_process_prints_no_notices_of_tensorflow(process, result_of, tmp_path):
    result_of(tmp_path / "one")
    run = process("train.compare", tmp_path / "one", f"--output_dir={tmp_path}/out")
    out, err = run.communicate(timeout=600)
    assert (run.returncode, err) == (0, "") and "report:" in out


def test_leaderboard_of_the_cards_with_own_results(result_of, binary, tmp_path):
    code, out, err = binary("compare", "--cards", f"--output_dir={tmp_path}/out")
    assert (code, err) == (0, "")
    text = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    assert out == f"{text}\npage: {tmp_path}/out/leaderboard.html\n"
    card = zoo.card("cpl_tiny", "mnist")
    like = {k: card["evaluations"][0][k] for k in ("dataset", "num_examples")}
    like |= {"fingerprint": card["evaluations"][0]["fingerprint"]}
    result_of(tmp_path / "mine", clean={"accuracy": 0.999}, **like)
    code, out, _ = binary(
        "compare", "--cards", f"new={tmp_path}/mine", f"--output_dir={tmp_path}/out"
    )
    assert code == 0
    section = out.split("## mnist")[1].split("### Clean and corrupted images")[1]
    assert section.index("| new") < section.index("| node_tiny (mnist)")
    code, _, err = binary("compare", "--cards", "--baseline=resnet20")
    assert code == 1 and err.endswith("--baseline does not apply to --cards\n")


def test_own_results_of_the_same_name_are_not_mixed(result_of, binary, tmp_path):
    """The leaderboard keeps the lowest accuracy of one model only."""
    for folder, accuracy in (("one", 0.8), ("two", 0.9)):
        result_of(tmp_path / folder, clean={"accuracy": accuracy})
    runs = [str(tmp_path / folder) for folder in ("one", "two")]
    code, out, _ = binary("compare", "--cards", *runs, f"--output_dir={tmp_path}/out")
    assert code == 0
    for run, accuracy in zip(runs, ("80.0", "90.0")):
        (row,) = [line for line in out.splitlines() if f"({run}/" in line]
        assert f"| {accuracy} [" in row
