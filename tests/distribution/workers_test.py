"""Two workers on loopback, as two processes of the binaries, against one process."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import zoo
from inres_tf.distribution import strategy
from inres_tf.distribution.config import StrategyConfig, WorkerInfo, worker_info
from inres_tf.errors import UserError
from inres_tf.evaluation import evaluator
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.training import checkpoints, run
from inres_tf.training.config import TrainConfig

ROOT = pathlib.Path(__file__).parents[2]
# Small steps: at its start a network blows up the last bit of a sum tenfold a step.
RUN = {"model": "in_resnet8", "epochs": 3, "learning_rate": 1e-3}


def free_ports(count):
    """Ports that were free just now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Worker:
    """A process of a binary, whose output lies in a file."""

    def __init__(self, log, arguments, environment):
        self.log = log
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env=os.environ | environment,
            )

    def wait_for(self, text):
        """Waits until the output holds a text."""
        until = time.monotonic() + 120
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def code(self):
        """The exit code, once it has ended."""
        try:
            return self.process.wait(timeout=120)
        finally:
            self.process.kill()


def start(
    tmp_path, binary, *flags, by_environment=False, count=2, port=None, seeds=(0, 0)
):
    """Two workers of a binary; what each would write goes to a folder of its own.

    Or only the first `count` of them, the very first with a port of its own.
    """
    ports = free_ports(2)
    hosts = [f"127.0.0.1:{p}" for p in (port or ports[0], ports[1])]
    workers = []
    for index in range(count):
        environment = {}
        if by_environment:
            cluster = {"worker": hosts}
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
            place = []
        else:
            place = [f"--workers={','.join(hosts)}", f"--worker_index={index}"]
        arguments = [binary, "--strategy=multi_worker", *place]
        arguments += [flag.format(index=index, seed=seeds[index]) for flag in flags]
        workers.append(Worker(tmp_path / f"log{index}", arguments, environment))
    return workers


def train(tmp_path, seeds=(0, 0), **kwargs):
    flags = [f"--{name}={value}" for name, value in RUN.items()]
    flags += [f"--output_dir={tmp_path}/run{{index}}", "--seed={seed}"]
    kwargs["seeds"] = seeds
    return start(tmp_path, "train.train", *flags, **kwargs)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    config = TrainConfig(
        **RUN, output_dir=str(tmp_path_factory.mktemp("alone") / "run"), verbose=0
    )
    return run.train(
        config,
        lambda shape, classes: zoo.get_model(
            RUN["model"], input_shape=shape, classes=classes
        ),
    )


