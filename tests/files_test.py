import doctest
import errno
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading

import pytest

from inres_tf import class_names, digests, files
from inres_tf.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


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


def test_ctrl_c_between_renaming_the_old_folder_and_the_new(tmp_path, monkeypatch):
    path = tmp_path / "target"
    path.mkdir()
    (path / "part").write_text("one")
    rename = pathlib.Path.rename

    def interrupted(self, target):
        rename(self, target)
        if target.name.startswith(".old"):
            raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), files.atomic(path) as temporary:
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


@pytest.mark.parametrize("module", [files, digests, class_names])
def test_examples_of_the_lowest_level_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testmod(module, optionflags=flags)
    assert tried and not failed


def test_an_existing_file_keeps_its_mode_and_a_link_its_target(tmp_path):
    target, link = tmp_path / "far" / "result.json", tmp_path / "link.json"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    files.write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.unlink()  # a link to a file that does not exist yet
    files.write_text(link, "again")
    assert link.is_symlink() and target.read_text() == "again"
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o750)
    with files.atomic(folder) as temporary:
        temporary.mkdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert names(tmp_path) == ["far", "folder", "link.json"]


def test_pipes_and_descriptors_are_written_to_and_not_replaced(tmp_path):
    pipe, link, read = tmp_path / "pipe.json", tmp_path / "link.json", []
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
        reader.start()
        files.write_json(path, {"a": 1})
        reader.join()
        assert stat.S_ISFIFO(pipe.stat().st_mode) and link.is_symlink()
    assert [json.loads(text) for text in read] == [{"a": 1}] * 2
    # As /dev/stdout of a command whose output goes to a file.
    with open(tmp_path / "log", "w") as log:
        log.write("before\n")
        log.flush()
        path = f"/proc/self/fd/{log.fileno()}"
        assert files.is_stream(path)
        files.write_text(path, "result\n")
        log.write("after\n")
    assert (tmp_path / "log").read_text() == "before\nresult\nafter\n"
    assert names(tmp_path) == ["link.json", "log", "pipe.json"]
    assert not files.is_stream(tmp_path / "log") and not files.is_stream(tmp_path)
    assert not files.is_stream(tmp_path / "missing")


def test_numbers_that_are_not_finite_are_null(tmp_path):
    nan, inf = float("nan"), float("inf")
    value = {"a": nan, "b": [inf, -inf, 1.5], "c": (True, None, "NaN", 3)}
    files.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()

    def refuse(word):
        raise AssertionError(word)

    assert json.loads(text, parse_constant=refuse) == {
        "a": None,
        "b": [None, None, 1.5],
        "c": [True, None, "NaN", 3],
    }


def test_paths_below_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert files.expand("~/runs") == "/home/ada/runs"
    assert files.expand("folder:~/photos") == "folder:/home/ada/photos"
    assert files.expand("runs/~") == "runs/~" and files.expand("cifar10") == "cifar10"


HOLD = """
import sys, time
from inres_tf import files
with files.lock(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_folder_has_one_process_until_that_ends(tmp_path):
    folder = tmp_path / "new" / "run"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout.readline() == b"locked\n"
            with (
                pytest.raises(UserError, match=rf"in use by process {process.pid} on"),
                files.lock(folder),
            ):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
    assert names(folder)  # what the killed process left does not block
    with files.lock(folder):
        (folder / "result").write_text("")
    assert names(folder) == ["result"]


def test_a_folder_in_which_nothing_was_written_is_removed(tmp_path):
    with pytest.raises(RuntimeError), files.lock(tmp_path / "run"):
        raise RuntimeError
    assert not (tmp_path / "run").exists()


def test_files_that_cannot_be_created(tmp_path):
    files.check_creatable(tmp_path / "new" / "file")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        UserError, match="^/proc/x/y cannot be written: no file .* /pro"
    ):
        files.check_creatable("/proc/x/y")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        files.check_creatable(tmp_path / "file" / "x")


def test_errors_name_the_file_and_long_names_are_possible(tmp_path):
    longest = tmp_path / ("x" * 250 + ".json")
    files.write_text(longest, "text")
    assert longest.read_text() == "text"
    with pytest.raises(OSError, match="No space") as raised:
        with files.atomic(tmp_path / "result.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert raised.value.filename == str(tmp_path / "result.json")
    with pytest.raises(OSError, match="too long") as raised:
        files.write_text(tmp_path / ("x" * 300), "text")
    assert raised.value.filename == str(tmp_path / ("x" * 300))
    files.write_text(tmp_path / "paths", "a\udcffb")
    assert (tmp_path / "paths").read_text() == "a\\udcffb"
