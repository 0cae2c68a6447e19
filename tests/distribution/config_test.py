import json

import pytest

from inres_tf.distribution.config import StrategyConfig, WorkerInfo, worker_info
from inres_tf.errors import UserError

HOSTS = ("a:1", "b:2")


def make_config(**settings):
    return StrategyConfig(**{"strategy": "multi_worker", **settings})


def test_worker_info_from_flags(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert worker_info(StrategyConfig()) == WorkerInfo(0, 1)
    second = worker_info(make_config(workers=HOSTS, worker_index=1))
    assert second == WorkerInfo(1, 2) and not second.chief
    assert str(second) == "worker 2/2"


@pytest.mark.parametrize(
    ("task_type", "task_index", "expected"),
    [("chief", 0, 0), ("worker", 0, 1), ("worker", "1", 2)],
)
def test_worker_info_from_tf_config(task_type, task_index, expected, monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    task = {"type": task_type, "index": task_index}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert worker_info(make_config()) == WorkerInfo(expected, 3)


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
            "must list each worker once; got a:1 twice",
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
def test_invalid_settings_are_rejected(settings, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match=message):
        make_config(**settings)


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
def test_invalid_tf_config_is_rejected(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG must be JSON such as"):
        make_config()
