r"""How fast networks train and infer, compared with PyTorch and with their own parts.

python benchmarks/training_speed.py --output=docs/benchmarks_training.md

See `measure` for the method. PyTorch is measured if it is installed, and compiled if
there is a C++ compiler.
"""

import importlib.util
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import contenders
import environment  # noqa: F401
import keras
import measure
import numpy as np
import tensorflow as tf
from absl import app, flags

import zoo
from inres_tf import markdown
from inres_tf.data import Images
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.distribution.classifier import Classifier
from inres_tf.distribution.strategy import make_repeatable
from inres_tf.layers import BatchNormalization
from inres_tf.training import run
from inres_tf.training.config import TrainConfig
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.registry import make_objective
from inres_tf.training.step import make_step, synchronize_batch_norm

FLAGS = flags.FLAGS
flags.DEFINE_integer("depth", 20, "Depth of the networks.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_integer("rounds", 25, "Rounds of every comparison.")
flags.DEFINE_integer("epochs", 10, "Epochs of the run whose memory is measured.")
flags.DEFINE_integer("threads", 0, "Threads of a step; 0 for one per core.")
flags.DEFINE_multi_enum(
    "precisions",
    ["float32", "bfloat16"],
    ["float32", "bfloat16"],
    "Precision of training and inference; may be repeated.",
)
flags.DEFINE_string("output", None, "Markdown file to write, as well as stdout.")
flags.DEFINE_string("contender", None, "Used by the script to start its contenders.")

# Goals: ratios.
GOALS = {"training": 1.2, "inference": 1.8, "input": 0.05, "loop": 1.03, "memory": 1.02}
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# Images in an epoch of CIFAR-10.
EPOCH = 50_000


def network(
    name: str, policy: str = "float32", keras_own: bool = False, **options: Any
) -> keras.Model:
    """A network of the zoo with a dtype policy.

    Args:
        name: a model of the zoo.
        policy: Keras' name of the policy.
        keras_own: whether to use Keras' own batch normalisation.
        **options: arguments of `zoo.get_model`.
    """
    keras.config.set_dtype_policy(policy)
    try:
        model = zoo.get_model(name, **options)
    finally:
        keras.config.set_dtype_policy("float32")
    if not keras_own:
        return model

    def copy(layer):
        kind = type(layer)
        if isinstance(layer, BatchNormalization):
            kind = keras.layers.BatchNormalization
        return kind.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=copy)


def pixels(number: int, channels: int = 3) -> Images:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (number, 32, 32, channels), np.uint8)
    return Images(images, rng.integers(0, 10, number))


def training_step(
    strategy: tf.distribute.Strategy,
    batch_size: int,
    name: str,
    channels: int = 3,
    **options: Any,
) -> Callable[[], float]:
    """The training step of `train.train`, always on the same images.

    Args:
        strategy: the distribution strategy.
        batch_size: images per step, over all replicas.
        name: name of the network.
        channels: channels of the images.
        **options: arguments of `network`.
    """
    with strategy.scope():
        model = network(name, input_shape=(32, 32, channels), **options)
        model.compile(keras.optimizers.SGD(1e-3, 0.9))
        model.optimizer.build(model.trainable_variables)
    synchronize_batch_norm(model, strategy.num_replicas_in_sync > 1)
    objective = make_objective(ObjectiveConfig())
    step = make_step(model, strategy, objective, weight_decay=1e-4)
    data = pixels(batch_size, channels)
    size = batch_size // strategy.num_replicas_in_sync

    def same_batch(context):
        batch = tf.data.Dataset.from_tensor_slices((data.images, data.labels))
        return batch.batch(size, drop_remainder=True).cache().repeat()

    batches = iter(strategy.distribute_datasets_from_function(same_batch))
    fixed = [tf.constant(v) for v in (1, 0, 1.0, [0.0, 0.0])]
    return lambda: float(step(batches, *fixed)[0, 0])


def inference(policy: str, keras_own: bool = False) -> Callable[[], np.ndarray]:
    """The compiled function of validation: the logits of a batch."""
    model = network(f"in_resnet{FLAGS.depth}", policy, keras_own)
    classifier = Classifier(model, FLAGS.batch_size)
    images = pixels(FLAGS.batch_size).images
    return lambda: classifier.logits(images)


def contend(name: str) -> None:
    """Runs one of our contenders, such as `train bfloat16 keras`."""
    mode, precision, normalisation = name.split()
    options = {"policy": PRECISIONS[precision], "keras_own": normalisation == "keras"}
    if mode == "inference":
        contenders.answer(inference(**options))
        return
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    network_name = f"in_resnet{FLAGS.depth}"
    contenders.answer(
        training_step(strategy, FLAGS.batch_size, network_name, **options)
    )


