"""Explicit Runge-Kutta methods as data: their Butcher tableaus."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction


@dataclasses.dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method.

    Attributes:
        order: order of convergence.
        nodes: c, when each stage is evaluated, (stages,).
        matrix: a, each stage's weights of those before it.
        weights: b, the solution's weights of the stages, (stages,).
        error: b less the weights of the embedded solution, (stages,); None without one.
        embedded_order: order of the embedded solution.
    """

    order: int
    nodes: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    error: tuple[float, ...] | None = None
    embedded_order: int = 0

    @property
    def stages(self) -> int:
        """How often a step evaluates the right-hand side."""
        return len(self.nodes)

    @property
    def first_same_as_last(self) -> bool:
        """Whether the last stage is the first stage of the next step (FSAL)."""
        return self.weights == (*self.matrix[-1], 0.0)


def _floats(numbers: Sequence) -> tuple[float, ...]:
    return tuple(float(Fraction(number)) for number in numbers)


def _tableau(order, nodes, matrix, weights, embedded=None, embedded_order=0):
    """A tableau of exact fractions, as floats."""
    error = None
    if embedded is not None:
        error = _floats(Fraction(b) - Fraction(e) for b, e in zip(weights, embedded))
    matrix = tuple(_floats(row) for row in matrix)
    nodes, weights = _floats(nodes), _floats(weights)
    return Tableau(order, nodes, matrix, weights, error, embedded_order)


TABLEAUS: dict[str, Tableau] = {
    "euler": _tableau(1, [0], [[]], [1]),
    "midpoint": _tableau(2, [0, "1/2"], [[], ["1/2"]], [0, 1]),
    "heun": _tableau(2, [0, 1], [[], [1]], ["1/2", "1/2"]),
    "rk4": _tableau(
        4,
        [0, "1/2", "1/2", 1],
        [[], ["1/2"], [0, "1/2"], [0, 0, 1]],
        ["1/6", "1/3", "1/3", "1/6"],
    ),
    # Heun's method with Euler's embedded.
    "heun21": _tableau(2, [0, 1], [[], [1]], ["1/2", "1/2"], [1, 0], 1),
    # Bogacki, Shampine: A 3(2) Pair of Runge-Kutta Formulas, 1989.
    "bosh3": _tableau(
        3,
        [0, "1/2", "3/4", 1],
        [[], ["1/2"], [0, "3/4"], ["2/9", "1/3", "4/9"]],
        ["2/9", "1/3", "4/9", 0],
        ["7/24", "1/4", "1/3", "1/8"],
        2,
    ),
    # Dormand, Prince: A Family of Embedded Runge-Kutta Formulae, 1980.
    "dopri5": _tableau(
        5,
        [0, "1/5", "3/10", "4/5", "8/9", 1, 1],
        [
            [],
            ["1/5"],
            ["3/40", "9/40"],
            ["44/45", "-56/15", "32/9"],
            ["19372/6561", "-25360/2187", "64448/6561", "-212/729"],
            ["9017/3168", "-355/33", "46732/5247", "49/176", "-5103/18656"],
            ["35/384", 0, "500/1113", "125/192", "-2187/6784", "11/84"],
        ],
        ["35/384", 0, "500/1113", "125/192", "-2187/6784", "11/84", 0],
        [
            *("5179/57600", 0, "7571/16695", "393/640"),
            *("-92097/339200", "187/2100", "1/40"),
        ],
        4,
    ),
}
