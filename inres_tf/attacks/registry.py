"""Attacks by name, with their settings in evaluations.

This module does not import TensorFlow: the function of an attack is imported when it
is called.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from inres_tf import spelling
from inres_tf.attacks.versions import least_classes
from inres_tf.errors import UserError

if TYPE_CHECKING:
    import keras


class Options(Protocol):
    """The options of an evaluation that settings of attacks depend on.

    See `inres_tf.evaluation.EvaluationConfig`, which has them.
    """

    @property
    def norm(self) -> str:
        """The norm of the balls."""

    @property
    def steps(self) -> int:
        """Steps of ifgsm, pgd and mim."""

    @property
    def restarts(self) -> int:
        """Random starts."""

    @property
    def early_stop(self) -> bool:
        """Whether misclassified images leave an attack."""

    @property
    def apgd_steps(self) -> int:
        """Steps of APGD and FAB."""

    @property
    def queries(self) -> int:
        """Queries of Square."""

    @property
    def protocol(self) -> str:
        """The protocol, `"standard"` or `"paper"`."""

    def step_of(self, eps: float) -> float:
        """Returns the step size in a ball of radius `eps`."""

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
        norms: the norms that it supports.
        gradients: whether it uses gradients (white-box) or logits only (black-box).
        classes: function of the options that returns how many classes the model must
            have.
        function: the attack itself; None for `inres_tf.attacks.NAME`.

    Example:
        >>> import numpy as np
        >>> from inres_tf import attacks, data
        >>> def grey(model, images, labels, eps, **settings):
        ...     return np.clip(np.full(images.shape, 128.0), images - eps, images + eps)
        >>> attack = attacks.Attack(
        ...     "grey",
        ...     settings=lambda options, eps: {"norm": options.norm},
        ...     norms=("linf",),
        ...     gradients=False,
        ...     function=grey,
        ... )
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> attack(model, test.images, test.labels, eps=8).shape
        (4, 8, 8, 1)
    """

    name: str
    settings: Callable[[Options, float], dict[str, Any]]
    norms: tuple[str, ...] = ("linf", "l2")
    gradients: bool = True
    classes: Callable[[Options], int] = lambda options: 2
    function: Callable | None = None

    def __call__(
        self,
        model: keras.Model,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        eps: float,
        **settings: Any,
    ) -> np.ndarray:
        """Attacks images.

        Args:
            model: Keras classifier of pixels in [0, 255].
            images: pixels in [0, 255], (number, height, width, channels).
            labels: true classes, integers, (number,).
            eps: radius of the ball, in 1/255 of the pixel range.
            **settings: keyword arguments of the attack.

        Returns:
            Adversarial pixels, of the shape of `images`.
        """
        function = self.function
        if function is None:
            function = getattr(importlib.import_module("inres_tf.attacks"), self.name)
        return function(model, images, labels, eps, **settings)


def _norm(options, eps=None):
    return {"norm": options.norm}


def _early(options):
    return _norm(options) | {"early_stop": options.early_stop}


def _early_unless_paper(options):
    """The official scripts, which the paper's protocol follows, take all steps."""
    stop = options.early_stop and options.protocol != "paper"
    return _norm(options) | {"early_stop": stop}


def _steps(options, eps):
    return {"steps": options.steps, "step_size": options.step_of(eps)}


def _fgsm(options, eps):
    return _early_unless_paper(options)


def _ifgsm(options, eps):
    return _steps(options, eps) | _early_unless_paper(options)


def _pgd(options, eps):
    center = "start" if options.protocol == "paper" else "image"
    own = {"restarts": options.restarts, "center": center}
    return _steps(options, eps) | own | _early_unless_paper(options)


def _mim(options, eps):
    return _steps(options, eps) | {"decay": 1.0} | _early(options)


def _cw_l2(options, eps):
    own = {"steps": 100, "searches": 9, "learning_rate": 0.01, "weight": 1.0}
    return own | {"confidence": 0.0, "early_stop": options.early_stop}


def _spsa(options, eps):
    own = {"steps": 100, "samples": 32, "learning_rate": 2.55, "delta": 2.55}
    return own | _early(options)


def _apgd_steps(options):
    return {"steps": options.apgd_steps, "restarts": options.restarts}


def _apgd_ce(options, eps):
    return _apgd_steps(options) | {"samples": 1} | _early(options)


def _apgd_dlr(options, eps):
    return _apgd_steps(options) | {"targets": 9, "samples": 1} | _early(options)


def _fab(options, eps):
    return _apgd_steps(options) | {"targets": 9} | _early(options)


def _square(options, eps):
    own = {"queries": options.queries, "restarts": options.restarts}
    return own | {"share": 0.8, "rescale": True} | _early(options)


def _autoattack(options, eps):
    own = {"version": options.version, "members": options.members}
    own |= {"steps": options.apgd_steps, "queries": options.queries}
    return own | _early(options)


def _cleverhans_steps(options, eps):
    return _steps(options, eps) | _norm(options)


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
        Attack("cleverhans_fgsm", _norm),
        Attack("cleverhans_pgd", _cleverhans_steps),
        Attack("cleverhans_mim", _cleverhans_steps),
    )
}


def find(name: str) -> Attack:
    """Returns the attack with a name, which may be your own: `"MODULE:FUNCTION"`.

    A function of your own takes `(model, images, labels, eps)`, with pixels in [0, 255]
    and the radius in 1/255 of the pixel range, and returns adversarial pixels of the
    shape of `images`. Evaluations also pass it those of the keyword arguments `norm`,
    `seed`, `batch_size`, `ids` and `progress` that it has parameters for, or all of
    them if it takes any keyword argument. Instead of a function, MODULE may hold an
    `Attack`, whose function must take all of these and its own `settings`.

    Args:
        name: a key of `ATTACKS`, or `"MODULE:FUNCTION"`.

    Raises:
        UserError: if there is no such attack, its module cannot be imported, or it is
            not callable.

    Example:
        >>> from inres_tf.attacks import registry
        >>> registry.find("square").gradients
        False
        >>> registry.find("inres_tf.attacks:fgsm").norms
        ('linf', 'l2')
    """
    if name in ATTACKS:
        return ATTACKS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        hint = spelling.did_you_mean(name, ATTACKS)
        raise UserError(
            f"--attacks does not know {name!r}; known: {', '.join(ATTACKS)}, or "
            f"MODULE:FUNCTION for an attack of your own; {hint}".rstrip("; ")
        )
    try:
        attack = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"--attacks={name}: {error}; MODULE must be importable and define "
            f"{attribute or 'FUNCTION'}"
        ) from error
    if isinstance(attack, Attack):
        return dataclasses.replace(attack, name=name, function=attack)
    if not callable(attack):
        raise UserError(
            f"--attacks={name}: {attribute} must be a function or an Attack; got "
            f"{type(attack).__name__}"
        )
    return Attack(name, _norm, function=_with_known_arguments(attack))


def _with_known_arguments(function):
    """The function, called with only those keyword arguments that it takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some functions written in C
        parameters = ()
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters}

    def attack(model, images, labels, eps, **settings):
        if not takes_any:
            settings = {k: v for k, v in settings.items() if k in names}
        return function(model, images, labels, eps, **settings)

    return attack
