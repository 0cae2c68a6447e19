"""A method with its settings, for layers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inres_tf.solvers._odeint import ADAPTIVE, Record, check_settings, odeint
from inres_tf.solvers.tableaus import TABLEAUS


@dataclasses.dataclass(frozen=True)
class Solver:
    """The settings of `odeint`.

    Attributes:
        method: name of the method.
        steps: steps of a fixed-step method between two times.
        rtol: relative tolerance of an adaptive method.
        atol: absolute tolerance of an adaptive method.
        max_steps: steps after which an adaptive method fails.

    Raises:
        ValueError: if one of them is wrong.
    """

    method: str = "rk4"
    steps: int = 4
    rtol: float = 1e-3
    atol: float = 1e-6
    max_steps: int = 256

    def __post_init__(self) -> None:
        check_settings(self.method, self.steps, self.rtol, self.atol, self.max_steps)

    @property
    def is_adaptive(self) -> bool:
        """Whether the step size depends on the state."""
        return self.method in ADAPTIVE

    @property
    def evaluations_per_step(self) -> int:
        """How often a step evaluates the right-hand side, first stage included."""
        tableau = TABLEAUS.get(self.method)
        return tableau.stages if tableau else 1

    def solve(
        self, f: Callable, x0: Any, t: Sequence[float], damping: Any = 0.0
    ) -> tuple[Any, Record]:
        """Solves dx/dt = f(t, x) - λ x; see `odeint`."""
        return odeint(f, x0, t, damping=damping, **dataclasses.asdict(self))


def get(solver: "str | Mapping[str, Any] | Solver") -> Solver:
    """The solver that a method's name or a mapping of settings means.

    Args:
        solver: the name of a method, a mapping of the settings of `Solver`, or one.

    Raises:
        ValueError: if it is none of these, or a setting is wrong.

    Example:
        >>> from inres_tf import solvers
        >>> solvers.get({"method": "heun", "steps": 8}).is_adaptive
        False
    """
    if isinstance(solver, Solver):
        return solver
    if isinstance(solver, str):
        return Solver(solver)
    if isinstance(solver, Mapping):
        known = {field.name for field in dataclasses.fields(Solver)}
        if set(solver) <= known:
            return Solver(**solver)
    raise ValueError(
        "`solver` must be the name of a method, a `Solver` or a dict of its settings. "
        f"Received: solver={solver!r}"
    )
