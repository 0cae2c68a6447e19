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
from inres_tf import layers
from inres_tf.training import callbacks
from inres_tf.training.callbacks import (
    Progress,
    ResumableEarlyStopping,
    TensorBoard,
)
from inres_tf.training.signals import Signals

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


def record(model, folder, hyperparameters, *epochs):
    """Calls TensorBoard's callback with the logs of each epoch, as training does."""
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


def read_events(folder):
    """Reads the (step, value) of every tensor in the event files, by tag."""
    values = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                if array.size:  # hyperparameters have empty tensors
                    values.setdefault(value.tag, []).append((event.step, array.item()))
    return values


def read_hyperparameters(folder):
    """Reads TensorBoard's own table: (hyperparameters, metrics) of each run."""
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


def test_tensorboard_records_every_scalar_by_epoch(damped, tmp_path):
    record(damped, tmp_path, {}, LOGS, LOGS)
    events = read_events(tmp_path / "train")
    rates = layers.damping_rates(damped)
    assert list(rates.values()) == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4])
    for name, rate in rates.items():
        expected = [(0, pytest.approx(rate)), (1, pytest.approx(rate))]
        assert events.pop(f"lambda/{name}") == expected
    assert events.pop("dead_blocks") == [(0, 2), (1, 2)]
    events.pop("keras")
    names = ("loss", "accuracy", "learning_rate", "images_per_second")
    assert events == {
        f"epoch_{name}": [(e, pytest.approx(LOGS[name])) for e in (0, 1)]
        for name in names
    }
    events = read_events(tmp_path / "validation")
    for name in ("loss", "accuracy"):
        expected = pytest.approx(LOGS[f"val_{name}"])
        assert events[f"epoch_{name}"] == [(0, expected), (1, expected)]


def test_tensorboard_records_no_damping_rates_of_an_undamped_network(tmp_path):
    model = zoo.ResNet8(input_shape=(8, 8, 1))
    model.compile(keras.optimizers.SGD(0.5))
    record(model, tmp_path, {}, LOGS)
    events = read_events(tmp_path / "train")
    assert "epoch_loss" in events
    assert not [tag for tag in events if tag.startswith(("lambda", "dead"))]


def test_tensorboard_records_the_network_as_a_graph(damped, tmp_path):
    """Uses TensorBoard's own conversion of the recorded model."""
    record(damped, tmp_path, {}, LOGS)
    ((_, text),) = read_events(tmp_path / "train")["keras"]
    graph = keras_util.keras_model_to_graph_def(json.loads(text))
    inputs = {node.name.split("/")[-1]: node.input for node in graph.node}
    assert inputs.keys() == {layer.name for layer in damped.layers}
    merged = [name.split("/")[-1] for name in inputs["stage1_block2_merge"]]
    assert merged == ["stage1_block1_merge", "stage1_block2_2_conv"]


def test_hyperparameters_are_shown_with_the_last_metrics(damped, tmp_path):
    for name, rate, loss in (("a", 0.1, 1.0), ("b", 0.2, 2.0)):
        settings = {
            "model": "in_resnet20",
            "learning_rate": rate,
            "epochs": 2,
            "resume": False,
            "data_dir": None,
            "seeds": (0, 1),
        }
        record(damped, tmp_path / name, settings, LOGS, LOGS | {"val_loss": loss})
    table = read_hyperparameters(tmp_path)
    assert table.keys() == {"a/validation", "b/validation"}
    for name, rate, loss in (("a", 0.1, 1.0), ("b", 0.2, 2.0)):
        settings, metrics = table[f"{name}/validation"]
        assert settings == {
            "model": "in_resnet20",
            "learning_rate": rate,
            "epochs": 2.0,
            "resume": False,
        }
        assert metrics == {"epoch_loss": loss, "epoch_accuracy": 0.375}


def test_events_are_on_disk_after_each_epoch(damped, tmp_path):
    callback = TensorBoard(tmp_path, {})
    callback.set_model(damped)
    callback.on_train_begin()
    callback.on_epoch_end(0, LOGS)
    assert read_events(tmp_path / "train")["epoch_loss"] == [(0, 1.25)]
    assert read_events(tmp_path / "validation")["epoch_loss"] == [(0, 1.5)]
    callback.on_train_end()


