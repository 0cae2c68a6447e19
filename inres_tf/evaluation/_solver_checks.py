"""Checks of a model's solvers of differential equations."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from inres_tf import attacks
from inres_tf.data.images import Images
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.evaluation._attack_checks import (
    QUERIES,
    is_fooled,
    resists_apgd,
    robust_images,
)
from inres_tf.evaluation._findings import Finding, Row, finding
from inres_tf.evaluation._model_checks import ROUNDING, randomness_of
from inres_tf.models.solver_swap import neural_odes, with_solver
from inres_tf.solvers import Solver

if TYPE_CHECKING:
    import keras

    from inres_tf.evaluation.config import EvaluationConfig

# The accurate solvers that replace those of the model.
FIXED = Solver("rk4", steps=20)
ADAPTIVE = Solver("dopri5", rtol=1e-5, atol=1e-5)
# An honest network may lose this share of images to an attack of the checks alone, and
# more than that by chance with this probability.
_SHARE, _LEVEL = 0.02, 1e-3
# Of PGD on the other solver, and target classes of APGD.
_STEPS, _TARGETS = 20, 3


def of_solver(
    model: keras.Model,
    data: Images,
    rows: Sequence[Row],
    correct: Mapping[str, np.ndarray],
    config: EvaluationConfig,
) -> list[Finding]:
    """Checks whether the solvers of neural ODEs distort results or mask gradients.

    Args:
        model: float32 Keras classifier of pixels in [0, 255].
        data: images to check, the first of those that were evaluated.
        rows: the `"attacks"` of the result.
        correct: whether each evaluated image is classified correctly, by `"clean"` and
            by the `results.attack_key` of each attack: booleans, (number,).
        config: settings of the evaluation.

    Returns:
        Findings `solver_swap` and `solver_masking`; none without an
        `inres_tf.layers.NeuralODE`. Without an attack in the norm of `config`,
        `solver_masking` looks for randomness only.

    Reference:
        Huang et al.: Adversarial Robustness of Stabilized Neural ODE Might Be from
        Obfuscated Gradients, MSML 2021 (PMLR 145), which found it with other attacks.
    """
    if not neural_odes(model):
        return []
    classifier = compiled_classifier(model, config.batch_size)
    logits = classifier.logits(data.images)
    if not np.isfinite(logits).all():  # `outputs` reports it
        return []
    randomness = randomness_of(classifier, data.images, logits)
    fixed, adaptive = (with_solver(model, solver) for solver in (FIXED, ADAPTIVE))
    others = [
        compiled_classifier(swapped, config.batch_size).logits(data.images)
        for swapped in (fixed, adaptive)
    ]
    balls = _balls(rows, correct, config.norm)
    missed, eps = {}, 0.0
    if balls:
        half = correct["clean"].mean() / 2
        eps = min(balls, key=lambda eps: abs(balls[eps].mean() - half))
        missed = _missed(model, fixed, data, eps, balls[eps][: len(data)], config)
    return [
        _swap(neural_odes(model), logits, others),
        _masking(randomness, missed, eps, len(data)),
    ]


def beyond_chance(count: int, number: int) -> bool:
    """Whether a count of images is too large for an honest network.

    If each of them is among the counted ones with a probability of 2%, so many or more
    are less likely than one in a thousand: 8 of 100 images.
    """
    return bool(stats.binom.sf(count - 1, number, _SHARE) < _LEVEL)


def _swap(layers, logits, others):
    """Counts predictions that change if the equations are solved accurately."""
    number = len(logits)
    # Of two accurate solvers one may fail, such as fixed steps of a stiff equation.
    count = min(int((x.argmax(-1) != logits.argmax(-1)).sum()) for x in others)
    methods = ", ".join(dict.fromkeys(layer.solver.method for layer in layers))
    return finding(
        "solver_swap",
        beyond_chance(count, number),
        count / number,
        f"{count} of {number} predictions change if the neural ODEs are solved "
        f"accurately instead of by {methods} as it is set: the results are those of "
        "its steps, not of the equation, and hold for these steps alone; use more "
        "steps or smaller tolerances",
    )


def _masking(randomness, missed, eps, number):
    """Reports randomness, and images that are robust only since gradients fail."""
    fired = []
    if randomness > ROUNDING:
        fired.append(
            f"the outputs of the same images differ by {randomness:.1e} of the largest "
            "one between two passes"
        )
    examples = {
        "transfer": f"PGD on the network solved by {FIXED.steps} steps of "
        f"{FIXED.method}",
        "square": "Square, without gradients",
    }
    for name, count in missed.items():
        if beyond_chance(count, number):
            fired.append(
                f"{count} of {number} images are robust to the gradient-based attacks "
                f"and APGD at ε = {eps:g}, but not to {examples[name]}"
            )
    value = {name: count / number for name, count in missed.items()}
    return finding(
        "solver_masking",
        fired,
        {"randomness": randomness, **value},
        f"{'; '.join(fired)}: the solver or its dynamics mask the gradients; solve by "
        "fixed steps (inres_tf.models.with_solver), attack through them "
        "(--transfer_from), and report the worst case",
    )


def _balls(rows, correct, norm):
    """Which images are robust to the gradient-based attacks in each ball, by radius."""
    balls: dict[float, list[Row]] = {}
    for row in rows:
        if row["norm"] == norm:
            balls.setdefault(row["eps"], []).append(row)
    return {
        eps: robust_images(inside, correct).to_white_box
        for eps, inside in balls.items()
    }


def _missed(model, fixed, data, eps, robust, config):
    """Counts the images that only transferred examples or Square fool.

    Args:
        model: the model.
        fixed: the model with fixed steps.
        data: images to check.
        eps: radius of the ball.
        robust: whether each image is robust to the gradient-based attacks, (number,).
        config: settings of the evaluation.

    Returns:
        Their numbers, by `"transfer"` and `"square"`. If there are many, those that
        APGD fools do not count.
    """

    def transfer(model, *arguments, **settings):
        settings |= {"early_stop": False, "steps": _STEPS}
        return attacks.pgd(fixed, *arguments, step_size=2.5 * eps / _STEPS, **settings)

    fools = functools.partial(is_fooled, model, data, config)
    remaining = np.flatnonzero(robust)
    missed = {
        "transfer": remaining[fools(transfer, eps, remaining)],
        "square": remaining[fools(attacks.square, eps, remaining, queries=QUERIES)],
    }
    many = [m for m in missed.values() if beyond_chance(len(m), len(data))]
    if many:
        checked = np.unique(np.concatenate(many))
        fooled = checked[~resists_apgd(fools, model, eps, checked, _TARGETS)]
        missed = {name: np.setdiff1d(m, fooled) for name, m in missed.items()}
    return {name: len(m) for name, m in missed.items()}
