r"""How fast networks train and infer, compared with PyTorch and with their own parts.

python benchmarks/training_speed.py --output=docs/benchmarks_training.md

See `measure` for the method. PyTorch is measured if it is installed.
"""

import importlib.util
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FLAGS = flags.FLAGS
flags.DEFINE_integer("depth", 20, "Depth of the networks.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_integer("rounds", 25, "Rounds of every comparison.")
flags.DEFINE_integer("epochs", 10, "Epochs of the run whose memory is measured.")
flags.DEFINE_integer("threads", 0, "Threads of a step; 0 for one per core.")
flags.DEFINE_string("output", None, "Markdown file to write, as well as stdout.")

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


def own_functions(make: Callable[..., Callable]) -> dict[str, Callable]:
    """Functions by name: both precisions, with our batch normalisation and Keras'."""
    functions = {}
    for precision, policy in PRECISIONS.items():
        functions[precision] = make(policy=policy)
        functions[f"{precision}, Keras' batch normalisation"] = make(
            policy=policy, keras_own=True
        )
    return functions


def torch_functions(train: bool) -> tuple[dict[str, Callable], dict[str, str]]:
    """PyTorch's functions by name, and the reasons why some of them do not run."""
    if importlib.util.find_spec("torch") is None:
        return {}, {"PyTorch": "not installed"}
    import torch
    import torch_network

    if FLAGS.threads:
        torch.set_num_threads(FLAGS.threads)
    data, functions, failures = pixels(FLAGS.batch_size), {}, {}
    labels = torch.from_numpy(data.labels)
    layouts = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
    for layout, memory_format in layouts.items():
        images = torch.from_numpy(data.images).permute(0, 3, 1, 2).float()
        images = images.contiguous(memory_format=memory_format)
        for compiled in (False, True):
            name = f"PyTorch {'compiled' if compiled else 'eager'}, {layout}"
            model = torch_network.InResNet(FLAGS.depth)
            model = model.to(memory_format=memory_format)
            if train:
                step = torch_network.training_step(model, compiled)
                function = lambda f=step, x=images: float(f(x, labels))
            else:
                logits = torch_network.inference(model, compiled)
                function = lambda f=logits, x=images: f(x).numpy()
            try:
                function()
            except Exception as error:  # whatever a missing compiler raises
                if not compiled:
                    raise
                failures[name] = f"does not compile here: {type(error).__name__}"
            else:
                functions[name] = function
    return functions, failures


def against_pytorch(own: dict[str, Callable], train: bool, goal: float) -> str:
    """Table of the speed of our functions and PyTorch's.

    Args:
        own: our functions, by name.
        train: whether they are training steps.
        goal: least ratio to PyTorch's fastest function.
    """
    pytorch, failures = torch_functions(train)
    label = "training" if train else "inference"
    seconds = measure.compare({**own, **pytorch}, FLAGS.rounds, label)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min(pytorch, key=medians.get, default=None)
    rows = []
    for name, value in medians.items():
        against = ""
        if best:
            speed = measure.ratios(seconds[best], seconds[name])
            bound = goal if name in PRECISIONS else None
            against = measure.verdict(speed, bound, at_least=True)
        row = [name, f"{1e3 * value:.1f} ms", f"{FLAGS.batch_size / value:.0f}"]
        rows.append([*row, against])
    rows += [[name, reason, "", ""] for name, reason in failures.items()]
    header = ["", "batch", "images/s", f"speed relative to {best or 'PyTorch'}"]
    return markdown.table(header, rows)


def input_pipeline(step: Callable[[], float]) -> str:
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
        f"bfloat16: {measure.verdict(share, GOALS['input'])}."
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
    """Runs the measurements and writes the document."""
    make_repeatable()  # as training does
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    threads = FLAGS.threads or os.cpu_count()
    options = f"--threads={FLAGS.threads} " if FLAGS.threads else ""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    name, size = f"in_resnet{FLAGS.depth}", FLAGS.batch_size
    steps = own_functions(lambda **kw: training_step(strategy, size, name, **kw))
    text = f"""# How fast networks train and infer

    python benchmarks/training_speed.py {options}--output=docs/benchmarks_training.md

{measure.machine()}.
{measure.METHOD.format(rounds=FLAGS.rounds)}

The network is {name}, on {size} images of 32×32×3, threads: {threads}. PyTorch runs the
same architecture, written for the benchmark (`benchmarks/torch_network.py`), in float32
with the same number of threads. In the first two tables ratios above 1 are in our
favour. PyTorch's threads wait for one another at every operation, so if other work runs
on the machine, measure with `--threads=1`. The ratios to PyTorch flatter us, since it
runs inside TensorFlow's process: [benchmarks.md](benchmarks.md#pytorch).

## Training

A bare step: forward and backward pass, coupled weight decay, SGD with momentum.

{against_pytorch(steps, True, GOALS["training"])}

## Inference

Logits of a batch; ours are computed from uint8 by the function that validates each
epoch. Evaluation under attack and exports compute in float32, whatever the network was
trained in.

{against_pytorch(own_functions(inference), False, GOALS["inference"])}

## Input

{input_pipeline(steps["bfloat16"])}

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
