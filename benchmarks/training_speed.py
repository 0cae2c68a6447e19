r"""How fast networks train and infer, beside PyTorch and beside their own pieces.

python benchmarks/training_speed.py --output=docs/benchmarks_training.md

See `measure` for how. PyTorch is measured where it is installed.
"""

import importlib.util
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time

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
flags.DEFINE_integer("batch_size", 128, "Images in a step.")
flags.DEFINE_integer("rounds", 25, "Rounds of every comparison.")
flags.DEFINE_integer("epochs", 10, "Epochs of the run whose memory is watched.")
flags.DEFINE_integer("threads", 0, "Threads of a step; 0: one a core.")
flags.DEFINE_string("output", None, "Markdown file to write; else stdout.")

# What was set as the goals: ratios.
GOALS = {"training": 1.2, "inference": 1.8, "input": 0.05, "loop": 1.03, "memory": 1.02}
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# Images in an epoch of CIFAR-10.
EPOCH = 50_000


def network(name, policy="float32", keras_own=False, **options):
    """A network of the zoo under a dtype policy.

    Args:
        name: of the zoo.
        policy: Keras' name of the policy.
        keras_own: whether it has Keras' own batch normalisation.
        **options: those of `zoo.get_model`.
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


def pixels(number, channels=3):
    """Random images and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (number, 32, 32, channels), np.uint8)
    return Images(images, rng.integers(0, 10, number))


def training_step(strategy, batch_size, name, channels=3, **options):
    """A training step on the same images each time, as `train.train` runs it.

    Args:
        strategy: the distribution strategy.
        batch_size: images of the step, over all replicas.
        name: of the network.
        channels: of the images.
        **options: those of `network`.
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

    def same(context):
        batch = tf.data.Dataset.from_tensor_slices((data.images, data.labels))
        return batch.batch(size, drop_remainder=True).cache().repeat()

    batches = iter(strategy.distribute_datasets_from_function(same))
    fixed = [tf.constant(v) for v in (1, 0, 1.0, [0.0, 0.0])]
    return lambda: float(step(batches, *fixed)[0, 0])


def inference(policy, keras_own=False):
    """Logits of a batch by the compiled function of validation."""
    model = network(f"in_resnet{FLAGS.depth}", policy, keras_own)
    classifier = Classifier(model, FLAGS.batch_size)
    images = pixels(FLAGS.batch_size).images
    return lambda: classifier.logits(images)


def ours(make) -> dict:
    """Functions by name: both precisions, with our batch normalisation and Keras'."""
    things = {}
    for precision, policy in PRECISIONS.items():
        things[f"{precision}"] = make(policy=policy)
        things[f"{precision}, Keras' batch normalisation"] = make(
            policy=policy, keras_own=True
        )
    return things


def theirs(train) -> tuple[dict, dict]:
    """PyTorch's functions by name, and why those that do not run do not."""
    if importlib.util.find_spec("torch") is None:
        return {}, {"PyTorch": "not installed"}
    import torch
    import torch_network

    if FLAGS.threads:
        torch.set_num_threads(FLAGS.threads)
    data, things, failures = pixels(FLAGS.batch_size), {}, {}
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
                thing = lambda f=step, x=images: float(f(x, labels))
            else:
                logits = torch_network.inference(model, compiled)
                thing = lambda f=logits, x=images: f(x).numpy()
            try:
                thing()
            except Exception as error:  # whatever a compiler that is missing raises
                if not compiled:
                    raise
                failures[name] = f"does not compile here: {type(error).__name__}"
            else:
                things[name] = thing
    return things, failures


def beside_pytorch(own, train, goal) -> str:
    """Table of images a second of our functions and PyTorch's, best ratio to goal."""
    torch_things, failures = theirs(train)
    label = "training" if train else "inference"
    seconds = measure.compare({**own, **torch_things}, FLAGS.rounds, label)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min(torch_things, key=medians.get, default=None)
    rows = []
    for name, value in medians.items():
        against = ""
        if best:
            beside = measure.ratios(seconds[best], seconds[name])
            bound = goal if name in PRECISIONS else None
            against = measure.verdict(beside, bound, at_least=True)
        row = [name, f"{1e3 * value:.1f} ms", f"{FLAGS.batch_size / value:.0f}"]
        rows.append([*row, against])
    rows += [[name, reason, "", ""] for name, reason in failures.items()]
    header = ["", "a batch", "images/s", f"speed against {best or 'PyTorch'}"]
    return markdown.table(header, rows)


def input_pipeline(step) -> str:
    """The whole input of an epoch of CIFAR-10's size, beside its steps."""
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
        f"Order, crops and mirroring of an epoch of {EPOCH} images with its start: "
        f"{1e3 * batch:.2f} ms a batch. Against a training step in bfloat16: "
        f"{measure.verdict(share, GOALS['input'])}."
    )


