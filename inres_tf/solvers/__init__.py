"""Solvers of ordinary differential equations for batches (pure Keras 3)."""

from inres_tf.solvers._odeint import ADAPTIVE, FIXED_STEP, METHODS, Record, odeint
from inres_tf.solvers._solver import Solver, get
from inres_tf.solvers.tableaus import TABLEAUS

__all__ = [
    "ADAPTIVE",
    "FIXED_STEP",
    "METHODS",
    "TABLEAUS",
    "Record",
    "Solver",
    "get",
    "odeint",
]
