import contextlib
import io
import re
import types

import pytest

from inres_tf import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("live", [True, False])
def test_bar_is_live_on_a_terminal_and_writes_lines_to_a_log_file(live, monkeypatch):
    clock = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("tqdm.std.time", lambda: clock.seconds)
    stream = Terminal() if live else io.StringIO()
    with contextlib.redirect_stderr(stream):
        for _ in progress.bar(range(20), "quick", "set"):
            clock.seconds += 1
        for _ in progress.bar(range(100), "pgd", "batch"):
            clock.seconds += 1
    written = stream.getvalue()
    assert ("\r" in written) == ("quick" in written) == live
    if live:
        assert written.count("pgd") > 90
        assert not written.split("\r")[-1].strip()  # the bar was removed
    else:
        lines = re.findall(r"^pgd: +(\d+)%\|.*\| (\d+)/100 \[.*\]\n", written, re.M)
        assert lines == [("30", "30"), ("60", "60"), ("90", "90")]
        assert written.count("\n") == 3
