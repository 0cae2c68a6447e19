r"""How long attacks take, compared with a plain loop over cleverhans.

python benchmarks/attack_speed.py --checkpoint=runs/in_resnet20 --dataset=cifar10 \
    --data_dir=DATA --output=docs/benchmarks_attacks.md

See `measure` for the method.
"""

import statistics
import time

import environment  # noqa: F401
import keras
import measure
import numpy as np
from absl import app, flags
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

import zoo
from inres_tf import attacks, data, markdown, progress
from inres_tf.attacks import ATTACKS
from inres_tf.data import Dataset, Images
from inres_tf.distribution import strategy
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.models import precision
from inres_tf.models.logits import logits_fn
from inres_tf.training import checkpoints

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "checkpoint", None, "Network to attack; by default --network is trained."
)
flags.DEFINE_string("network", "in_resnet20", "Network to train for two epochs.")
flags.DEFINE_string("dataset", "digits", "Dataset whose test images are attacked.")
flags.DEFINE_string("data_dir", None, "Folder of TensorFlow Datasets.")
flags.DEFINE_integer("images", 500, "Number of first images that PGD attacks.")
flags.DEFINE_integer("few", 20, "Number of first images that every attack attacks.")
flags.DEFINE_float("eps", 8.0, "Radius of PGD, in 1/255 of the pixel range.")
flags.DEFINE_float("small", 1.0, "Radius of every attack.")
flags.DEFINE_integer("batch_size", 250, "Images at a time.")
flags.DEFINE_integer("steps", 20, "Steps of PGD.")
flags.DEFINE_integer("queries", 5000, "Queries of Square.")
flags.DEFINE_integer("rounds", 3, "Rounds of the comparison.")
flags.DEFINE_string("output", None, "Markdown file to write, as well as stdout.")

# Goal: the largest share of the plain loop's time.
GOAL = 0.2