def against_pytorch(mode: str, goal: float) -> str:
    """Table of the speed of our functions and PyTorch's.

    Args:
        mode: `train` or `inference`.
        goal: least ratio to PyTorch's fastest function of the same precision.
    """
    commands, precision_of, own = {}, {}, set()
    variants = itertools.product(("eager", "compiled"), ("NCHW", "channels_last"))
    variants = list(variants) if importlib.util.find_spec("torch") else []
    for precision in FLAGS.precisions:
        for label, kind in (("", "fused"), (", Keras' batch normalisation", "keras")):
            name = f"{precision}{label}"
            contender = f"--contender={mode} {precision} {kind}"
            commands[name] = [*sys.argv, contender]
            precision_of[name] = precision
            own.add(name)
        for kind, layout in variants:
            name = f"PyTorch {precision}, {kind}, {layout}"
            commands[name] = [
                os.path.join(os.path.dirname(__file__), "torch_network.py"),
                *["--train"] * (mode == "train"),
                *["--compiled"] * (kind == "compiled"),
                f"--layout={layout}",
                f"--precision={precision}",
                f"--depth={FLAGS.depth}",
                f"--batch_size={FLAGS.batch_size}",
                f"--threads={FLAGS.threads}",
            ]
            precision_of[name] = precision
    compiled = [name for name in commands if "compiled" in name]
    seconds = contenders.compare(commands, FLAGS.rounds, mode, optional=compiled)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = []
    for name, precision in precision_of.items():
        if name not in seconds:
            rows.append([name, "does not compile here", "", ""])
            continue
        rivals = [n for n in medians if precision_of[n] == precision and n not in own]
        best, against = min(rivals, key=medians.__getitem__, default=None), ""
        if best:
            speed = measure.ratios(seconds[best], seconds[name])
            bound = goal if name in PRECISIONS else None
            against = measure.verdict(speed, bound, at_least=True)
        batch = medians[name]
        milliseconds, rate = f"{1e3 * batch:.1f} ms", f"{FLAGS.batch_size / batch:.0f}"
        rows.append([name, milliseconds, rate, against])
    header = ["", "batch", "images/s", "speed relative to PyTorch's best"]
    return markdown.table(header, rows)


