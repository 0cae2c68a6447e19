import contextlib
import fcntl
import functools
import io
import json
import pty
import re
import select
import struct
import termios
import types

import keras
import pytest
import tensorflow as tf
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.graph import keras_util
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

import zoo
from inres_tf import layers, progress
from inres_tf.training import callbacks
from inres_tf.training.callbacks import Progress, TensorBoard

LOGS = {
    "loss": 1.25,
    "accuracy": 0.5,
    "val_loss": 1.5,
    "val_accuracy": 0.375,
    "learning_rate": 0.02,
    "images_per_second": 735.4,
}


@pytest.fixture(scope="module")
def damped():
    """A network with six damped blocks: λ = 0, 0, 0.1, 0.2, 0.3, 0.4."""
    model = zoo.LambdaInResNet20(input_shape=(8, 8, 1))
    model.compile(keras.optimizers.SGD(0.5))
    merges = [layer for layer in model.layers if getattr(layer, "k", None) is not None]
    for i, layer in enumerate(merges):
        layer.k.assign((i - 1) / 10)
    return model


def show(model, folder, hyperparameters, *epochs):
    """TensorBoard's callback over epochs of such logs, as training calls it."""
    callbacks = keras.callbacks.CallbackList(
        [TensorBoard(folder, hyperparameters)], model=model
    )
    callbacks.on_train_begin()
    for epoch, logs in enumerate(epochs):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_train_batch_begin(0)
        callbacks.on_train_batch_end(0, {"loss": 9.0})
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()


def values(folder):
    """(step, value) of every tensor in the event files of a folder, by tag."""
    found = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                if array.size:  # not the hyper-parameters'
                    found.setdefault(value.tag, []).append((event.step, array.item()))
    return found