def _serve(pipe, replicas, free, threads, batch_size, name):
    """A training step in a process of its own, run whenever the pipe asks."""
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
    """Table of what needs processes of its own: replicas, and threads."""
    kinds = {
        "one replica": (1, False),
        "two replicas on two logical CPUs": (2, False),
        "one replica, operations side by side": (1, True),
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
        other.close()  # so that a worker that fails ends this too
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
    return markdown.table(["", "a step", "time against one replica"], rows)


def damping(strategy) -> str:
    """A training step of the damped network against that of the undamped one."""
    steps = {
        name: training_step(strategy, FLAGS.batch_size, f"{name}{FLAGS.depth}")
        for name in ("resnet", "in_resnet")
    }
    seconds = measure.compare(steps, FLAGS.rounds, "damping")
    ratio = measure.verdict(measure.ratios(seconds["in_resnet"], seconds["resnet"]))
    return (
        f"A step of in_resnet{FLAGS.depth} against one of resnet{FLAGS.depth}, "
        f"float32: {ratio}. See [what the pieces cost](benchmarks_zoo.md) for the rest."
    )


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watch(keras.callbacks.Callback):
    """Times a run's steps, and after each epoch as many bare ones; watches memory.

    Args:
        step: the bare step.
    """

    def __init__(self, step):
        super().__init__()
        self._step, self._ends = step, {}
        self.ratios, self.memory = [], []

    def on_epoch_begin(self, epoch, logs=None):
        """Forgets the last epoch's steps."""
        self._ends = {}

    def on_train_batch_end(self, batch, logs=None):
        """Notes when a step and all that follows it have ended."""
        self._ends[batch] = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Compares the median time of a step with that of bare steps."""
        if epoch:  # In the first one the step is compiled.
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


def whole_run(strategy) -> str:
    """A whole run of `training.train` against bare steps, and its memory."""
    name = f"in_resnet{FLAGS.depth}"
    watch = Watch(training_step(strategy, FLAGS.batch_size, name, channels=1))
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
            [watch],
        )
    memory = "Resident memory is read where there is /proc."
    if watch.memory:
        growth = [watch.memory[-1] / watch.memory[len(watch.memory) // 2]]
        listed = ", ".join(f"{value / 2**20:.0f}" for value in watch.memory)
        memory = (
            f"Resident memory after each epoch, in MiB: {listed}. The last against the "
            f"middle: {measure.verdict(growth, GOALS['memory'])}."
        )
    return (
        f"`training.train` on digits of 32×32 pixels, {FLAGS.epochs} epochs, float32. "
        "A step with its input, metrics and callbacks against the bare compiled one, "
        "medians of each epoch but the first: "
        f"{measure.verdict(watch.ratios, GOALS['loop'])}.\n\n{memory}"
    )


def main(_):
    """Measures and writes."""
    make_repeatable()  # as training does
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    threads = FLAGS.threads or os.cpu_count()
    options = f"--threads={FLAGS.threads} " if FLAGS.threads else ""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    name, size = f"in_resnet{FLAGS.depth}", FLAGS.batch_size
    steps = ours(lambda **kw: training_step(strategy, size, name, **kw))
    text = f"""# How fast networks train and infer

    python benchmarks/training_speed.py {options}--output=docs/benchmarks_training.md

{measure.machine()}.
{measure.METHOD.format(rounds=FLAGS.rounds)}

The network is {name}, on {size} images of 32×32×3, threads: {threads}. PyTorch runs the
same architecture, written for the benchmark (`benchmarks/torch_network.py`), in float32
on as many. In the first two tables ratios above 1 are in our favour. PyTorch's threads
wait for one another at every operation, so a machine with other work to do must be
measured with `--threads=1`: else the ratios flatter.

## Training

A step alone: forward and backward pass, coupled weight decay, SGD with momentum.

{beside_pytorch(steps, True, GOALS["training"])}

## Inference

Logits of a batch, ours from uint8 by the function that validates each epoch. Evaluation
under attack and exports compute in float32 whatever the network was trained in.

{beside_pytorch(ours(inference), False, GOALS["inference"])}

## Input

{input_pipeline(steps["bfloat16"])}

## The loop and memory

{whole_run(strategy)}

## Damping

{damping(strategy)}

## Replicas and threads

Each in a process of its own; they take turns. Training runs one operation at a time,
on all cores, so that it is repeatable bit for bit.

{processes()}
"""
    measure.write(text, FLAGS.output)


if __name__ == "__main__":
    app.run(main)