def input_pipeline(step: Callable[[], float], precision: str) -> str:
    """The input of an epoch of CIFAR-10's size, compared with its training steps."""
    pipeline = TrainingPipeline(pixels(EPOCH), FLAGS.batch_size, "crop_flip", 0)
    epochs = iter(range(10**9))

    def epoch():
        for _ in pipeline.batches(next(epochs)):
            pass

    rounds = max(3, FLAGS.rounds // 5)
    seconds = measure.compare({"input": epoch, "step": step}, rounds, "input")
    share = measure.ratios(
        seconds["input"], seconds["step"], 1 / pipeline.steps_per_epoch
    )
    batch = statistics.median(seconds["input"]) / pipeline.steps_per_epoch
    return (
        f"Shuffling, cropping and mirroring an epoch of {EPOCH} images, including its "
        f"start: {1e3 * batch:.2f} ms per batch. Relative to a training step in "
        f"{precision}: {measure.verdict(share, GOALS['input'])}."
    )


def _serve(pipe, replicas, free, threads, batch_size, name):
    """Serves a training step in its own process: one run per message on the pipe."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    if replicas > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * replicas,
        )
    if not free:
        make_repeatable()
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    step = training_step(strategy, batch_size, name)
    while True:
        pipe.recv()
        pipe.send(step())


def processes() -> str:
    """Table of what needs separate processes: replicas and threads."""
    kinds = {
        "one replica": (1, False),
        "two replicas on two logical CPUs": (2, False),
        "one replica, operations in parallel": (1, True),
    }
    context, workers = multiprocessing.get_context("spawn"), {}
    for kind, (replicas, free) in kinds.items():
        pipe, other = context.Pipe()
        name = f"in_resnet{FLAGS.depth}"
        worker = context.Process(
            target=_serve,
            args=(other, replicas, free, FLAGS.threads, FLAGS.batch_size, name),
        )
        worker.start()
        other.close()  # so that `recv` fails if the worker does
        workers[kind] = worker, pipe

    def ask(pipe):
        pipe.send(True)
        return pipe.recv()

    try:
        steps = {kind: lambda p=pipe: ask(p) for kind, (_, pipe) in workers.items()}
        seconds = measure.compare(steps, FLAGS.rounds, "processes")
    finally:
        for worker, _ in workers.values():
            worker.terminate()
            worker.join()
    rows = [
        [
            kind,
            f"{1e3 * statistics.median(values):.1f} ms",
            measure.verdict(measure.ratios(values, seconds["one replica"])),
        ]
        for kind, values in seconds.items()
    ]
    return markdown.table(["", "step", "time relative to one replica"], rows)


def damping(strategy: tf.distribute.Strategy) -> str:
    """The training step of the damped network relative to the undamped one."""
    steps = {
        name: training_step(strategy, FLAGS.batch_size, f"{name}{FLAGS.depth}")
        for name in ("resnet", "in_resnet")
    }
    seconds = measure.compare(steps, FLAGS.rounds, "damping")
    ratio = measure.verdict(measure.ratios(seconds["in_resnet"], seconds["resnet"]))
    return (
        f"A step of in_resnet{FLAGS.depth} relative to one of resnet{FLAGS.depth}, "
        f"float32: {ratio}. See [what the parts of the zoo cost](benchmarks_zoo.md) "
        "for the rest."
    )


def resident() -> int:
    """Resident memory of this process, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class RunMonitor(keras.callbacks.Callback):
    """Times a run's steps, and as many bare steps after each epoch; records memory.

    Args:
        step: the bare step.

    Attributes:
        ratios: the median time of a step relative to a bare step, per epoch.
        memory: resident memory after each epoch, in bytes.
    """

    def __init__(self, step: Callable[[], float]):
        super().__init__()
        self._step = step
        self._ends: dict[int, float] = {}
        self.ratios: list[float] = []
        self.memory: list[int] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Discards the times of the previous epoch."""
        self._ends = {}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Records when a step and its callbacks have ended."""
        self._ends[batch] = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compares the median time of a step with that of bare steps."""
        if epoch:  # The first epoch includes the compilation.
            ends = sorted(self._ends.items())
            pairs = itertools.pairwise(ends)
            steps = [(t - s) / (j - i) for (i, s), (j, t) in pairs]
            bare = []
            for _ in steps:
                start = time.perf_counter()
                self._step()
                bare.append(time.perf_counter() - start)
            self.ratios.append(statistics.median(steps) / statistics.median(bare))
        if os.path.exists("/proc/self/statm"):
            self.memory.append(resident())


def whole_run(strategy: tf.distribute.Strategy) -> str:
    """A run of `training.train` compared with bare steps, and its memory."""
    name = f"in_resnet{FLAGS.depth}"
    monitor = RunMonitor(training_step(strategy, FLAGS.batch_size, name, channels=1))
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            model=name,
            dataset="digits",
            image_size=32,
            epochs=FLAGS.epochs,
            batch_size=FLAGS.batch_size,
            output_dir=os.path.join(folder, "run"),
            verbose=0,
        )
        run.train(
            config,
            lambda shape, classes: zoo.get_model(
                name, input_shape=shape, classes=classes
            ),
            [monitor],
        )
    memory = "Resident memory can only be measured on systems with /proc."
    if monitor.memory:
        growth = [monitor.memory[-1] / monitor.memory[len(monitor.memory) // 2]]
        listed = ", ".join(f"{value / 2**20:.0f}" for value in monitor.memory)
        memory = (
            f"Resident memory after each epoch, in MiB: {listed}. Last epoch relative "
            f"to the middle one: {measure.verdict(growth, GOALS['memory'])}."
        )
    return (
        f"`training.train` on digits of 32×32 pixels, {FLAGS.epochs} epochs, float32. "
        "A step with its input, metrics and callbacks relative to the bare compiled "
        "step, medians of each epoch except the first: "
        f"{measure.verdict(monitor.ratios, GOALS['loop'])}.\n\n{memory}"
    )


def main(_):
    """Runs the measurements and writes the document, or runs a contender."""
    make_repeatable()  # as training does
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    if FLAGS.contender:
        contend(FLAGS.contender)
        return
    threads = FLAGS.threads or os.cpu_count()
    options = f"--threads={FLAGS.threads} " if FLAGS.threads else ""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    name, size = f"in_resnet{FLAGS.depth}", FLAGS.batch_size
    precision = FLAGS.precisions[-1]
    step = training_step(strategy, size, name, policy=PRECISIONS[precision])
    if FLAGS["precisions"].present:
        options += "".join(f"--precisions={name} " for name in FLAGS.precisions)
    text = f"""# How fast networks train and infer

    python benchmarks/training_speed.py {options}--output=docs/benchmarks_training.md

{measure.machine()}.
{measure.METHOD.format(rounds=FLAGS.rounds)}

The network is {name}, on {size} images of 32×32×3, threads: {threads}. In the first two
tables each contender runs in a process of its own, all with the same settings of the C
library's allocator. PyTorch runs the same architecture, written for the benchmark
(`benchmarks/torch_network.py`), in float32, and in bfloat16 with autocast. Ratios are
to PyTorch's fastest variant of the same precision, and above 1 in our favour. PyTorch's
threads wait for one another at every operation, so if other work runs on the machine,
measure with `--threads=1`.

## Training

A bare step: forward and backward pass, coupled weight decay, SGD with momentum.

{against_pytorch("train", GOALS["training"])}

## Inference

Logits of a batch; ours are computed from uint8 by the function that validates each
epoch. Evaluation under attack and exports compute in float32, whatever the network was
trained in.

{against_pytorch("inference", GOALS["inference"])}

## Input

{input_pipeline(step, precision)}

## The loop and memory

{whole_run(strategy)}

## Damping

{damping(strategy)}

## Replicas and threads

Each runs in its own process; they take turns. Training runs one operation at a time, on
all cores, so that it is repeatable bit for bit.

{processes()}
"""
    measure.write(text, FLAGS.output)


if __name__ == "__main__":
    app.run(main)
