"""Choice of the `tf.distribute` strategy."""

import contextlib
import functools

import tensorflow as tf

from inres_tf.errors import UserError

STRATEGIES = ("auto", "one_device", "mirrored")


def make(name: str, logical_cpus: int = 1) -> tf.distribute.Strategy:
    """Makes a distribution strategy.

    Args:
        name: `"one_device"` (the first GPU, or the CPU), `"mirrored"` (all GPUs of this
            machine; without a GPU, all logical CPU devices) or `"auto"` (mirrored if
            there are several GPUs).
        logical_cpus: into how many logical devices to split the CPU first, to try
            `"mirrored"` on a machine without GPUs.

    Raises:
        UserError: if there is no strategy of that name, or the CPU can no longer be
            split since TensorFlow has already started.
    """
    if name not in STRATEGIES:
        raise UserError(f"unknown strategy {name!r}; known: {', '.join(STRATEGIES)}")
    cpu = tf.config.list_physical_devices("CPU")[0]
    split = len(tf.config.get_logical_device_configuration(cpu) or [None])
    if logical_cpus not in (1, split):
        parts = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError as error:
            raise UserError(f"the CPU cannot be split now: {error}") from error
    make_repeatable()
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = [
        f"{d.device_type}:{i}"
        for i, d in enumerate(tf.config.list_logical_devices(kind))
    ]
    if name == "auto":
        name = "mirrored" if kind == "GPU" and len(devices) > 1 else "one_device"
    return _strategy(name, tuple(devices))


# One of a kind in a process: a second one would number its collective operations from
# the start again, and TensorFlow would take them for the first one's.
@functools.cache
def _strategy(name, devices):
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def make_repeatable() -> None:
    """Makes gradients on a CPU repeatable bit for bit, if TensorFlow has not started.

    With several operations at a time, a sum of three or more gradients begins with
    whichever buffer is free first. Convolutions use all cores all the same.
    """
    if not tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_inter_op_parallelism_threads(1)