def network(dataset: Dataset) -> keras.Model:
    """The network to attack, trained normally, without adversarial examples."""
    if FLAGS.checkpoint:
        return checkpoints.load_model(checkpoints.find_model(FLAGS.checkpoint))
    keras.utils.set_random_seed(0)
    model = zoo.get_model(
        FLAGS.network, input_shape=dataset.shape, classes=len(dataset.class_names)
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(dataset.train.images, dataset.train.labels, epochs=2, verbose=0)
    return model


def against_cleverhans(model: keras.Model, test: Images) -> str:
    """Table of PGD by cleverhans in a loop and by `attacks.pgd` on the same batches."""
    test = test.take(slice(FLAGS.images))
    images, labels = test.images.astype(np.float32), test.labels.astype(np.int64)
    classifier, accuracies = compiled_classifier(model, FLAGS.batch_size), {}
    logits = logits_fn(model)

    def plain(name, fresh):
        """cleverhans in a loop; with `fresh`, a new model function per batch."""

        def run():
            correct = 0
            for start in range(0, len(images), FLAGS.batch_size):
                part = slice(start, start + FLAGS.batch_size)
                adversarial = projected_gradient_descent(
                    (lambda x: logits(x)) if fresh else logits,
                    images[part],
                    FLAGS.eps,
                    1.0,
                    FLAGS.steps,
                    np.inf,
                    clip_min=0.0,
                    clip_max=255.0,
                    y=labels[part],
                    rand_init=True,
                )
                correct += classifier.correct(adversarial.numpy(), labels[part]).sum()
            accuracies[name] = correct / len(images)

        return run

    def ours(name, early_stop):
        def run():
            adversarial = attacks.pgd(
                model,
                images,
                labels,
                FLAGS.eps,
                steps=FLAGS.steps,
                early_stop=early_stop,
                batch_size=FLAGS.batch_size,
            )
            accuracies[name] = classifier.correct(adversarial, labels).mean()

        return run

    names = [
        "cleverhans",
        "cleverhans, a new lambda for each batch",
        "attacks.pgd",
        "attacks.pgd(early_stop=True)",
    ]
    loops = [
        plain(names[0], False),
        plain(names[1], True),
        ours(names[2], False),
        ours(names[3], True),
    ]
    seconds = measure.compare(dict(zip(names, loops)), FLAGS.rounds, "PGD")
    goals = [None, None, None, GOAL]
    rows = [
        [
            name,
            f"{statistics.median(seconds[name]):.1f}",
            measure.verdict(measure.ratios(seconds[name], seconds[names[0]]), goal),
            markdown.percent([accuracies[name]]),
        ]
        for name, goal in zip(names, goals)
    ]
    return markdown.table(["loop", "seconds", "ratio", "robust accuracy (%)"], rows)


def every_attack(model: keras.Model, test: Images) -> str:
    """Table of the time and accuracy of every attack, with and without early stop."""
    test = test.take(slice(FLAGS.few))
    classifier, rows = compiled_classifier(model, FLAGS.batch_size), []
    budgets = {"square": {"queries": FLAGS.queries}}
    budgets["autoattack"] = {"queries": FLAGS.queries}
    # The functions of cleverhans cannot stop early; its PGD is in the first table.
    own = {k: v for k, v in ATTACKS.items() if not k.startswith("cleverhans_")}
    for name, attack in progress.bar(own.items(), "every", "attack"):
        cells = [name]
        eps = FLAGS.small * (np.prod(test.images.shape[1:]) ** 0.5 / 2)
        eps = eps if attack.norms == ("l2",) else FLAGS.small
        for early_stop in (True, False):
            if name == "autoattack" and not early_stop:
                cells += ["", ""]
                continue
            settings = {"early_stop": early_stop, "batch_size": FLAGS.batch_size}
            settings |= budgets.get(name, {})
            # The first call, on one image, compiles the attack.
            for number in (1, len(test)):
                start = time.perf_counter()
                adversarial = attack(
                    model,
                    test.images[:number],
                    test.labels[:number],
                    eps,
                    **settings,
                )
                seconds = time.perf_counter() - start
            correct = classifier.correct(adversarial, test.labels)
            cells += [f"{seconds:.1f}", markdown.percent([correct.mean()])]
        rows.append(cells)
    header = ["attack", "stopping early: seconds", "accuracy (%)"]
    return markdown.table([*header, "all steps: seconds", "accuracy (%)"], rows)


def main(_):
    """Runs the measurements and writes the document."""
    strategy.make_repeatable()  # as evaluations do
    dataset = data.load(FLAGS.dataset, data_dir=FLAGS.data_dir)
    # Attacks run in float32, so the plain loop must do so too.
    model = precision.in_float32(network(dataset))
    command = "python benchmarks/attack_speed.py --output=docs/benchmarks_attacks.md"
    if FLAGS.checkpoint:
        command += " \\\n        --checkpoint=runs/in_resnet20 --dataset=cifar10"
        command += " --data_dir=DATA"
    clean = compiled_classifier(model, FLAGS.batch_size).correct(
        dataset.test.images[: FLAGS.images], dataset.test.labels[: FLAGS.images]
    )
    text = f"""# How long attacks take

    {command}

{measure.machine()}, float32.
{measure.METHOD.format(rounds=FLAGS.rounds)}

{model.name}, trained normally; {FLAGS.dataset}, batches of {FLAGS.batch_size};
{markdown.percent([clean.mean()])}% of the first {FLAGS.images} test images are
classified correctly.

## PGD compared with a plain loop over cleverhans

{FLAGS.images} images, {FLAGS.steps} steps of 1/255 at ε = {FLAGS.eps:g}/255 from a
random start, including the accuracy on the adversarial examples. Ratios to the first
row.

{against_cleverhans(model, dataset.test)}

## Every attack

The first {FLAGS.few} test images, one run per attack, default settings (Square:
{FLAGS.queries} queries). ε = {FLAGS.small:g}/255 in the L∞ norm; for cw_l2, in the L2
norm, this is multiplied by half the square root of the number of values per image.

{every_attack(model, dataset.test)}
"""
    measure.write(text, FLAGS.output)


if __name__ == "__main__":
    app.run(main)
