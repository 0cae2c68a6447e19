"""Signals that stop a training, seen from other processes."""

import os
import pty
import signal
import subprocess
import sys
import textwrap

_WAITING = textwrap.dedent(
    """
    import signal, sys, time
    from inres_tf.training.signals import Signals

    with Signals(alone=True) as signals:
        print("ready", flush=True)
        for _ in range(600):
            if any(signals.global_stop):
                break
            time.sleep(0.1)
        print("more progress", flush=True)
        with open(sys.argv[1], "w") as file:
            file.write(str(signals.global_stop))
    """
)


def test_a_closed_terminal_stops_and_its_output_goes_nowhere(tmp_path):
    terminal, descriptor = pty.openpty()
    result = tmp_path / "stops"
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING, result],
        stdin=descriptor,
        stdout=descriptor,
        stderr=descriptor,
        start_new_session=True,
    ) as process:
        os.close(descriptor)
        assert b"ready" in os.read(terminal, 100)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(100) == 0
    assert result.read_text() == "[False, True]"


def test_a_hangup_that_is_ignored_stays_ignored(tmp_path):
    """As under `nohup`."""
    result = tmp_path / "stops"
    code = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{_WAITING}"
    with subprocess.Popen(
        [sys.executable, "-c", code, result], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 0
    assert result.read_text() == "[True, False]"
