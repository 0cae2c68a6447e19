"""Copies of models whose neural ODEs are solved by another method."""

from typing import Any

import keras

from inres_tf import class_names, solvers
from inres_tf.layers.neural_ode import NeuralODE
from inres_tf.models.damping import Copier
from inres_tf.models.residuals import check_functional


def neural_odes(model: keras.Model) -> list[NeuralODE]:
    """Returns the neural ODEs of a model, those of nested models included.

    Args:
        model: any Keras model.

    Returns:
        Each `inres_tf.layers.NeuralODE` once, in the order of the layers.

    Example:
        >>> import keras
        >>> dynamics = inres_tf.layers.ConvDynamics("plain")
        >>> flow = inres_tf.layers.NeuralODE(dynamics, "rk4")
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), flow])
        >>> [layer.solver.method for layer in inres_tf.models.neural_odes(model)]
        ['rk4']
    """
    layers = [x for x in model._flatten_layers() if isinstance(x, NeuralODE)]
    return list(dict.fromkeys(layers))


def with_solver(model: keras.Model, solver: Any) -> keras.Model:
    """Returns a copy of a model that solves its neural ODEs by another method.

    Args:
        model: functional or Sequential Keras model. It is not modified.
        solver: name of a method, an `inres_tf.solvers.Solver`, or a dict of its
            settings, for every `inres_tf.layers.NeuralODE` of the model.

    Returns:
        A new functional (or Sequential) model with copies of the weights, not compiled.

    Raises:
        ValueError: if the model is subclassed or has no neural ODE, `solver` is
            invalid, or a custom layer cannot be recreated from its `get_config`.

    Example:
        >>> import keras
        >>> dynamics = inres_tf.layers.ConvDynamics("plain")
        >>> flow = inres_tf.layers.NeuralODE(dynamics, "dopri5", name="flow")
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), flow])
        >>> euler = {"method": "euler", "steps": 10}
        >>> inres_tf.models.with_solver(model, euler).get_layer("flow").solver.method
        'euler'
    """
    solver = solvers.get(solver)
    check_functional(model)
    if not neural_odes(model):
        raise ValueError(
            "`model` must have a layer `inres_tf.layers.NeuralODE`. Received: model="
            f"{model.name} without one"
        )
    swapper = _Swapper(solver)
    swapped = swapper.copy(model)
    swapper.copy_weights()
    class_names.assign(swapped, class_names.of(model))
    return swapped


class _Swapper(Copier):
    """Copies models, with another solver for their neural ODEs.

    Args:
        solver: an `inres_tf.solvers.Solver`.
    """

    def __init__(self, solver):
        super().__init__()
        self._solver = solver

    def _new(self, operation):
        if not isinstance(operation, NeuralODE):
            return super()._new(operation)
        config = operation.get_config()
        config |= {"dynamics": self.copy(operation.dynamics), "solver": self._solver}
        new = type(operation)(**config)
        self._pairs.append((operation, new))
        return new