def assert_like(folder, alone):
    model = keras.models.load_model(folder / "model.keras")
    moved = np.abs(model.get_weights()[0] - alone.model.get_weights()[0]).max()
    for a, b in zip(model.get_weights(), alone.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    rows = [json.loads(r) for r in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row, other in zip(rows, alone.history):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)
    return moved


def test_two_workers_are_one_process_and_only_the_chief_writes(alone, tmp_path):
    workers = train(tmp_path)
    assert [worker.code() for worker in workers] == [0, 0], workers[0].log.read_text()
    assert_like(tmp_path / "run0", alone)
    assert not (tmp_path / "run1").exists()
    for index, worker in enumerate(workers):
        assert f"[worker {index + 1}/2] epoch 3/3" in worker.log.read_text()
    again = train(tmp_path)
    assert [worker.code() for worker in again] == [0, 0], again[0].log.read_text()
    assert "is finished already" in again[0].log.read_text()
    config = json.loads((tmp_path / "run0" / "config.json").read_text())
    assert config["flags"]["worker_index"] == 0


def test_killed_and_preempted_workers_go_on_by_the_same_command(alone, tmp_path):
    workers = train(tmp_path, by_environment=True)
    workers[0].wait_for("epoch 1/3")
    workers[1].process.send_signal(signal.SIGTERM)
    assert [worker.code() for worker in workers] == [75, 75]
    assert "preempted" in workers[0].log.read_text()
    # Both stopped after the same step, the one more than an epoch at least.
    (saved,) = checkpoints.list_checkpoints(tmp_path / "run0" / "checkpoints")[-1:]
    assert int(saved.name[-8:]) > 11

    workers = train(tmp_path, by_environment=True)
    workers[1].wait_for("epoch 2/3")
    workers[0].process.kill()
    assert [worker.code() for worker in workers] == [-signal.SIGKILL, 69]
    assert "has lost another one" in workers[1].log.read_text()
    assert not (tmp_path / "run0" / "model.keras").exists()

    workers = train(tmp_path, by_environment=True)
    assert [worker.code() for worker in workers] == [0, 0]
    assert_like(tmp_path / "run0", alone)


def test_two_workers_evaluate_as_one_process(alone, digits, tmp_path):
    """101 images in batches of 30: parts that do not divide evenly."""
    path = tmp_path / "model.keras"
    alone.model.save(path)
    settings = {"eps": (4.0,), "steps": 3, "num_examples": 101, "batch_size": 30}
    settings |= {"corruptions": ("gaussian_noise",), "attacks": ("fgsm", "autoattack")}
    settings |= {"autoattack": ("apgd_ce", "square"), "apgd_steps": 4, "queries": 9}
    settings |= {"check_examples": 9}
    expected = evaluator.evaluate(
        alone.model, digits.test, EvaluationConfig(**settings), False
    )
    flags = [
        f"--{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}"
        for name, v in settings.items()
    ]
    workers = start(
        tmp_path,
        "train.evaluate",
        f"--checkpoint={path}",
        f"--output={tmp_path}/result{{index}}.json",
        *flags,
    )
    assert [worker.code() for worker in workers] == [0, 0], workers[0].log.read_text()
    assert not (tmp_path / "result1.json").exists()
    found = json.loads((tmp_path / "result0.json").read_text())
    expected = json.loads(json.dumps(expected))
    for key in ("clean", "corruptions", "attacks", "num_examples", "correct"):
        assert found[key] == expected[key]


def test_a_worker_that_waits_is_ended_by_ctrl_c(tmp_path):
    (worker,) = train(tmp_path, count=1)
    worker.wait_for("worker 1/2 waits for the others")
    time.sleep(2)
    worker.process.send_signal(signal.SIGINT)
    assert worker.code() in (-signal.SIGINT, 130)
    assert not (tmp_path / "run0").exists()


def test_workers_told_different_things_stop(tmp_path):
    workers = train(tmp_path, seeds=(0, 5))
    assert [worker.code() for worker in workers] != [0, 0]
    said = workers[1].log.read_text()
    assert "this worker has --seed=5 and the chief 0; all must have the same" in said
    assert workers[1].code() == 1 and not (tmp_path / "run0" / "model.keras").exists()


def test_all_stop_where_the_chief_may_not_write(tmp_path):
    (tmp_path / "run0").mkdir()
    (tmp_path / "run0" / "model.keras").write_bytes(b"mine")
    workers = train(tmp_path)
    assert [worker.code() for worker in workers] == [1, 1]
    for worker in workers:
        assert "of a run without config.json" in worker.log.read_text().splitlines()[-1]
    assert (tmp_path / "run0" / "model.keras").read_bytes() == b"mine"


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (worker,) = train(tmp_path, count=1, port=taken.getsockname()[1])
        assert worker.code() == 1
    assert "its own port must be free" in worker.log.read_text().splitlines()[-1]


def config(**settings):
    return StrategyConfig(**{"strategy": "multi_worker", **settings})


HOSTS = ("a:1", "b:2")


def test_place_among_the_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert worker_info(StrategyConfig()) == WorkerInfo(0, 1)
    second = worker_info(config(workers=HOSTS, worker_index=1))
    assert second == WorkerInfo(1, 2) and not second.chief
    assert str(second) == "worker 2/2"
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for task, index in ((("chief", 0), 0), (("worker", 0), 1), (("worker", "1"), 2)):
        task = dict(zip(("type", "index"), task))
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
        assert worker_info(config()) == WorkerInfo(index, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs TF_CONFIG, or --workers=HOST:PORT,HOST:PORT and --worker_index"),
        ({"workers": HOSTS}, "--worker_index must be from 0 to 1, .*; got -1"),
        ({"workers": HOSTS, "worker_index": 2}, "--worker_index must be from 0 to 1"),
        ({"workers": ("a",), "worker_index": 0}, "must list HOST:PORT, .*; got 'a'"),
        ({"workers": ("http://a:1",), "worker_index": 0}, "must list HOST:PORT"),
        ({"workers": ("a:99999",), "worker_index": 0}, "must list HOST:PORT"),
        (
            {"workers": ("a:1", "a:1"), "worker_index": 0},
            "each one once; got a:1 again",
        ),
        ({"worker_index": 1}, "--worker_index needs --workers"),
        (
            {"strategy": "mirrored", "workers": HOSTS},
            "--workers needs --strategy",
        ),
        ({"strategy": "auto", "tpu": "local"}, "--tpu needs --strategy=tpu; got auto"),
        ({"strategy": "horovod"}, "--strategy must be one of auto, one_device, .*horo"),
        ({"strategy": "auto", "logical_cpus": 0}, "--logical_cpus must be at least 1"),
    ],
)
def test_wrong_places(settings, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_wrong_tf_config(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG must be JSON such as"):
        config()


@pytest.mark.parametrize("address", ["local", "grpc://10.0.0.2:8470"])
def test_a_tpu_is_found_connected_to_and_initialised(address, monkeypatch):
    """The construction of the strategy; no test machine has a TPU."""
    calls = []
    tpu = strategy.tf.distribute.cluster_resolver
    monkeypatch.setattr(
        tpu, "TPUClusterResolver", lambda a: calls.append(("resolver", a)) or a
    )
    experimental = strategy.tf.config
    monkeypatch.setattr(
        experimental,
        "experimental_connect_to_cluster",
        lambda r: calls.append(("connect", r)),
    )
    monkeypatch.setattr(
        strategy.tf.tpu.experimental,
        "initialize_tpu_system",
        lambda r: calls.append(("initialize", r)),
    )
    monkeypatch.setattr(
        strategy.tf.distribute,
        "TPUStrategy",
        lambda r: calls.append(("make", r)) or 7,
    )
    assert strategy.make_strategy(config(strategy="tpu", tpu=address)) == 7
    strategy._tpu.cache_clear()
    expected = [("resolver", address), ("connect", address)]
    expected += [("initialize", address), ("make", address)]
    if address == "local":
        del expected[1]
    assert calls == expected


def test_a_tpu_that_is_not_there_is_said():
    with pytest.raises(UserError, match=r"no TPU at --tpu=\(none\): .*grpc:// address"):
        strategy.make_strategy(config(strategy="tpu"))
