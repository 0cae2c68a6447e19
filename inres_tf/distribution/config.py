"""Settings of the distribution strategy, and the place of this process in it."""

import dataclasses
import json
import os
import re

from inres_tf.config import Config, config_field
from inres_tf.errors import UserError

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


@dataclasses.dataclass(frozen=True)
class StrategyConfig(Config):
    """Where a computation runs; each field is a flag."""

    strategy: str = config_field(
        "auto",
        "one_device; mirrored: all GPUs of this machine; multi_worker: all GPUs (or "
        "the CPU) of several machines, named by TF_CONFIG or --workers; tpu; auto: "
        "mirrored if there are several GPUs, else one_device.",
        choices=STRATEGIES,
    )
    workers: tuple[str, ...] = config_field(
        (),
        "HOST:PORT of every worker, the same list on each, for multi_worker without "
        "TF_CONFIG. The first is the chief, which alone writes.",
    )
    worker_index: int = config_field(
        -1, "This process's place in --workers, from 0; needed with --workers."
    )
    tpu: str = config_field(
        "",
        "Name or grpc:// address of the TPU for tpu; local: the one of this machine; "
        "nothing: the one that the environment names.",
    )
    logical_cpus: int = config_field(
        1,
        "Split the CPU into this many devices, to try mirrored without GPUs.",
        bounds="[1, inf)",
    )

    def __post_init__(self):
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
    """A process among its workers.

    Attributes:
        index: from 0; 0 is the chief, which alone writes.
        count: how many workers there are.
    """

    index: int = 0
    count: int = 1

    @property
    def chief(self) -> bool:
        """Whether this process writes checkpoints, logs and results."""
        return self.index == 0

    def __str__(self):
        return f"worker {self.index + 1}/{self.count}"


def worker_info(config: StrategyConfig) -> WorkerInfo:
    """Where this process stands among the workers that its flags or TF_CONFIG name.

    Raises:
        UserError: if they name none, or not this one.
    """
    if config.strategy != "multi_worker":
        return WorkerInfo()
    if config.workers:
        for worker in config.workers:
            found = re.fullmatch(r"([^\s:/]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", worker)
            if not found or not 0 < int(found[2]) < 2**16:
                raise UserError(
                    f"--workers must list HOST:PORT, such as host1:2222; got {worker!r}"
                )
            if config.workers.count(worker) > 1:
                raise UserError(
                    f"--workers must list each one once; got {worker} again"
                )
        if not 0 <= config.worker_index < len(config.workers):
            raise UserError(
                f"--worker_index must be from 0 to {len(config.workers) - 1}, this "
                f"process's place in --workers; got {config.worker_index}"
            )
        return WorkerInfo(config.worker_index, len(config.workers))
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise UserError(
            "--strategy=multi_worker needs TF_CONFIG, or --workers=HOST:PORT,HOST:PORT "
            "and --worker_index"
        )
    try:
        found = json.loads(text)
        cluster, task = found["cluster"], found["task"]
        # TensorFlow's order: a task named chief comes before the workers.
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


def tf_config(config):
    """The `TF_CONFIG` that the `--workers` flags mean."""
    return json.dumps(
        {
            "cluster": {"worker": list(config.workers)},
            "task": {"type": "worker", "index": config.worker_index},
        }
    )
