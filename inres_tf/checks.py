"""Checks that warn where a robust accuracy should not be believed.

Each gives a finding: a dict of its `"name"`, whether it is `"raised"`, the `"value"` it
looked at and a `"message"`. docs/evaluation.md says when each is raised and what it
means. What counts as many is more than 1% of the images, and at least two.

Reference:
    Athalye, Carlini, Wagner: Obfuscated Gradients Give a False Sense of Security, ICML
    2018. Carlini et al.: On Evaluating Adversarial Robustness, 2019.
"""

import functools
import itertools

import numpy as np
import tensorflow as tf

from inres_tf import attacks, results
from inres_tf.attacks import geometry, losses
from inres_tf.attacks.gradient import value_and_gradient
from inres_tf.attacks.search import classifier_of
from inres_tf.data import Images
from inres_tf.logits import logits_fn
from inres_tf.sharding import compile_rows

# Queries of the black-box search that runs where none was asked for.
_QUERIES = 200
# Half-way of a finite difference, as L2 norm in 1/255 of the pixel range.
_STEP = 0.5


def _finding(name, raised, value, message):
    return {
        "name": name,
        "raised": bool(raised),
        "value": value,
        "message": message if raised else "",
    }


def _many(count, number) -> bool:
    return count >= 2 and count > 0.01 * number


