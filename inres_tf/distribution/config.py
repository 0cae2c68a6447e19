"""Settings of the distribution strategy, and the role of this process in it."""

import dataclasses
import json
import os
import re

from inres_tf.config import Config, config_field
from inres_tf.errors import UserError

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
_ADDRESS = re.compile(r"([^\s:/]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")


@dataclasses.dataclass(frozen=True)
class StrategyConfig(Config):
    """Settings of the devices that compute; each is a flag.

    Raises:
        UserError: for a value that is out of range, or settings that contradict each
            other.

    Example:
        >>> from inres_tf import distribution
        >>> distribution.StrategyConfig(strategy="mirrored", logical_cpus=2).strategy
        'mirrored'
    """

    strategy: str = config_field(
        "auto",
        "one_device; mirrored: all GPUs of this machine; multi_worker: all GPUs (or "
        "the CPU) of several machines, listed in TF_CONFIG or --workers; tpu; auto: "
        "mirrored if there are several GPUs, else one_device.",
        choices=STRATEGIES,
    )
    workers: tuple[str, ...] = config_field(
        (),
        "HOST:PORT of every worker, the same list on each, for multi_worker without "
        "TF_CONFIG. The first is the chief: only it writes files.",
    )
    worker_index: int = config_field(
        -1, "Index of this process in --workers, from 0; required with --workers."
    )
    tpu: str = config_field(
        "",
        "Name or grpc:// address of the TPU, for --strategy=tpu; local: the TPU of "
        "this machine; empty: from the environment.",
    )
    logical_cpus: int = config_field(
        1,
        "Number of devices to split the CPU into, to try mirrored without GPUs.",
        bounds="[1, inf)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers and self.strategy != "multi_worker":
            raise UserError(
                f"--workers needs --strategy=multi_worker; got {self.strategy}"
            )
        if self.worker_index != -1 and not self.workers:
            raise UserError("--worker_index needs --workers")
        if self.tpu and self.strategy != "tpu":
            raise UserError(f"--tpu needs --strategy=tpu; got {self.strategy}")
        if self.strategy == "multi_worker":
            worker_info(self)


@dataclasses.dataclass(frozen=True)
class WorkerInfo:
    """The index of a process among the workers of a distributed computation.

    Attributes:
        index: index of the worker, from 0; worker 0 is the chief.
        count: number of workers.

    Example:
        >>> from inres_tf import distribution
        >>> worker = distribution.WorkerInfo(index=1, count=2)
        >>> print(worker, worker.chief)
        worker 2/2 False
    """

    index: int = 0
    count: int = 1

    @property
    def chief(self) -> bool:
        """Whether this process writes checkpoints, logs and results."""
        return self.index == 0

    def __str__(self) -> str:
        return f"worker {self.index + 1}/{self.count}"


def worker_info(config: StrategyConfig) -> WorkerInfo:
    """Finds this process among the workers listed in its flags or in TF_CONFIG.

    Args:
        config: settings of the strategy.

    Returns:
        Index of this process and number of workers; 0 of 1 if `config.strategy` is not
        `"multi_worker"`.

    Raises:
        UserError: if no workers are listed, the list is invalid, or this process is not
            in it.

    Example:
        >>> from inres_tf import distribution
        >>> config = distribution.StrategyConfig(
        ...     strategy="multi_worker",
        ...     workers=("host1:2222", "host2:2222"),
        ...     worker_index=1,
        ... )
        >>> distribution.worker_info(config)
        WorkerInfo(index=1, count=2)
    """
    if config.strategy != "multi_worker":
        return WorkerInfo()
    if config.workers:
        return _info_from_flags(config)
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise UserError(
            "--strategy=multi_worker needs TF_CONFIG, or --workers=HOST:PORT,HOST:PORT "
            "and --worker_index"
        )
    return _info_from_tf_config(text)


def _info_from_flags(config: StrategyConfig) -> WorkerInfo:
    for address in config.workers:
        match = _ADDRESS.fullmatch(address)
        if not match or not 0 < int(match[2]) < 2**16:
            raise UserError(
                f"--workers must list HOST:PORT, such as host1:2222; got {address!r}"
            )
        if config.workers.count(address) > 1:
            raise UserError(
                f"--workers must list each worker once; got {address} twice"
            )
    if not 0 <= config.worker_index < len(config.workers):
        raise UserError(
            f"--worker_index must be from 0 to {len(config.workers) - 1}, the index of "
            f"this process in --workers; got {config.worker_index}"
        )
    return WorkerInfo(config.worker_index, len(config.workers))


def _info_from_tf_config(text: str) -> WorkerInfo:
    try:
        tf_config = json.loads(text)
        cluster, task = tf_config["cluster"], tf_config["task"]
        # TensorFlow's order: a task of type chief comes before the workers.
        tasks = [
            (kind, index)
            for kind in ("chief", "worker")
            for index in range(len(cluster.get(kind, ())))
        ]
        index = tasks.index((task["type"], int(task["index"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "TF_CONFIG must be JSON such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": '
            f'"worker", "index": 0}}}}, with a task of its cluster; got {text}'
        ) from error
    return WorkerInfo(index, len(tasks))


def tf_config(config: StrategyConfig) -> str:
    """Returns the `TF_CONFIG` that is equivalent to the `--workers` flags."""
    return json.dumps(
        {
            "cluster": {"worker": list(config.workers)},
            "task": {"type": "worker", "index": config.worker_index},
        }
    )
