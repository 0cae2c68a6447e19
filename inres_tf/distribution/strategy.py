"""Construction of the `tf.distribute` strategy."""

import contextlib
import functools
import os
import signal

import tensorflow as tf

from inres_tf.distribution.config import StrategyConfig, tf_config
from inres_tf.errors import UserError


def make_strategy(config: StrategyConfig) -> tf.distribute.Strategy:
    """Creates the distribution strategy of the settings.

    Call it before anything else that uses TensorFlow: workers can only connect, and the
    CPU can only be split, before TensorFlow has started.

    Args:
        config: settings of the strategy.

    Returns:
        The strategy; within a process, equal settings return the same object.

    Raises:
        UserError: if the CPU can no longer be split, or the other workers or the TPU
            cannot be reached.

    Example:
        >>> from inres_tf import distribution
        >>> config = distribution.StrategyConfig(strategy="one_device")
        >>> distribution.make_strategy(config).num_replicas_in_sync
        1
    """
    _split_cpu(config.logical_cpus)
    if config.strategy == "tpu":
        return _tpu(config.tpu)
    make_repeatable()
    if config.strategy == "multi_worker":
        if config.workers:
            os.environ["TF_CONFIG"] = tf_config(config)
        return _multi_worker(os.environ["TF_CONFIG"])
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = [
        f"{device.device_type}:{i}"
        for i, device in enumerate(tf.config.list_logical_devices(kind))
    ]
    name = config.strategy
    if name == "auto":
        name = "mirrored" if kind == "GPU" and len(devices) > 1 else "one_device"
    return _local(name, tuple(devices))


def _split_cpu(count: int) -> None:
    """Splits the CPU into logical devices."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    present = len(tf.config.get_logical_device_configuration(cpu) or [None])
    if count in (1, present):
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        raise UserError(f"the CPU cannot be split now: {error}") from error


# Created once per process: a second strategy would number its collective operations
# from the start again, and TensorFlow would confuse them with those of the first.
@functools.cache
def _local(name, devices):
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


@functools.cache
def _multi_worker(tf_config_text):
    try:
        with _default_ctrl_c():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"this worker cannot join the others: {reason}; its own port must be free, "
            "and TF_CONFIG the same on all workers except for task; got "
            f"{tf_config_text}"
        ) from error


@contextlib.contextmanager
def _default_ctrl_c():
    """Lets Ctrl-C end the process at once, without waiting for TensorFlow to return."""
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
        # A TPU of this machine needs no connection to a cluster.
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"no TPU at --tpu={address or '(none)'}: {reason}; --tpu must be the TPU's "
            "name or grpc:// address, or local on a TPU machine"
        ) from error


def make_repeatable() -> None:
    """Makes gradients on a CPU bit-for-bit repeatable, if TensorFlow has not started.

    It limits TensorFlow to one operation at a time, since sums of three or more
    gradients would otherwise start with whichever one is ready first. Convolutions
    still use all cores.
    """
    if not tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_inter_op_parallelism_threads(1)