def of_model(model, data: Images, batch_size: int = 250) -> list[dict]:
    """Findings about a model's outputs and gradients, without an attack.

    Args:
        model: float32 Keras classifier of pixels.
        data: images to look at; a hundred will do.
        batch_size: images at a time.

    Returns:
        Findings `probabilities`, `randomness`, `batch_dependence`, `zero_gradients` and
        `misleading_gradients`.
    """
    classifier = classifier_of(model, batch_size)
    images = data.images.astype(np.float32)
    logits = classifier.logits(images)
    scale = np.abs(logits).max() + 1e-6
    random = float(np.abs(classifier.logits(images) - logits).max() / scale)
    found = [_probabilities(logits), _randomness(random)]
    half = max(1, min(len(images), batch_size) // 2)
    apart = classifier_of(model, half).logits(images)
    coupled = float(np.abs(apart - logits).max() / scale)
    found.append(
        _finding(
            "batch_dependence",
            # Randomness alone would move the outputs as much.
            coupled > max(1e-3, 2 * random),
            coupled,
            "the outputs of an image depend on the other images of its batch (by "
            f"{coupled:.1e} of the largest): batch normalisation in training mode, or "
            "a solver that couples samples; make the model ignore its batch",
        )
    )
    return [*found, *_gradients(model, images, data.labels, batch_size)]


def _probabilities(logits):
    sums = np.abs(logits.sum(-1) - 1).max()
    return _finding(
        "probabilities",
        logits.min() >= 0 and sums < 1e-3,
        float(sums),
        "the outputs taken for logits are probabilities already (none negative, each "
        "row of sum 1), so that the gradients of attacks vanish; end the model in its "
        "logits, or in a softmax as its last layer",
    )


def _randomness(random):
    return _finding(
        "randomness",
        random > 1e-5,
        random,
        f"two passes of the same images differ by {random:.1e} of the largest output: "
        "single gradients and single answers mislead; use --attacks=autoattack "
        "--autoattack=rand",
    )


def _gradients(model, images, labels, batch_size):
    """Findings about gradients: whether there are any, and whether they are true."""
    look, labels = _look(model, tf.distribute.get_strategy()), labels.astype(np.int64)
    starts = range(0, len(images), batch_size)
    parts = (slice(at, at + batch_size) for at in starts)
    zeros, slope, measured = np.concatenate(
        [look(images[part], labels[part]) for part in parts]
    ).T
    none = int((zeros == 1).sum())
    masked = float(zeros.mean())
    missing = _finding(
        "zero_gradients",
        _many(none, len(images)) or masked > 0.5,
        {"images": none / len(images), "entries": masked},
        f"{none} of {len(images)} input gradients are exactly zero and {masked:.0%} of "
        "all their entries: attacks by gradients cannot see this model; believe "
        "--attacks=square, spsa or fab instead",
    )
    ratio = None
    if (slope > 0).any():
        ratio = float(np.median(measured[slope > 0] / slope[slope > 0]))
    misleading = _finding(
        "misleading_gradients",
        ratio is not None and not 0.5 <= ratio <= 2,
        ratio,
        f"along its gradient the margin changes {ratio or 0:.2g} times as fast as the "
        "gradient says (median): gradients are approximate, shattered or replaced; "
        "believe --attacks=square or spsa instead",
    )
    return [missing, misleading]


@functools.lru_cache(maxsize=4)
def _look(model, strategy):
    """Function of images and labels to what `_gradients` looks at, a row an image.

    The share of zeros in the gradient of the cross-entropy, the slope of the margin
    along its own gradient, and the same by a finite difference.
    """
    del strategy  # the one in scope, for which `compile_rows` compiles
    logits = logits_fn(model)

    def model_fn(images):
        return tf.cast(logits(images, training=False), tf.float32)

    def margin(labels, logits):
        return losses.margin(logits, labels)

    def look(images, labels):
        _, _, of_loss = value_and_gradient(model_fn, images, labels)
        _, _, of_margin = value_and_gradient(model_fn, images, labels, margin)
        slope = geometry.size(of_margin, 2)
        step = _STEP * of_margin / geometry.per_image(tf.maximum(slope, 1e-20))
        above, below = (margin(labels, model_fn(images + one)) for one in (step, -step))
        zeros = tf.reduce_mean(tf.cast(of_loss == 0, tf.float32), axis=(1, 2, 3))
        return tf.stack([zeros, slope, (above - below) / (2 * _STEP)], axis=1)

    images = tf.TensorSpec((None, *model.input_shape[1:]))
    return compile_rows(look, [images, tf.TensorSpec((None,), tf.int64)])


def of_weights(before: list, after: list) -> list[dict]:
    """Finding `weights_changed`: whether an evaluation left another model behind.

    Args:
        before: the weights before it, as NumPy arrays.
        after: those after it.
    """
    changed = sum(not np.array_equal(a, b) for a, b in zip(before, after))
    return [
        _finding(
            "weights_changed",
            changed,
            changed,
            f"{changed} of the model's {len(after)} weights changed during the "
            "evaluation: batch normalisation or a random state in training mode",
        )
    ]


def of_accuracies(result: dict, norm: str) -> list[dict]:
    """Findings about the accuracies of attacks: `monotone` and `norms`.

    Args:
        result: of an evaluation, with `"clean"` and `"attacks"`.
        norm: in which the radii are meant.
    """
    rows, number = result["attacks"], result["num_examples"]
    if not rows:
        return []
    clean = result["clean"]["accuracy"]
    other = sorted({row["name"] for row in rows if row["norm"] != norm})
    worst, where = 0.0, ""
    for name, norm in dict.fromkeys((row["name"], row["norm"]) for row in rows):
        points = sorted(
            (row["eps"], row["accuracy"])
            for row in rows
            if (row["name"], row["norm"]) == (name, norm)
        )
        points = [(0.0, clean), *points]
        for (eps, low), (more, high) in itertools.pairwise(points):
            if high - low > worst:
                worst = high - low
                where = f"{name} from ε = {eps:g} to {more:g}"
    return [
        _finding(
            "monotone",
            _many(worst * number, number),
            float(worst),
            f"accuracy rises by {100 * worst:.1f} points under {where}: a larger ball "
            "holds all examples of a smaller one, so the attack fails there; use more "
            "steps or another attack",
        ),
        _finding(
            "norms",
            other,
            other,
            f"{', '.join(other)} attacked in the L2 norm, where the same ε is a far "
            "smaller ball: its accuracies belong to other radii; evaluate it with "
            "--norm=l2",
        ),
    ]


def of_attacks(model, data: Images, rows, correct: dict, config) -> list[dict]:
    """Findings that need more attacks, on some of the images.

    Args:
        model: float32 Keras classifier of pixels.
        data: images to look at, the first of those evaluated.
        rows: the `"attacks"` of a result.
        correct: for each attack, by `results.attack_key`, and for `"clean"`, which
            images are classified rightly, of all that were evaluated.
        config: the `EvaluationConfig` of the result.

    Returns:
        Findings `step_size`, `restarts`, `black_box` and `huge_eps`; none without an
        attack.
    """
    number = len(data)
    norm = config.norm
    mine = [row for row in rows if row["norm"] == norm]
    if not mine:
        return []

    def standing(eps, gradients=None):
        found = correct["clean"].copy()
        for row in mine:
            kind = _sees_gradients(row)
            if row["eps"] == eps and gradients in (None, kind):
                found &= correct[results.attack_key(row)]
        return found

    def falls(attack, eps, left, **settings):
        """How many of the images left fall to one more attack."""
        if not len(left):
            return 0
        found = attack(
            model,
            data.images[left],
            data.labels[left],
            eps,
            norm=norm,
            seed=config.seed + 1,
            early_stop=True,
            batch_size=config.batch_size,
            ids=left,
            **settings,
        )
        classifier = classifier_of(model, config.batch_size)
        right = classifier.correct(found, data.labels[left])
        return int((~right).sum())

    # The largest ball in which something is left to fall.
    radii = sorted({row["eps"] for row in mine}, reverse=True)
    eps = next((e for e in radii if standing(e)[:number].any()), radii[0])
    left = np.flatnonzero(standing(eps)[:number])
    steps = {"steps": max(config.steps, 10)}
    other = {
        factor: falls(attacks.pgd, eps, left, step_size=step, **steps)
        for factor in (1 / 4, 4)
        if (step := min(factor * config.step_size, 2 * eps)) > 0
    }
    factor = max(other, key=other.get)
    again = falls(
        attacks.pgd, eps, left, step_size=config.step_size, restarts=5, **steps
    )
    return [
        _finding(
            "step_size",
            _many(other[factor], number),
            other[factor] / number,
            f"PGD with steps of {factor * config.step_size:g}/255 in place of "
            f"{config.step_size:g} makes {other[factor]} more of {number} images fall "
            f"at ε = {eps:g}: the attacks were too weak; use autoattack, or more steps",
        ),
        _finding(
            "restarts",
            _many(again, number),
            again / number,
            f"five more restarts of PGD make {again} more of {number} images fall at "
            f"ε = {eps:g}: the attacks were too weak; use autoattack, or --restarts",
        ),
        _black_box(mine, radii, standing, falls, eps, left, len(data)),
        _huge_eps(falls, correct["clean"][:number], model, norm, number),
    ]


def _sees_gradients(row) -> bool:
    """Whether an attack uses the model's own gradients; `transfer` does not."""
    return row["name"] in attacks.ATTACKS and attacks.ATTACKS[row["name"]].gradients


def _black_box(rows, radii, standing, falls, eps, left, number):
    """Whether an attack that sees no gradients finds what those with gradients miss."""
    count, total = 0, number
    if all(_sees_gradients(row) for row in rows):
        count = falls(attacks.square, eps, left, queries=_QUERIES)
    else:
        for radius in radii:
            white = standing(radius, gradients=True)
            total = len(white)
            missed = int((white & ~standing(radius)).sum())
            if missed > count:
                count, eps = missed, radius
    return _finding(
        "black_box",
        _many(count, total),
        count / total,
        f"{count} of {total} images withstand every attack by gradients at ε = "
        f"{eps:g} and fall to one without: the gradients are masked; report the "
        "accuracy over all attacks",
    )


def _huge_eps(falls, right, model, norm, number):
    """Whether images survive in a ball that makes all of them alike."""
    eps = 128.0
    if norm == "l2":
        eps *= float(np.sqrt(np.prod(model.input_shape[1:])))
    left = np.flatnonzero(right)
    stay = len(left) - falls(attacks.pgd, eps, left, steps=40, step_size=eps / 8)
    return _finding(
        "huge_eps",
        _many(stay, number),
        stay / number,
        f"{stay} of {number} images withstand PGD in a ball that holds every grey "
        f"image (ε = {eps:g}): it should reach 0; the gradients are masked",
    )
