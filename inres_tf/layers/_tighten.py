"""Making the Lipschitz bounds of a trained model exact."""

import keras

from inres_tf.layers.lipschitz import Operator


def tighten(model: keras.layers.Layer) -> None:
    """Sets every norm that a model estimates to its sound upper bound.

    Training estimates norms by power iteration, from below. A layer that divides by
    such an estimate thus slightly exceeds the Lipschitz constant that it is made for;
    afterwards it does not. `inres_tf.training.train` does this at the end of a run.

    Args:
        model: any built Keras model or layer. Only its Lipschitz and convex potential
            layers and the dynamics of its neural ODEs change, nested ones included.

    Example:
        >>> import keras
        >>> inputs = keras.Input((6,))
        >>> block = inres_tf.layers.ConvexPotentialDense(4, damping="none")
        >>> model = keras.Model(inputs, block(inputs))
        >>> _ = block.sigma.assign(0.5 * block.norm_bound())
        >>> round(block.lipschitz_bound(), 4)
        7.0
        >>> inres_tf.layers.tighten(model)
        >>> round(block.lipschitz_bound(), 4)
        1.0
    """
    for layer in model._flatten_layers():
        if isinstance(layer, Operator):
            layer.tighten()
