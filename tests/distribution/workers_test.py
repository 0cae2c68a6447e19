"""Two workers, each a process of a command-line program, compared with one process."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import zoo
from inres_tf.evaluation import evaluator
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.training import checkpoints, run
from inres_tf.training.config import TrainConfig

ROOT = pathlib.Path(__file__).parents[2]
PROCESS_TIMEOUT = 600  # seconds; generous, since the machine may be busy
# Small steps, since at the start of training each one multiplies rounding errors by 10.
RUN = {"model": "in_resnet8", "epochs": 3, "learning_rate": 1e-3}


def find_free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Worker:
    """A process of a command-line program, with its output in a file."""

    def __init__(self, log, arguments, environment):
        self._log = log
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env=os.environ | environment,
            )

    @property
    def output(self):
        return self._log.read_text()

    def wait_for(self, pattern):
        """Waits until a line of the output matches a regular expression."""
        deadline = time.monotonic() + PROCESS_TIMEOUT
        while not re.search(pattern, self.output):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def exit_code(self):
        """Waits for the process to end."""
        return self.process.wait(timeout=PROCESS_TIMEOUT)


@pytest.fixture
def start(tmp_path):
    """Function that starts the workers of a program; they end with the test."""
    started = []

    def start_workers(
        program, *flags, by_environment=False, count=2, port=None, seeds=(0, 0)
    ):
        """Starts the first `count` of two workers.

        `{index}` and `{seed}` in flags are replaced by those of the worker. `port` is
        that of the first worker.
        """
        ports = find_free_ports(2)
        hosts = [f"127.0.0.1:{p}" for p in (port or ports[0], ports[1])]
        workers = []
        for index in range(count):
            environment, arguments = {}, [program, "--strategy=multi_worker"]
            if by_environment:
                task = {"type": "worker", "index": index}
                tf_config = {"cluster": {"worker": hosts}, "task": task}
                environment["TF_CONFIG"] = json.dumps(tf_config)
            else:
                arguments += [f"--workers={','.join(hosts)}", f"--worker_index={index}"]
            arguments += [flag.format(index=index, seed=seeds[index]) for flag in flags]
            workers.append(Worker(tmp_path / f"log{index}", arguments, environment))
            started.append(workers[-1].process)
        return workers

    yield start_workers
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def start_training(start, tmp_path):
    """Function that starts workers of `train.train`; worker i may write to run{i}."""

    def start_training_workers(**kwargs):
        flags = [f"--{name}={value}" for name, value in RUN.items()]
        flags += [f"--output_dir={tmp_path}/run{{index}}", "--seed={seed}"]
        return start("train.train", *flags, **kwargs)

    return start_training_workers


def exit_codes(workers):
    return [worker.exit_code() for worker in workers]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The run of a single process."""
    folder = tmp_path_factory.mktemp("single") / "run"

    def build(shape, classes):
        return zoo.get_model(RUN["model"], input_shape=shape, classes=classes)

    return run.train(TrainConfig(**RUN, output_dir=str(folder), verbose=0), build)


