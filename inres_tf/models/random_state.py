"""The states of a model's random layers."""


def random_states(model) -> list:
    """The states of a model's random layers: variables of it that are no weights."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
