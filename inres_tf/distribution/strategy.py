"""Choice of the `tf.distribute` strategy, and what its workers have to agree on."""

import contextlib
import functools
import os
import signal

import tensorflow as tf

from inres_tf.distribution.config import StrategyConfig, tf_config
from inres_tf.errors import UserError


def make_strategy(config: StrategyConfig) -> tf.distribute.Strategy:
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
            os.environ["TF_CONFIG"] = tf_config(config)
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
