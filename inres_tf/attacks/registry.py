"""Attacks by name, with the settings that an evaluation gives them.

Nothing here imports TensorFlow: an attack's function is imported when it is called.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from inres_tf.attacks.versions import least_classes
from inres_tf.errors import UserError


class Options(Protocol):
    """What a row needs to know of an evaluation; see `EvaluationConfig`."""

    norm: str
    steps: int
    restarts: int
    early_stop: bool
    apgd_steps: int
    queries: int
    protocol: str

    def step_of(self, eps: float) -> float:
        """The step size in a ball of radius `eps`."""

    @property
    def version(self) -> str:
        """The version of AutoAttack."""

    @property
    def members(self) -> tuple[str, ...]:
        """The members of a custom version of AutoAttack."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack by name, for evaluations.

    Attributes:
        name: its name.
        settings: function of an evaluation's options and the radius that returns the
            attack's keyword arguments, which are recorded in the result.
        norms: the norms of the balls that it searches.
        gradients: whether it uses gradients (white-box) or logits only (black-box).
        classes: function of the options: how many classes the model must have.
        function: the attack itself; None: `inres_tf.attacks.NAME`.
    """

    name: str
    settings: Callable[[Options, float], dict[str, Any]]
    norms: tuple[str, ...] = ("linf", "l2")
    gradients: bool = True
    classes: Callable[[Options], int] = lambda options: 2
    function: Callable | None = None

    def __call__(self, model, images, labels, eps, **settings) -> np.ndarray:
        """Attacks images; see `inres_tf.attacks.fgsm`."""
        function = self.function
        if function is None:
            function = getattr(importlib.import_module("inres_tf.attacks"), self.name)
        return function(model, images, labels, eps, **settings)


def _all_steps(options):
    """The official scripts take all steps."""
    return {
        "norm": options.norm,
        "early_stop": options.early_stop and options.protocol != "paper",
    }


def _early(options):
    return {"norm": options.norm, "early_stop": options.early_stop}


def _steps(options, eps):
    return {"steps": options.steps, "step_size": options.step_of(eps)}


def _fgsm(options, eps):
    return _all_steps(options)


def _ifgsm(options, eps):
    return _steps(options, eps) | _all_steps(options)


def _pgd(options, eps):
    center = "start" if options.protocol == "paper" else "image"
    own = {"restarts": options.restarts, "center": center}
    return _steps(options, eps) | own | _all_steps(options)


def _mim(options, eps):
    return _steps(options, eps) | {"decay": 1.0} | _early(options)


def _cw_l2(options, eps):
    own = {"steps": 100, "searches": 9, "learning_rate": 0.1, "weight": 1.0}
    return own | {"confidence": 0.0, "early_stop": options.early_stop}


def _spsa(options, eps):
    own = {"steps": 100, "samples": 32, "learning_rate": 2.55, "delta": 2.55}
    return own | _early(options)


def _automatic(options):
    return {"steps": options.apgd_steps, "restarts": options.restarts}


def _apgd_ce(options, eps):
    return _automatic(options) | {"samples": 1} | _early(options)


def _apgd_dlr(options, eps):
    return _automatic(options) | {"targets": 9, "samples": 1} | _early(options)


def _fab(options, eps):
    return _automatic(options) | {"targets": 9} | _early(options)


def _square(options, eps):
    own = {"queries": options.queries, "restarts": options.restarts}
    return own | {"share": 0.8, "rescale": True} | _early(options)


def _autoattack(options, eps):
    own = {"version": options.version, "members": options.members}
    own |= {"steps": options.apgd_steps, "queries": options.queries}
    return own | _early(options)


def _cleverhans_fgsm(options, eps):
    return {"norm": options.norm}


def _cleverhans_steps(options, eps):
    return _steps(options, eps) | {"norm": options.norm}


def _autoattack_classes(options):
    return least_classes(options.version, options.members)


ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack("fgsm", _fgsm),
        Attack("ifgsm", _ifgsm),
        Attack("pgd", _pgd),
        Attack("mim", _mim),
        Attack("cw_l2", _cw_l2, norms=("l2",)),
        Attack("spsa", _spsa, gradients=False),
        Attack("apgd_ce", _apgd_ce),
        Attack("apgd_dlr", _apgd_dlr, classes=lambda options: 4),
        Attack("fab", _fab),
        Attack("square", _square, gradients=False),
        Attack("autoattack", _autoattack, classes=_autoattack_classes),
        Attack("cleverhans_fgsm", _cleverhans_fgsm),
        Attack("cleverhans_pgd", _cleverhans_steps),
        Attack("cleverhans_mim", _cleverhans_steps),
    )
}


def find(name: str) -> Attack:
    """The attack of a name, or a user's own named `MODULE:FUNCTION`.

    The function of a user's own attack takes `(model, images, labels, eps)`, pixels in
    [0, 255] and the radius in 1/255 of the pixel range, and returns adversarial pixels
    of the shape of `images`. Where it has parameters called `norm`, `seed`,
    `batch_size`, `ids` or `progress`, or takes any keyword argument, it gets these too.
    MODULE may also hold an `Attack` by that name.

    Args:
        name: a key of `ATTACKS`, or `"MODULE:FUNCTION"`.

    Raises:
        UserError: if there is no such attack, or its module cannot be imported.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    module, colon, function = name.partition(":")
    if not colon:
        raise UserError(
            f"--attacks does not know {name!r}; known: {', '.join(ATTACKS)}, or "
            "MODULE:FUNCTION for an attack of your own"
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"--attacks={name}: {error}; MODULE must be importable from here, and hold "
            f"{function or 'FUNCTION'}"
        ) from error
    if isinstance(found, Attack):
        return dataclasses.replace(found, name=name)
    if not callable(found):
        raise UserError(f"--attacks={name}: {function} is not a function")
    return Attack(name, _cleverhans_fgsm, function=_own_function(found))


def _own_function(function):
    """A user's function, called with those keyword arguments that it takes."""
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters}

    def attack(model, images, labels, eps, **settings):
        if not takes_any:
            settings = {k: v for k, v in settings.items() if k in names}
        return function(model, images, labels, eps, **settings)

    return attack
