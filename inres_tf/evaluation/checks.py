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
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from inres_tf import attacks
from inres_tf.attacks import NotANumberError, geometry, losses, registry
from inres_tf.attacks._pgd import value_and_gradient
from inres_tf.data.images import Images
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.evaluation import results
from inres_tf.models.logits import logits_fn

# Queries of the black-box search that runs where none was asked for.
_QUERIES = 200
# Steps of Auto-PGD where gradients are tried once more.
_STEPS = 50
# Attacks that go as far as their steps lead.
_BY_STEPS = ("ifgsm", "pgd", "mim", "transfer")
# Half-way of a finite difference, as L2 norm in 1/255 of the pixel range.
_STEP = 0.5


def _finding(name, raised, value, message):
    if isinstance(value, float) and not np.isfinite(value):
        value = None  # JSON has no other word for it
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
        Findings `outputs`, `probabilities`, `randomness`, `batch_dependence`,
        `zero_gradients` and `misleading_gradients`; `outputs` alone if it is raised.
    """
    classifier = compiled_classifier(model, batch_size)
    images = data.images.astype(np.float32)
    logits = classifier.logits(images)
    bad = int((~np.isfinite(logits).all(-1)).sum())
    found = [
        _finding(
            "outputs",
            bad,
            bad,
            f"the outputs of {bad} of {len(images)} images are infinite or no numbers, "
            "and count as wrong: the network has diverged",
        )
    ]
    if bad:
        return found
    scale = np.abs(logits).max() + 1e-6
    random = float(np.abs(classifier.logits(images) - logits).max() / scale)
    found += [_probabilities(logits), _randomness(random)]
    found.append(_batch_dependence(model, images[:16], scale, random))
    return [*found, *_gradients(model, images, data.labels, batch_size)]


def _batch_dependence(model, images, scale, random):
    """Whether images have other outputs alone than beside their negatives."""
    beside = np.concatenate([images, 255 - images])
    together = compiled_classifier(model, len(beside)).logits(beside)[: len(images)]
    alone = compiled_classifier(model, 1).logits(images)
    coupled = float(np.abs(alone - together).max() / scale)
    return _finding(
        "batch_dependence",
        # Randomness alone would move the outputs as much.
        coupled > max(1e-3, 2 * random),
        coupled,
        "the outputs of an image depend on the other images of its batch (by "
        f"{coupled:.1e} of the largest): batch normalisation in training mode, or a "
        "solver that couples samples; make the model ignore its batch",
    )


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
    none, masked = int((zeros == 1).sum()), float(zeros.mean())
    bad = int((~np.isfinite(slope)).sum())
    missing = _finding(
        "zero_gradients",
        _many(none, len(images)) or masked > 0.5 or bad,
        {"images": none / len(images), "entries": masked, "no_numbers": bad},
        f"{none} of {len(images)} input gradients are exactly zero, {masked:.0%} of "
        f"all their entries are, and {bad} hold what is no number: attacks by "
        "gradients cannot see this model; believe --attacks=square or spsa instead",
    )
    ratio, some = None, np.isfinite(slope) & (slope > 0)
    if some.any():
        ratio = float(np.median(measured[some] / slope[some]))
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

    def look(images, labels):
        _, _, of_loss = value_and_gradient(model_fn, images, labels)
        _, _, of_margin = value_and_gradient(model_fn, images, labels, losses.margin)
        slope = geometry.size(of_margin, 2)
        step = _STEP * of_margin / geometry.per_image(tf.maximum(slope, 1e-20))
        above, below = (
            losses.margin(model_fn(images + one), labels) for one in (step, -step)
        )
        zeros = tf.reduce_mean(tf.cast(of_loss == 0, tf.float32), axis=(1, 2, 3))
        return tf.stack([zeros, slope, (above - below) / (2 * _STEP)], axis=1)

    images = tf.TensorSpec((None, *model.input_shape[1:]))
    return compile_per_example(look, [images, tf.TensorSpec((None,), tf.int64)])


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


def of_labels(other: bool, source: str) -> list[dict]:
    """Finding `labels`: whether ready-made sets go with the test images.

    Args:
        other: whether a set had other labels than the test images.
        source: where the sets come from.
    """
    return [
        _finding(
            "labels",
            other,
            other,
            f"the corrupted sets of {source} have other labels than the test images: "
            "other images, another order, or a wrong labels.npy",
        )
    ]


def of_accuracies(result: dict, norm: str) -> list[dict]:
    """Findings `monotone`, `single_step`, `reach` and `norms` about accuracies.

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
        *_of_steps(rows, number),
        _finding(
            "norms",
            other,
            other,
            f"{', '.join(other)} attacked in the L2 norm, where the same ε is a far "
            "smaller ball: its accuracies belong to other radii; evaluate it with "
            "--norm=l2",
        ),
    ]