def table(folder):
    """TensorBoard's own table of hyper-parameters: name, settings and metrics."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder)).Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=9, include_metrics=True, allowed_statuses=[api_pb2.STATUS_UNKNOWN]
    )
    groups = list_session_groups.Handler(
        context.RequestContext(), backend, "", request
    ).run()
    rows = {}
    for group in groups.session_groups:
        settings = {
            name: getattr(value, value.WhichOneof("kind"))
            for name, value in group.hparams.items()
        }
        metrics = {metric.name.tag: metric.value for metric in group.metric_values}
        rows[group.sessions[0].name] = settings, metrics
    return rows


def test_tensorboard_shows_every_scalar_by_epoch(damped, tmp_path):
    show(damped, tmp_path, {}, LOGS, LOGS)
    found = values(tmp_path / "train")
    rates = layers.damping_rates(damped)
    assert list(rates.values()) == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4])
    for name, rate in rates.items():
        expected = [(0, pytest.approx(rate)), (1, pytest.approx(rate))]
        assert found.pop(f"lambda/{name}") == expected
    assert found.pop("dead_blocks") == [(0, 2), (1, 2)]
    found.pop("keras")
    names = ("loss", "accuracy", "learning_rate", "images_per_second")
    assert found == {
        f"epoch_{name}": [(e, pytest.approx(LOGS[name])) for e in (0, 1)]
        for name in names
    }
    found = values(tmp_path / "validation")
    for name in ("loss", "accuracy"):
        expected = pytest.approx(LOGS[f"val_{name}"])
        assert found[f"epoch_{name}"] == [(0, expected), (1, expected)]


def test_tensorboard_of_an_undamped_network_counts_no_blocks(tmp_path):
    model = zoo.ResNet8(input_shape=(8, 8, 1))
    model.compile(keras.optimizers.SGD(0.5))
    show(model, tmp_path, {}, LOGS)
    found = values(tmp_path / "train")
    assert "epoch_loss" in found
    assert not [tag for tag in found if tag.startswith(("lambda", "dead"))]


def test_tensorboard_draws_the_networks_graph(damped, tmp_path):
    """Through the function by which TensorBoard draws it."""
    show(damped, tmp_path, {}, LOGS)
    ((_, text),) = values(tmp_path / "train")["keras"]
    graph = keras_util.keras_model_to_graph_def(json.loads(text))
    inputs = {node.name.split("/")[-1]: node.input for node in graph.node}
    assert inputs.keys() == {layer.name for layer in damped.layers}
    before = [name.split("/")[-1] for name in inputs["stage1_block2_merge"]]
    assert before == ["stage1_block1_merge", "stage1_block2_2_conv"]


def test_hyperparameters_stand_beside_the_last_metrics(damped, tmp_path):
    for name, rate, loss in (("a", 0.1, 1.0), ("b", 0.2, 2.0)):
        settings = {
            "model": "in_resnet20",
            "learning_rate": rate,
            "epochs": 2,
            "resume": False,
            "data_dir": None,
            "seeds": (0, 1),
        }
        show(damped, tmp_path / name, settings, LOGS, LOGS | {"val_loss": loss})
    found = table(tmp_path)
    assert found.keys() == {"a/validation", "b/validation"}
    for name, rate, loss in (("a", 0.1, 1.0), ("b", 0.2, 2.0)):
        settings, metrics = found[f"{name}/validation"]
        assert settings == {
            "model": "in_resnet20",
            "learning_rate": rate,
            "epochs": 2.0,
            "resume": False,
        }
        assert metrics == {"epoch_loss": loss, "epoch_accuracy": 0.375}


def test_a_killed_run_has_its_epochs_in_the_file(damped, tmp_path):
    callback = TensorBoard(tmp_path, {})
    callback.set_model(damped)
    callback.on_train_begin()
    callback.on_epoch_end(0, LOGS)
    assert values(tmp_path / "train")["epoch_loss"] == [(0, 1.25)]
    assert values(tmp_path / "validation")["epoch_loss"] == [(0, 1.5)]
    callback.on_train_end()


@pytest.fixture
def clock(monkeypatch):
    """The time that `monitoring` reads, in seconds; tests move it on."""
    now = types.SimpleNamespace(seconds=1000.0)
    fake = types.SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr(callbacks, "time", fake)
    return now


def epoch(shown, number, clock, seconds, steps=range(390), every=1):
    """An epoch whose steps each take some seconds, reported `every` so many."""
    shown.on_epoch_begin(number)
    for step in list(steps)[every - 1 :: every]:
        shown.on_train_batch_begin(step - every + 1)
        clock.seconds += seconds * every
        logs = {"loss": 2 - step / 390, "accuracy": step / 390}
        shown.on_train_batch_end(step, logs)
    clock.seconds += 5  # the evaluation
    shown.on_epoch_end(number, LOGS)


def test_log_has_lines_every_half_minute_and_one_an_epoch(clock, capsys):
    shown = Progress(16, 390, 128)
    epoch(shown, 2, clock, seconds=0.25)
    out = capsys.readouterr().out
    assert "\r" not in out
    assert out.splitlines() == [
        "epoch 3/16  120/390  loss 1.695  accuracy 0.305  512 images/s  ETA 01:07",
        "epoch 3/16  240/390  loss 1.387  accuracy 0.613  512 images/s  ETA 00:37",
        "epoch 3/16  360/390  loss 1.079  accuracy 0.921  512 images/s  ETA 00:07",
        "epoch 3/16  01:42  loss 1.250  accuracy 0.500  val_loss 1.500  "
        "val_accuracy 0.375  learning_rate 0.02  735 images/s",
    ]


def test_quick_epochs_have_a_line_each(clock, capsys):
    shown = Progress(3, 390, 128)
    for number in range(3):
        epoch(shown, number, clock, seconds=0.05)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        [f"epoch {i}/3", "00:24"] for i in (1, 2, 3)
    ]


def test_rate_is_that_since_the_line_before(clock, capsys):
    """A slow first step, such as one with a compilation, is not in later rates."""
    shown = Progress(1, 1000, 10)
    shown.on_epoch_begin(0)
    for step, seconds in ((0, 40), (1, 10), (2, 20)):
        shown.on_train_batch_begin(step)
        clock.seconds += seconds
        shown.on_train_batch_end(step, {"loss": 1.0, "accuracy": 0.0})
    rates = re.findall(r"(\d+) images/s  ETA (\S+)", capsys.readouterr().out)
    # 1 step in 40 s, then 2 in 30 s.
    assert rates == [("0", "11:06:00"), ("1", "4:09:15")]


def test_an_epoch_resumed_in_its_middle_and_steps_reported_together(clock, capsys):
    shown = Progress(2, 390, 128, label="[worker 1/2] ")
    epoch(shown, 1, clock, seconds=0.5, steps=range(290, 390), every=10)
    lines = capsys.readouterr().out.splitlines()
    # 60 steps of half a second since step 290, of which there are 390.
    assert lines[0].startswith("[worker 1/2] epoch 2/2  350/390  loss 1.105")
    assert lines[0].endswith("256 images/s  ETA 00:20")
    assert lines[1].startswith("[worker 1/2] epoch 2/2  00:55  loss 1.250")
    assert len(lines) == 2


class Screen(io.StringIO):
    """A terminal that remembers all that was written to it."""

    def isatty(self):
        return True

    @property
    def lines(self):
        """What is left to see on it, each carriage return beginning the line anew."""
        shown = []
        for line in self.getvalue().split("\n"):
            seen = ""
            for part in line.split("\r"):
                seen = part + seen[len(part) :]
            shown.append(seen.rstrip())
        return shown


@pytest.fixture
def every_state(monkeypatch):
    """Bars that show every change, not only those of a tenth of a second."""
    bar = functools.partial(callbacks.tqdm, mininterval=0)
    bar.format_interval = callbacks.tqdm.format_interval
    monkeypatch.setattr(callbacks, "tqdm", bar)


@pytest.mark.usefixtures("every_state")
def test_terminal_has_a_moving_bar_and_keeps_a_line_an_epoch(clock):
    with contextlib.redirect_stdout(Screen()) as screen:
        shown = Progress(2, 10, 128, label="here: ")
        for number in range(2):
            epoch(shown, number, clock, seconds=60, steps=range(10))
    written = screen.getvalue()
    states = re.findall(r"\rhere: epoch 1/2: +(\d+)%\|[^\r]* (\d+)/1280 ", written)
    assert states == [(f"{10 * i}", f"{128 * i}") for i in range(11)]
    assert " images/s, loss 1.977  accuracy 0.023]" in written
    end = "10:05  loss 1.250  accuracy 0.500  val_loss 1.500  val_accuracy 0.375"
    end += "  learning_rate 0.02  735 images/s"
    assert screen.lines == [f"here: epoch {i}/2  {end}" for i in (1, 2)] + [""]


@pytest.mark.usefixtures("every_state")
def test_bar_of_a_resumed_epoch_begins_in_its_middle(clock):
    with contextlib.redirect_stdout(Screen()) as screen:
        shown = Progress(1, 10, 128)
        epoch(shown, 0, clock, seconds=1, steps=range(4, 10), every=3)
    assert re.findall(r" (\d+)/1280 ", screen.getvalue()) == ["512", "896", "1280"]


@pytest.mark.usefixtures("every_state")
def test_an_epoch_cut_short_leaves_the_terminal_in_order():
    with contextlib.redirect_stdout(Screen()) as screen:
        calls = keras.callbacks.CallbackList([Progress(1, 10, 128)])
        calls.on_train_begin()
        calls.on_epoch_begin(0)
        calls.on_train_batch_begin(0)
        calls.on_train_batch_end(0, {"loss": 1.0, "accuracy": 0.0})
        assert " 128/1280 " in screen.lines[-1]
        calls.on_train_end()  # as the loop does after an exception too
        print("Interrupted")
    assert screen.lines == ["Interrupted", ""]


@pytest.mark.parametrize("live", [True, False])
def test_live_can_be_chosen(live, clock):
    """Against what the stream says it is."""
    stream = Screen() if not live else io.StringIO()
    with contextlib.redirect_stdout(stream):
        shown = Progress(1, 10, 128, live=live)
        epoch(shown, 0, clock, seconds=1, steps=range(10))
    assert ("\r" in stream.getvalue()) == live
    assert "epoch 1/1  00:15  loss 1.250" in stream.getvalue()


def test_a_pseudo_terminal_shows_the_bar(clock):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    written = b""
    with open(follower, "w") as terminal, open(leader, "rb", buffering=0) as screen:
        with contextlib.redirect_stdout(terminal):
            shown = Progress(1, 10, 128)
            epoch(shown, 0, clock, seconds=1, steps=range(10))
        # What was written arrives in parts.
        while b"\n" not in written and select.select([screen], [], [], 10)[0]:
            written += screen.read(65536)
    text = written.decode()
    assert "\repoch 1/1:   0%|" in text
    # The terminal makes a carriage return of its own of the line's end.
    assert text.endswith("735 images/s\r\n")


@pytest.mark.parametrize("live", [True, False])
def test_bars_of_other_work_write_lines_to_a_log_file(live, monkeypatch):
    now = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("tqdm.std.time", lambda: now.seconds)
    stream = Screen() if live else io.StringIO()
    with contextlib.redirect_stderr(stream):
        for _ in progress.bar(range(20), "quick", "set"):
            now.seconds += 1
        for _ in progress.bar(range(100), "pgd", "batch"):
            now.seconds += 1
    written = stream.getvalue()
    assert ("\r" in written) == ("quick" in written) == live
    if live:
        assert written.count("pgd") > 90 and stream.lines == [""]
    else:
        lines = re.findall(r"^pgd: +(\d+)%\|.*\| (\d+)/100 \[.*\]\n", written, re.M)
        assert lines == [("30", "30"), ("60", "60"), ("90", "90")]
        assert written.count("\n") == 3
