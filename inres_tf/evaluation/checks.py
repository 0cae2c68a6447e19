"""Checks that warn if a robust accuracy should not be trusted.

Each check returns a finding: a dict with its `"name"`, whether it is `"raised"`, the
`"value"` that it measured and a `"message"`, which is empty unless it is raised.
docs/evaluation.md explains them. "Many" images are more than 1% of them, and at least
two.

Reference:
    Athalye, Carlini, Wagner: Obfuscated Gradients Give a False Sense of Security, ICML
    2018. Carlini et al.: On Evaluating Adversarial Robustness, 2019.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inres_tf.evaluation._attack_checks import of_attacks as of_attacks
from inres_tf.evaluation._findings import Finding, Row, finding, many
from inres_tf.evaluation._model_checks import of_model as of_model
from inres_tf.evaluation._solver_checks import of_solver as of_solver

# Attacks that move by at most `steps * step_size`.
_OF_FIXED_STEPS = ("ifgsm", "pgd", "mim", "transfer")


def of_weights(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> list[Finding]:
    """Checks whether an evaluation changed the model.

    Args:
        before: the weights before the evaluation.
        after: the weights after it.

    Returns:
        Finding `weights_changed`.
    """
    changed = sum(
        not np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after)
    )
    return [
        finding(
            "weights_changed",
            changed,
            changed,
            f"{changed} of the model's {len(after)} weights changed during the "
            "evaluation: batch normalisation or a random state in training mode",
        )
    ]


def of_outputs(
    non_finite: Mapping[str, int], number: int, weights: Sequence[np.ndarray] = ()
) -> Finding:
    """Checks whether all outputs and weights are finite.

    Args:
        non_finite: number of images with a logit that is not finite, by `"clean"` and
            by the key of each corrupted set or attack.
        number: number of images of each.
        weights: the weights of the model.

    Returns:
        Finding `outputs`, whose value is the number of clean images.
    """
    sets = [f"{count} ({key})" for key, count in non_finite.items() if count]
    bad = sum(not np.isfinite(values).all() for values in weights)
    parts = []
    if sets:
        parts.append(
            f"the outputs of {', '.join(sets)} of {number} images are not finite, and "
            "these images count as misclassified"
        )
    if bad:
        parts.append(f"{bad} of the model's {len(weights)} weights are not finite")
    return finding(
        "outputs",
        parts,
        non_finite.get("clean", 0),
        f"{'; '.join(parts)}: the network has diverged",
    )


def of_labels(other: bool, source: str) -> list[Finding]:
    """Checks whether ready-made corrupted sets belong to the test images.

    Args:
        other: whether the labels of a set differ from those of the test images.
        source: source of the sets.

    Returns:
        Finding `labels`.
    """
    return [
        finding(
            "labels",
            other,
            other,
            f"the labels of corrupted sets of {source} differ from those of the test "
            "images: different images, a different order, or a wrong labels.npy",
        )
    ]


def of_accuracies(result: Mapping[str, Any], norm: str) -> list[Finding]:
    """Checks the accuracies of an evaluation against each other.

    Args:
        result: result of the evaluation.
        norm: the norm of the radii, `"linf"` or `"l2"`.

    Returns:
        Findings `monotone`, `single_step`, `reach` and `norms`; none without attacks.
    """
    rows, number = result["attacks"], result["num_examples"]
    if not rows:
        return []
    return [
        _monotone(rows, result["clean"]["accuracy"], number),
        _single_step(rows, number),
        _reach(rows),
        _norms(rows, norm),
    ]


def _monotone(rows: Sequence[Row], clean: float, number: int) -> Finding:
    """Finds the largest increase of an attack's accuracy with ε."""
    largest, where = 0.0, ""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        curve = curves.setdefault((row["name"], row["norm"]), [(0.0, clean)])
        curve.append((row["eps"], row["accuracy"]))
    for (name, _), points in curves.items():
        for (eps, before), (next_eps, after) in itertools.pairwise(sorted(points)):
            if after - before > largest:
                largest = after - before
                where = f"{name} from ε = {eps:g} to {next_eps:g}"
    return finding(
        "monotone",
        many(largest * number, number),
        float(largest),
        f"the accuracy under {where} increases by {100 * largest:.1f} points: a larger "
        "ball contains all examples of a smaller one, so the attack fails there; use "
        "more steps or another attack",
    )


def _single_step(rows: Sequence[Row], number: int) -> Finding:
    """Finds attacks that leave many more images correct than `fgsm`."""
    fgsm = {(r["norm"], r["eps"]): r["accuracy"] for r in rows if r["name"] == "fgsm"}
    weak = [
        _title(row)
        for row in rows
        if many(
            (row["accuracy"] - fgsm.get((row["norm"], row["eps"]), 1.0)) * number,
            number,
        )
    ]
    return finding(
        "single_step",
        weak,
        weak,
        f"{', '.join(weak)} fooled the model on fewer images than the single step of "
        "fgsm: steps are too small or too few; use --step_size, --steps or autoattack",
    )


def _reach(rows: Sequence[Row]) -> Finding:
    """Finds attacks whose steps are too short to reach the surface of the ball."""
    short = [
        _title(row)
        for row in rows
        if row["name"] in _OF_FIXED_STEPS
        and row["steps"] * row["step_size"] < row["eps"]
    ]
    return finding(
        "reach",
        short,
        short,
        f"all steps of {', '.join(short)} together are shorter than ε: the attack "
        "cannot reach the surface of the ball; use --step_size or --steps",
    )


def _norms(rows: Sequence[Row], norm: str) -> Finding:
    """Finds attacks in another norm than the one of the radii."""
    others = sorted({row["name"] for row in rows if row["norm"] != norm})
    return finding(
        "norms",
        others,
        others,
        f"{', '.join(others)} attacked in the L2 norm, in which the ball of the same ε "
        "is far smaller: the accuracies belong to other radii; evaluate with --norm=l2",
    )


def _title(row: Row) -> str:
    return f"{row['name']} at ε = {row['eps']:g}"