def assert_equals_run(folder, expected):
    model = keras.models.load_model(folder / "model.keras")
    weights = zip(model.get_weights(), expected.model.get_weights(), strict=True)
    for a, b in weights:
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    rows = [json.loads(r) for r in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row, expected_row in zip(rows, expected.history):
        assert row["loss"] == pytest.approx(expected_row["loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(expected_row["val_loss"], rel=1e-3)


def test_two_workers_equal_one_process_and_only_the_chief_writes(
    single, start_training, tmp_path
):
    workers = start_training()
    assert exit_codes(workers) == [0, 0], workers[0].output
    assert_equals_run(tmp_path / "run0", single)
    assert not (tmp_path / "run1").exists()
    for index, worker in enumerate(workers):
        assert f"[worker {index + 1}/2] epoch 3/3" in worker.output
    config = json.loads((tmp_path / "run0" / "config.json").read_text())
    assert config["flags"]["worker_index"] == 0
    again = start_training()
    assert exit_codes(again) == [0, 0], again[0].output
    assert "is already finished" in again[0].output


@pytest.mark.long
def test_preempted_and_killed_workers_resume_with_the_same_command(
    single, start_training, tmp_path
):
    workers = start_training(by_environment=True)
    workers[0].wait_for("epoch 1/3 .*val_loss")
    workers[1].process.send_signal(signal.SIGTERM)
    assert exit_codes(workers) == [75, 75]
    assert "preempted" in workers[0].output
    # Both stopped after the same step, at least one step after the first epoch.
    saved = checkpoints.list_checkpoints(tmp_path / "run0" / "checkpoints")[-1]
    assert int(saved.name[-8:]) > 11

    workers = start_training(by_environment=True)
    workers[1].wait_for("epoch 2/3 .*val_loss")
    workers[0].process.kill()
    assert exit_codes(workers) == [-signal.SIGKILL, 69]
    assert "has lost another worker" in workers[1].output
    assert not (tmp_path / "run0" / "model.keras").exists()

    workers = start_training(by_environment=True)
    assert exit_codes(workers) == [0, 0]
    assert_equals_run(tmp_path / "run0", single)


@pytest.mark.long
def test_two_workers_evaluate_like_one_process(single, digits, start, tmp_path):
    """On 101 images in batches of 30, which do not divide evenly."""
    path = tmp_path / "model.keras"
    single.model.save(path)
    settings = {
        "eps": (4.0,),
        "steps": 3,
        "num_examples": 101,
        "batch_size": 30,
        "corruptions": ("gaussian_noise",),
        "attacks": ("fgsm", "autoattack"),
        "autoattack": ("apgd_ce", "square"),
        "apgd_steps": 4,
        "queries": 9,
        "check_examples": 9,
    }
    flags = [
        f"--{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}"
        for name, v in settings.items()
    ]
    workers = start(
        "train.evaluate",
        f"--checkpoint={path}",
        f"--output={tmp_path}/result{{index}}.json",
        *flags,
    )
    assert exit_codes(workers) == [0, 0], workers[0].output
    assert not (tmp_path / "result1.json").exists()
    result = json.loads((tmp_path / "result0.json").read_text())
    expected = evaluator.evaluate(
        single.model, digits.test, EvaluationConfig(**settings), progress=False
    )
    expected = json.loads(json.dumps(expected))
    for key in ("clean", "corruptions", "attacks", "num_examples", "correct"):
        assert result[key] == expected[key]


def test_ctrl_c_ends_a_waiting_worker(start_training, tmp_path):
    (worker,) = start_training(count=1)
    worker.wait_for("worker 1/2 is waiting for the others")
    time.sleep(2)
    worker.process.send_signal(signal.SIGINT)
    assert worker.exit_code() in (-signal.SIGINT, 130)
    assert not (tmp_path / "run0").exists()


@pytest.mark.long
def test_workers_with_different_settings_stop(start_training, tmp_path):
    workers = start_training(seeds=(0, 5))
    codes = exit_codes(workers)
    assert codes[0] != 0 and codes[1] == 1
    message = "--seed must be the same on all workers; got 5 on this one and 0 on the"
    assert message in workers[1].output
    assert not (tmp_path / "run0" / "model.keras").exists()


@pytest.mark.long
def test_all_workers_stop_if_the_folder_of_the_chief_is_not_free(
    start_training, tmp_path
):
    (tmp_path / "run0").mkdir()
    (tmp_path / "run0" / "model.keras").write_bytes(b"model")
    workers = start_training()
    assert exit_codes(workers) == [1, 1]
    for worker in workers:
        assert "of a run without config.json" in worker.output.splitlines()[-1]
    assert (tmp_path / "run0" / "model.keras").read_bytes() == b"model"


def test_occupied_port_is_reported(start_training):
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        (worker,) = start_training(count=1, port=occupied.getsockname()[1])
        assert worker.exit_code() == 1
    assert "its own port must be free" in worker.output.splitlines()[-1]
