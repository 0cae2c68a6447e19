"""Choice of the `tf.distribute` strategy, and what its workers have to agree on."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from inres_tf.config import setting
from inres_tf.errors import UserError, WorkerLost

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


@dataclasses.dataclass(frozen=True)
class StrategyConfig:
    """Where a computation runs; each field is a flag."""

    strategy: str = setting(
        "auto",
        "one_device; mirrored: all GPUs of this machine; multi_worker: all GPUs (or "
        "the CPU) of several machines, named by TF_CONFIG or --workers; tpu; auto: "
        "mirrored if there are several GPUs, else one_device.",
        STRATEGIES,
    )
    workers: tuple[str, ...] = setting(
        (),
        "HOST:PORT of every worker, the same list on each, for multi_worker without "
        "TF_CONFIG. The first is the chief, which alone writes.",
    )
    worker_index: int = setting(
        -1, "This process's place in --workers, from 0; needed with --workers."
    )
    tpu: str = setting(
        "",
        "Name or grpc:// address of the TPU for tpu; local: the one of this machine; "
        "nothing: the one that the environment names.",
    )
    logical_cpus: int = setting(
        1, "Split the CPU into this many devices, to try mirrored without GPUs."
    )

    def __post_init__(self):
        if self.strategy not in STRATEGIES:
            raise UserError(
                f"--strategy must be one of {', '.join(STRATEGIES)}; got "
                f"{self.strategy!r}"
            )
        if self.logical_cpus < 1:
            raise UserError(
                f"--logical_cpus must be at least 1; got {self.logical_cpus}"
            )
        if self.workers and self.strategy != "multi_worker":
            raise UserError(
                f"--workers needs --strategy=multi_worker; got {self.strategy}"
            )
        if self.worker_index != -1 and not self.workers:
            raise UserError("--worker_index needs --workers")
        if self.tpu and self.strategy != "tpu":
            raise UserError(f"--tpu needs --strategy=tpu; got {self.strategy}")
        if self.strategy == "multi_worker":
            place(self)


def make(config: StrategyConfig) -> tf.distribute.Strategy:
    """Makes a distribution strategy.

    It must come before all else that uses TensorFlow: workers find each other, and the
    CPU is split, only then.

    Raises:
        UserError: if the CPU can no longer be split, or the other workers or the TPU
            cannot be reached.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    split = len(tf.config.get_logical_device_configuration(cpu) or [None])
    if config.logical_cpus not in (1, split):
        parts = [tf.config.LogicalDeviceConfiguration()] * config.logical_cpus
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError as error:
            raise UserError(f"the CPU cannot be split now: {error}") from error
    name = config.strategy
    if name == "tpu":
        return _tpu(config.tpu)
    make_repeatable()
    if name == "multi_worker":
        if config.workers:
            os.environ["TF_CONFIG"] = _tf_config(config)
        return _multi_worker(os.environ["TF_CONFIG"])
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = [
        f"{d.device_type}:{i}"
        for i, d in enumerate(tf.config.list_logical_devices(kind))
    ]
    if name == "auto":
        name = "mirrored" if kind == "GPU" and len(devices) > 1 else "one_device"
    return _local(name, tuple(devices))


# One of a kind in a process: a second one would number its collective operations from
# the start again, and TensorFlow would take them for the first one's.
@functools.cache
def _local(name, devices):
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


@functools.cache
def _multi_worker(tf_config):
    try:
        with _ending_by_ctrl_c():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"this worker cannot join the others: {reason}; its own port must be free "
            f"and TF_CONFIG the same on all but for its task; it is {tf_config}"
        ) from error


@contextlib.contextmanager
def _ending_by_ctrl_c():
    """Lets Ctrl-C end the process, where Python would wait for TensorFlow to return."""
    try:
        previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@functools.cache
def _tpu(address):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(address)
        # A TPU of this machine is no server to connect to.
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"no TPU at --tpu={address or '(none)'}: {reason}; give the TPU's name or "
            "grpc:// address, or local on a TPU machine"
        ) from error


def make_repeatable() -> None:
    """Makes gradients on a CPU repeatable bit for bit, if TensorFlow has not started.

    With several operations at a time, a sum of three or more gradients begins with
    whichever buffer is free first. Convolutions use all cores all the same.
    """
    if not tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_inter_op_parallelism_threads(1)


@dataclasses.dataclass(frozen=True)
class Place:
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


def place(config: StrategyConfig) -> Place:
    """Where this process stands among the workers that its flags or TF_CONFIG name.

    Raises:
        UserError: if they name none, or not this one.
    """
    if config.strategy != "multi_worker":
        return Place()
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
        return Place(config.worker_index, len(config.workers))
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
    return Place(index, len(tasks))


def _tf_config(config):
    return json.dumps(
        {
            "cluster": {"worker": list(config.workers)},
            "task": {"type": "worker", "index": config.worker_index},
        }
    )


def share(payload: bytes) -> bytes:
    """Bytes of the chief, on every worker of the strategy in scope.

    Args:
        payload: what the chief shares; others' is not used.
    """
    strategy = tf.distribute.get_strategy()
    mine = np.frombuffer(payload, np.uint8).astype(np.int32)

    def of_first(value):
        """The value of the first replica, as a sum in which the others give zeros."""
        values = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                value if context.replica_id_in_sync_group == 0 else np.zeros_like(value)
            )
        )
        return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()

    size = int(of_first(np.int32(len(mine))))
    if not size:  # a sum of nothing ends the process
        return b""
    if len(mine) != size:
        mine = np.zeros(size, np.int32)
    return of_first(mine).astype(np.uint8).tobytes()


def check_alike(settings: dict, problem: str = "") -> None:
    """Checks that all workers of the strategy in scope were told the same.

    Args:
        settings: what must be the same, as JSON, by name of the flag.
        problem: what keeps the chief from going on.

    Raises:
        UserError: on all workers if the chief has a problem; on those whose settings
            are not the chief's, naming the first one.
    """
    found = json.loads(share(json.dumps([problem, settings]).encode()))
    if found[0]:
        raise UserError(problem or f"the chief stops: {found[0]}")
    for name, mine in json.loads(json.dumps(settings)).items():
        if found[1].get(name) != mine:
            raise UserError(
                f"this worker has --{name}={mine} and the chief {found[1].get(name)}; "
                "all must have the same"
            )


@contextlib.contextmanager
def losing_workers(place: Place):
    """Turns what TensorFlow says when another worker is gone into a `WorkerLost`."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        if place.count == 1:
            raise
        lines = [line for line in str(error.message).splitlines() if ":" in line]
        raise WorkerLost(
            f"{place} has lost another one ({lines[-1][:200] if lines else 'no reason'}"
            "); start the same command again on all workers"
        ) from error


def agreement(variables) -> Callable:
    """A function setting variables whose values differ between replicas to their mean.

    Args:
        variables: Keras variables, such as moving averages of batch statistics.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or not variables:
        return lambda: None

    def of_replica():
        context = tf.distribute.get_replica_context()
        total = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [tf.identity(v.value) for v in variables]
        )
        for variable, value in zip(variables, total):
            variable.assign(value / replicas)

    return tf.function(lambda: strategy.run(of_replica))
