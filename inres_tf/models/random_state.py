"""The states of a model's random layers."""

import keras


def random_states(model: keras.Model) -> list[keras.Variable]:
    """Returns the states of a model's random layers.

    Args:
        model: any Keras model.

    Returns:
        The variables of the model that are not weights.

    Example:
        >>> model = zoo.EnResNet8(input_shape=(8, 8, 1))  # noise after each block
        >>> len(inres_tf.models.random_states(model))
        3
    """
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
