import os

import pytest

from inres_tf import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_atomic_writes_completely_or_not_at_all(kind, tmp_path):
    path = tmp_path / "parent" / "target"

    def write(target, text):
        if kind == "folder":
            target.mkdir()
            target = target / "part"
        target.write_text(text)

    def read():
        return (path / "part" if kind == "folder" else path).read_text()

    with files.atomic(path) as temporary:
        write(temporary, "one")
        assert not path.exists()
    assert read() == "one"
    with pytest.raises(RuntimeError), files.atomic(path) as temporary:
        write(temporary, "two")
        raise RuntimeError
    assert read() == "one" and names(path.parent) == ["target"]
    with files.atomic(path) as temporary:
        write(temporary, "three")
        assert read() == "one"
    assert read() == "three" and names(path.parent) == ["target"]


def test_atomic_keeps_the_old_folder_if_replacing_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "target"
    path.mkdir()
    (path / "part").write_text("one")

    def disk_full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    with (
        pytest.raises(OSError, match="No space"),
        files.atomic(path) as temporary,
    ):
        temporary.mkdir()
    assert (path / "part").read_text() == "one" and names(tmp_path) == ["target"]


def test_write_text_ignores_special_files_in_the_folder(tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "missing")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    files.write_text(tmp_path / "result.json", "λ")
    assert (tmp_path / "result.json").read_text(encoding="utf-8") == "λ"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_content_is_flushed_to_disk_before_it_gets_its_name(
    kind, tmp_path, monkeypatch
):
    """After a power cut a file must not be empty under its final name."""
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (events.append(os.fstat(fd).st_ino), fsync(fd))
    )
    monkeypatch.setattr(
        os, "replace", lambda *paths: (events.append("rename"), replace(*paths))
    )
    path = tmp_path / "target"
    with files.atomic(path) as temporary:
        if kind == "folder":
            temporary.mkdir()
            temporary = temporary / "part"
        temporary.write_text("content")
    written = path / "part" if kind == "folder" else path
    number = events.index("rename")
    assert written.stat().st_ino in events[:number]
    assert tmp_path.stat().st_ino in events[number:]
