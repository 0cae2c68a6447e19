r"""What the parts of the zoo cost: building, damping, grouped convolutions.

python benchmarks/zoo_costs.py --output=docs/benchmarks_zoo.md

See `measure` for the method.
"""

import statistics
import time
from collections.abc import Callable

import environment  # noqa: F401
import keras
import measure
import numpy as np
import tensorflow as tf
from absl import app, flags

import zoo
from inres_tf import markdown, progress
from inres_tf.distribution import strategy
from inres_tf.layers import GroupedConv2D

FLAGS = flags.FLAGS
flags.DEFINE_string("network", "in_resnet110", "Network to build.")
flags.DEFINE_list(
    "networks",
    ["in_resnet20", "in_resnet110", "in_resnext29_32x4d"],
    "Networks to train.",
)
flags.DEFINE_string(
    "reference", "ResNet152V2", "Network of keras.applications to build."
)
flags.DEFINE_integer("side", 224, "Height and width of the reference's images.")
flags.DEFINE_integer("batch_size", 128, "Images per training step.")
flags.DEFINE_integer("rounds", 15, "Rounds of every comparison.")
flags.DEFINE_string("output", None, "Markdown file to write, as well as stdout.")

# Input shape, filters and groups of convolutions of ResNeXts.
GROUPED = [
    ((32, 32, 32, 64), 64, 8),
    ((32, 32, 32, 128), 128, 32),
    ((32, 16, 16, 128), 128, 32),
    ((32, 8, 8, 512), 512, 8),
]
# Goals: the largest ratios.
GOALS = {"layer": 1.0, "damping": 1.02, "grouped": 1.5}


def building() -> str:
    """Table of the time of building a network, per layer, and of its first pass."""
    layer_counts, rows = {}, []

    def build(make, shape):
        def run():
            model = make()
            layer_counts[make] = len(model.layers)
            return model, np.zeros((1, *shape), np.float32)

        return run

    ours = build(lambda: zoo.get_model(FLAGS.network), (32, 32, 3))
    application = getattr(keras.applications, FLAGS.reference)
    side = (FLAGS.side, FLAGS.side, 3)
    theirs = build(lambda: application(weights=None, input_shape=side), side)
    builds = {FLAGS.network: ours, FLAGS.reference: theirs}
    built = measure.compare(builds, FLAGS.rounds, "building")
    counts = dict(zip(builds, layer_counts.values()))
    first = {name: [] for name in builds}
    for _ in progress.bar(range(FLAGS.rounds), "first forward pass", "round"):
        for name, run in builds.items():
            model, image = run()
            start = time.perf_counter()
            model(image)
            first[name].append(time.perf_counter() - start)
    for name in builds:
        median = statistics.median(built[name])
        rows.append(
            [
                name,
                f"{counts[name]}",
                f"{median:.2f} s",
                f"{1e3 * median / counts[name]:.2f} ms",
                f"{statistics.median(first[name]):.2f} s",
            ]
        )
    scale = counts[FLAGS.reference] / counts[FLAGS.network]
    per_layer = measure.verdict(
        measure.ratios(built[FLAGS.network], built[FLAGS.reference], scale),
        GOALS["layer"],
    )
    table = markdown.table(
        ["network", "layers", "building", "building per layer", "first forward pass"],
        rows,
    )
    return (
        f"{table}\n\nTime per layer of {FLAGS.network} relative to {FLAGS.reference}: "
        f"{per_layer}."
    )


def training_step(network: str, damping: str) -> Callable[[], np.ndarray]:
    """A compiled training step of a network with a damping."""
    model = zoo.get_model(
        network,
        damping=damping,
        input_shape=(32, 32, 3),
        classes=10,
        classifier_activation=None,
    )
    images = tf.random.uniform((FLAGS.batch_size, 32, 32, 3), 0, 255)
    labels = tf.random.uniform((FLAGS.batch_size,), 0, 10, tf.int32)
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda: step().numpy()


def damping() -> str:
    """Table of the time of a training step with each damping relative to none."""
    names, rows = ("none", "in", "lambda_in", "exponential"), []
    for network in FLAGS.networks:
        steps = {name: training_step(network, name) for name in names}
        seconds = measure.compare(steps, FLAGS.rounds, network)
        ratios = (
            measure.verdict(
                measure.ratios(seconds[name], seconds["none"]), GOALS["damping"]
            )
            for name in names[1:]
        )
        facts = zoo.describe(network)
        rows.append(
            [
                network,
                f"{facts['damped_blocks']} of {facts['blocks']}",
                f"{statistics.median(seconds['none']):.3f} s",
                *ratios,
            ]
        )
    return markdown.table(["network", "damped blocks", *names], rows)


def grouped_step(
    layer: keras.layers.Layer, images: tf.Tensor
) -> Callable[[], np.ndarray]:
    """The compiled forward and backward pass of a convolution."""
    layer.build(images.shape)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(layer(images) ** 2)
        return tape.gradient(loss, [images, layer.kernel.value])

    return lambda: step()[1].numpy()


class RawConv2D(keras.layers.Conv2D):
    """TensorFlow's operation without anything around it."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies the convolution."""
        return tf.nn.conv2d(inputs, self.kernel.value, 1, "SAME")


def grouped() -> str:
    """Table of the time of grouped convolutions: ours, TensorFlow's and Keras'."""
    rows = []
    for shape, filters, groups in GROUPED:
        images = tf.random.normal(shape)
        options = {"groups": groups, "padding": "same", "use_bias": False}
        layers = {
            "raw": RawConv2D(filters, 3, **options),
            "ours": GroupedConv2D(filters, 3, **options),
        }
        steps = {name: grouped_step(layer, images) for name, layer in layers.items()}
        seconds = measure.compare(steps, FLAGS.rounds, f"{groups} groups")
        keras_own = grouped_step(keras.layers.Conv2D(filters, 3, **options), images)
        keras_seconds = measure.compare({"keras": keras_own}, 1, "Keras' own")["keras"]
        rows.append(
            [
                "×".join(map(str, shape)),
                f"{groups}",
                *(
                    f"{1e3 * statistics.median(seconds[name]):.1f} ms"
                    for name in layers
                ),
                f"{1e3 * keras_seconds[0]:.0f} ms",
                measure.verdict(
                    measure.ratios(seconds["ours"], seconds["raw"]), GOALS["grouped"]
                ),
            ]
        )
    header = ["input", "groups", "tf.nn.conv2d", "GroupedConv2D", "Conv2D(groups)"]
    return markdown.table([*header, "ratio to tf.nn.conv2d"], rows)


def main(_):
    """Runs the measurements and writes the document."""
    strategy.make_repeatable()  # as training does
    text = f"""# What the parts of the zoo cost

    python benchmarks/zoo_costs.py --output=docs/benchmarks_zoo.md

{measure.machine()}, float32.
{measure.METHOD.format(rounds=FLAGS.rounds)}

## Building a network

{building()}

## What damping adds to a training step

Batch {FLAGS.batch_size}, SGD with momentum, 32×32 images; seconds of a step without
damping, and ratios to it. On a CPU the cost is memory traffic: one more pass over the
shortcut in the forward pass, and in the backward pass one for its gradient and two for
the gradient of λ (twice that if the branch has a weight too). Computing the sum of
products as a matrix product, as a depthwise convolution or within TensorFlow's batch
normalisation was not faster.

{damping()}

## Grouped 3×3 convolution

Forward and backward pass. Keras' convolution, compiled with XLA, is timed once.

{grouped()}
"""
    measure.write(text, FLAGS.output)


if __name__ == "__main__":
    app.run(main)
