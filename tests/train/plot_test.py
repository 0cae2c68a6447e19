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
