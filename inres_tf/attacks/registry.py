"""Attacks by name, for evaluations."""

import dataclasses
from collections.abc import Callable

from inres_tf.attacks.apgd import apgd_ce, apgd_dlr
from inres_tf.attacks.autoattack import autoattack
from inres_tf.attacks.cw import cw_l2
from inres_tf.attacks.fab import fab
from inres_tf.attacks.gradient import fgsm, ifgsm, mim, pgd
from inres_tf.attacks.spsa import spsa
from inres_tf.attacks.square import square


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack by name, for evaluations.

    Attributes:
        function: the attack itself.
        takes: its settings that an evaluation has, as `(setting, name there)`.
        norms: the norms it bounds.
        paper: its settings under the paper's protocol, whose scripts take all steps.
        gradients: whether it uses gradients (white-box) or logits alone (black-box).
    """

    function: Callable
    takes: tuple[tuple[str, str], ...] = ()
    norms: tuple[str, ...] = ("linf", "l2")
    paper: dict = dataclasses.field(default_factory=dict)
    gradients: bool = True


_ITERATIVE = (("steps", "steps"),)
_AUTOMATIC = (("steps", "apgd_steps"), ("restarts", "restarts"))
_QUERIES = (("queries", "queries"),)
_ALL_STEPS = {"early_stop": False}

ATTACKS = {
    "fgsm": Attack(fgsm, paper=_ALL_STEPS),
    "ifgsm": Attack(ifgsm, _ITERATIVE, paper=_ALL_STEPS),
    "pgd": Attack(
        pgd,
        (*_ITERATIVE, ("restarts", "restarts")),
        paper={**_ALL_STEPS, "center": "start"},
    ),
    "mim": Attack(mim, _ITERATIVE),
    "cw_l2": Attack(cw_l2, norms=("l2",)),
    "spsa": Attack(spsa, gradients=False),
    "apgd_ce": Attack(apgd_ce, _AUTOMATIC),
    "apgd_dlr": Attack(apgd_dlr, _AUTOMATIC),
    "fab": Attack(fab, _AUTOMATIC),
    "square": Attack(square, (*_QUERIES, ("restarts", "restarts")), gradients=False),
    "autoattack": Attack(
        autoattack,
        (
            ("steps", "apgd_steps"),
            *_QUERIES,
            ("version", "version"),
            ("members", "members"),
        ),
    ),
}