@pytest.fixture
def clock(monkeypatch):
    """The clock of the callbacks, in seconds, which tests advance."""
    now = types.SimpleNamespace(seconds=1000.0)
    fake = types.SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr(callbacks, "time", fake)
    return now


def run_epoch(callback, epoch, clock, seconds, steps=range(390), every=1):
    """Runs an epoch with `seconds` per step, calling back after `every` steps."""
    callback.on_epoch_begin(epoch)
    for step in list(steps)[every - 1 :: every]:
        callback.on_train_batch_begin(step - every + 1)
        clock.seconds += seconds * every
        logs = {"loss": 2 - step / 390, "accuracy": step / 390}
        callback.on_train_batch_end(step, logs)
    clock.seconds += 5  # the evaluation
    callback.on_epoch_end(epoch, LOGS)


def test_log_file_has_a_line_every_half_minute_and_one_per_epoch(clock, capsys):
    progress = Progress(16, 390, 128)
    run_epoch(progress, 2, clock, seconds=0.25)
    out = capsys.readouterr().out
    assert "\r" not in out
    assert out.splitlines() == [
        "epoch 3/16  120/390  loss 1.695  accuracy 30.5%  512 images/s  ETA 01:07",
        "epoch 3/16  240/390  loss 1.387  accuracy 61.3%  512 images/s  ETA 00:37",
        "epoch 3/16  360/390  loss 1.079  accuracy 92.1%  512 images/s  ETA 00:07",
        "epoch 3/16  01:42  loss 1.250  accuracy 50.0%  val_loss 1.500  "
        "val_accuracy 37.5%  learning_rate 0.02  735 images/s",
    ]


def test_log_file_has_one_line_per_quick_epoch(clock, capsys):
    progress = Progress(3, 390, 128)
    for number in range(3):
        run_epoch(progress, number, clock, seconds=0.05)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        [f"epoch {i}/3", "00:24"] for i in (1, 2, 3)
    ]


def test_log_file_has_the_rate_since_the_previous_line(clock, capsys):
    """A slow first step, such as one with compilation, does not affect later rates."""
    progress = Progress(1, 1000, 10)
    progress.on_epoch_begin(0)
    for step, seconds in ((0, 40), (1, 10), (2, 20)):
        progress.on_train_batch_begin(step)
        clock.seconds += seconds
        progress.on_train_batch_end(step, {"loss": 1.0, "accuracy": 0.0})
    rates = re.findall(r"(\d+) images/s  ETA (\S+)", capsys.readouterr().out)
    # 1 step in 40 s, then 2 in 30 s.
    assert rates == [("0", "11:06:00"), ("1", "4:09:15")]


def test_log_file_of_a_resumed_epoch_with_several_steps_per_call(clock, capsys):
    progress = Progress(2, 390, 128, label="[worker 1/2] ")
    run_epoch(progress, 1, clock, seconds=0.5, steps=range(290, 390), every=10)
    lines = capsys.readouterr().out.splitlines()
    # 60 steps of 0.5 s since step 290; 40 of 390 steps remain.
    assert lines[0].startswith("[worker 1/2] epoch 2/2  350/390  loss 1.105")
    assert lines[0].endswith("256 images/s  ETA 00:20")
    assert lines[1].startswith("[worker 1/2] epoch 2/2  00:55  loss 1.250")
    assert len(lines) == 2


class Terminal(io.StringIO):
    """A terminal that records everything written to it."""

    def isatty(self):
        return True

    @property
    def lines(self):
        """The visible lines: text after a carriage return overwrites the line."""
        lines = []
        for line in self.getvalue().split("\n"):
            visible = ""
            for part in line.split("\r"):
                visible = part + visible[len(part) :]
            lines.append(visible.rstrip())
        return lines


@pytest.fixture
def unthrottled(monkeypatch):
    """Makes bars show every change instead of ten per second."""
    bar = functools.partial(callbacks.tqdm, mininterval=0)
    bar.format_interval = callbacks.tqdm.format_interval
    monkeypatch.setattr(callbacks, "tqdm", bar)


