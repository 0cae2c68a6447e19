import subprocess
import sys

import pytest

from inres_tf.distribution import strategy
from inres_tf.distribution.config import StrategyConfig
from inres_tf.errors import UserError


@pytest.mark.parametrize("address", ["local", "grpc://10.0.0.2:8470"])
def test_tpu_is_connected_and_initialised(address, monkeypatch):
    """With mocks, since the tests run without a TPU."""
    calls = []

    def record(name, result=None):
        def call(argument):
            calls.append((name, argument))
            return argument if result is None else result

        return call

    tf = strategy.tf
    monkeypatch.setattr(
        tf.distribute.cluster_resolver, "TPUClusterResolver", record("resolver")
    )
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", record("connect"))
    monkeypatch.setattr(
        tf.tpu.experimental, "initialize_tpu_system", record("initialize")
    )
    monkeypatch.setattr(tf.distribute, "TPUStrategy", record("make", result=7))
    config = StrategyConfig(strategy="tpu", tpu=address)
    try:
        assert strategy.make_strategy(config) == 7
    finally:
        strategy._tpu.cache_clear()
    names = ["resolver", "connect", "initialize", "make"]
    if address == "local":
        names.remove("connect")
    assert calls == [(name, address) for name in names]


def test_missing_tpu_is_reported():
    with pytest.raises(UserError, match=r"no TPU at --tpu=\(none\): .*grpc:// address"):
        strategy.make_strategy(StrategyConfig(strategy="tpu"))


def test_logical_cpus():
    """Only a new process can split its CPU."""
    code = """
from inres_tf import distribution
from inres_tf.distribution.config import StrategyConfig
strategy = distribution.make_strategy(StrategyConfig("mirrored", logical_cpus=3))
print(strategy.num_replicas_in_sync)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "3"