def _of_steps(rows, number):
    """Findings about single attacks that other rows and their settings show weak."""
    single = {(r["norm"], r["eps"]): r["accuracy"] for r in rows if r["name"] == "fgsm"}
    weak, short = [], []
    for row in rows:
        title = f"{row['name']} at ε = {row['eps']:g}"
        step = single.get((row["norm"], row["eps"]), 1.0)
        if _many((row["accuracy"] - step) * number, number):
            weak.append(title)
        if row["name"] in _BY_STEPS and row["steps"] * row["step_size"] < row["eps"]:
            short.append(title)
    return [
        _finding(
            "single_step",
            weak,
            weak,
            f"{', '.join(weak)} found less than the one step of fgsm: its steps are "
            "too small or too few; --step_size, --steps, or autoattack",
        ),
        _finding(
            "reach",
            short,
            short,
            f"all steps of {', '.join(short)} together are shorter than ε: the attack "
            "cannot reach the ball's surface; --step_size or --steps",
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

    def falls(attack, eps, left, **settings):
        """Which of the images left fall to one more attack."""
        if not len(left):
            return np.zeros(0, bool)
        try:
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
        except NotANumberError:  # what `zero_gradients` tells
            return np.zeros(len(left), bool)
        classifier = compiled_classifier(model, config.batch_size)
        return ~classifier.correct(found, data.labels[left])

    # The largest ball in which something is left to fall.
    radii = sorted({row["eps"] for row in mine}, reverse=True)
    stands = {eps: _standing(mine, correct, eps) for eps in radii}
    eps = next((e for e in radii if stands[e].all[:number].any()), radii[0])
    left = np.flatnonzero(stands[eps].all[:number])
    steps, step = {"steps": max(config.steps, 10)}, config.step_of(eps)
    other = {
        size: int(falls(attacks.pgd, eps, left, step_size=size, **steps).sum())
        for size in (step / 4, min(4 * step, 2 * eps))
    }
    size = max(other, key=other.get)
    again = falls(attacks.pgd, eps, left, step_size=step, restarts=5, **steps)
    again = int(again.sum())
    return [
        _finding(
            "step_size",
            _many(other[size], number),
            other[size] / number,
            f"PGD with steps of {size:g}/255 in place of {step:g} makes {other[size]} "
            f"more of {number} images fall at ε = {eps:g}: the attacks were too weak; "
            "use autoattack, or more steps",
        ),
        _finding(
            "restarts",
            _many(again, number),
            again / number,
            f"five more restarts of PGD make {again} more of {number} images fall at "
            f"ε = {eps:g}: the attacks were too weak; use autoattack, or --restarts",
        ),
        _black_box(stands, falls, eps, left, model, number),
        _huge_eps(falls, correct["clean"][:number], data.images.shape, norm, number),
    ]


class _Standing(NamedTuple):
    """Which images stand in a ball: against all attacks, and those by gradients.

    Attributes:
        all: against all.
        white: against those by gradients.
        tried: whether there was one by gradients, and one without.
    """

    all: np.ndarray
    white: np.ndarray
    tried: tuple[bool, bool]


def _standing(rows, correct, eps) -> _Standing:
    """Which images stand at a radius."""
    rows = [row for row in rows if row["eps"] == eps]
    white = correct["clean"].copy()
    tried = [False, False]
    for row in rows:
        key = results.attack_key(row)
        # AutoAttack is both: of it there is what its members by gradients left.
        of_members = correct.get(f"{key} by gradients")
        if of_members is not None:
            white &= of_members
            tried[0] |= set(row["after"]) != {"square"}
            tried[1] |= "square" in row["after"]
        elif _sees_gradients(row):
            white &= correct[key]
            tried[0] = True
        else:
            tried[1] = True
    return _Standing(results.robust(correct, rows), white, tuple(tried))


def _sees_gradients(row) -> bool:
    """Whether an attack uses the model's own gradients; `transfer` does not."""
    return row["name"] != "transfer" and registry.find(row["name"]).gradients


def _black_box(stands, falls, eps, left, model, number):
    """Whether an attack that sees no gradients finds what those with gradients miss."""
    gradients, without = stands[eps].tried
    if without:
        missed = {e: np.flatnonzero(s.white & ~s.all) for e, s in stands.items()}
        eps = max(missed, key=lambda e: len(missed[e]))
        missed, total = missed[eps], len(stands[eps].all)
    else:
        missed = left[falls(attacks.square, eps, left, queries=_QUERIES)]
        total = number
    # Attacks by gradients may have been too weak, or none: a strong one tries again.
    some = missed[missed < number]
    strong = attacks.apgd_dlr if losses.classes_of(model) > 3 else attacks.apgd_ce
    masked = int((~falls(strong, eps, some, steps=_STEPS)).sum())
    count = len(missed) if gradients else masked
    why = "the attacks by gradients were too weak: APGD finds them; use autoattack"
    if masked:
        why = (
            f"of {len(some)} looked at, {masked} withstand APGD too: the gradients are "
            "masked; report the accuracy over all attacks"
        )
    tried = "every attack by gradients" if gradients else "APGD"
    return _finding(
        "black_box",
        _many(count, total if gradients else number),
        count / (total if gradients else number),
        f"{count} images withstand {tried} at ε = {eps:g} and fall to an attack that "
        f"sees no gradients; {why}",
    )


def _huge_eps(falls, right, shape, norm, number):
    """Whether images survive in a ball that makes all of them alike."""
    eps = 128.0
    if norm == "l2":
        eps *= float(np.sqrt(np.prod(shape[1:])))
    left = np.flatnonzero(right)
    fell = falls(attacks.pgd, eps, left, steps=40, step_size=eps / 8)
    stay = int((~fell).sum())
    return _finding(
        "huge_eps",
        _many(stay, number),
        stay / number,
        f"{stay} of {number} images withstand PGD in a ball that holds every grey "
        f"image (ε = {eps:g}): it should reach 0; the gradients are masked",
    )