@pytest.mark.usefixtures("unthrottled")
def test_terminal_has_a_live_bar_and_one_line_per_epoch(clock):
    with contextlib.redirect_stdout(Terminal()) as terminal:
        progress = Progress(2, 10, 128, label="here: ")
        for number in range(2):
            run_epoch(progress, number, clock, seconds=60, steps=range(10))
    written = terminal.getvalue()
    states = re.findall(r"\rhere: epoch 1/2: +(\d+)%\|[^\r]* (\d+)/1280 ", written)
    assert states == [(f"{10 * i}", f"{128 * i}") for i in range(11)]
    assert " images/s, loss 1.977  accuracy 2.3%]" in written
    end = "10:05  loss 1.250  accuracy 50.0%  val_loss 1.500  val_accuracy 37.5%"
    end += "  learning_rate 0.02  735 images/s"
    assert terminal.lines == [f"here: epoch {i}/2  {end}" for i in (1, 2)] + [""]


@pytest.mark.usefixtures("unthrottled")
def test_bar_of_a_resumed_epoch_starts_at_its_first_step(clock):
    with contextlib.redirect_stdout(Terminal()) as terminal:
        progress = Progress(1, 10, 128)
        run_epoch(progress, 0, clock, seconds=1, steps=range(4, 10), every=3)
    assert re.findall(r" (\d+)/1280 ", terminal.getvalue()) == ["512", "896", "1280"]


@pytest.mark.usefixtures("unthrottled")
def test_bar_of_an_interrupted_epoch_is_removed():
    with contextlib.redirect_stdout(Terminal()) as terminal:
        calls = keras.callbacks.CallbackList([Progress(1, 10, 128)])
        calls.on_train_begin()
        calls.on_epoch_begin(0)
        calls.on_train_batch_begin(0)
        calls.on_train_batch_end(0, {"loss": 1.0, "accuracy": 0.0})
        assert " 128/1280 " in terminal.lines[-1]
        calls.on_train_end()  # which the loop calls even after an exception
        print("Interrupted")
    assert terminal.lines == ["Interrupted", ""]


@pytest.mark.parametrize("live", [True, False])
def test_live_overrides_the_kind_of_stream(live, clock):
    stream = Terminal() if not live else io.StringIO()
    with contextlib.redirect_stdout(stream):
        progress = Progress(1, 10, 128, live=live)
        run_epoch(progress, 0, clock, seconds=1, steps=range(10))
    assert ("\r" in stream.getvalue()) == live
    assert "epoch 1/1  00:15  loss 1.250" in stream.getvalue()


def test_bar_is_shown_on_a_pseudo_terminal(clock):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    written = b""
    with open(follower, "w") as terminal, open(leader, "rb", buffering=0) as screen:
        with contextlib.redirect_stdout(terminal):
            progress = Progress(1, 10, 128)
            run_epoch(progress, 0, clock, seconds=1, steps=range(10))
        # The output arrives in parts.
        while b"\n" not in written and select.select([screen], [], [], 60)[0]:
            written += screen.read(65536)
    text = written.decode()
    assert "\repoch 1/1:   0%|" in text
    # The terminal itself adds a carriage return at the end of the line.
    assert text.endswith("735 images/s\r\n")


def test_early_stopping_counts_the_epochs_before_a_run_was_resumed(damped):
    history = [{"epoch": 1, "val_loss": 0.0}, {"epoch": 2, "val_loss": 1.0}]
    callback = ResumableEarlyStopping(history, patience=3)
    callback.set_model(damped)
    callback.on_train_begin()
    assert callback.wait == 1 and callback.best == 0.0


def test_a_closed_pipe_stops_the_training_as_sigterm_does(monkeypatch):
    """As in `| head`; the run then saves a checkpoint."""

    class Closed:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    progress = Progress(1, 390, 128, live=False)
    progress.on_epoch_begin(0)
    monkeypatch.setattr(callbacks, "leave_terminal", lambda: None)
    monkeypatch.setattr("sys.stdout", Closed())
    with Signals(alone=True) as signals:
        progress.on_epoch_end(0, {"loss": 1.0, "accuracy": 0.5})
        assert signals.global_stop == [False, True]
