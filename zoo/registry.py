"""The models of the zoo by name."""

from inres_tf import spelling
from zoo import presets

Family = presets.Family | presets.ContinuousFamily

_FAMILIES: list[Family] = [
    *presets.FAMILIES.values(),
    *presets.CONTINUOUS.values(),
]
# From model name to (family, size, damping).
MODELS: dict[str, tuple[Family, str, str]] = {
    name.format(size): (family, size, damping)
    for family in _FAMILIES
    for damping, (_, name) in family.names.items()
    for size in family.networks
}


def constructor_name(family: Family, size: str, damping: str) -> str:
    """Returns the name of a constructor, such as `"InResNet20"` or `"CPLSmall"`."""
    label = size.upper() if size == "xs" else size.capitalize()
    return family.names[damping][0].format(label)


# From constructor name to model name.
CONSTRUCTORS = {constructor_name(*key): name for name, key in MODELS.items()}
# From constructor for any depth to (family, damping).
ANY_DEPTH = {
    family.names[damping][0].format(""): (family, damping)
    for family in (presets.FAMILIES["resnet"], presets.FAMILIES["en_resnet"])
    for damping in family.names
}
# Constructors of any size of a family of continuous depth.
ANY_SIZE = {
    "NeuralODENet": (presets.CONTINUOUS["node"], "none"),
    "ConvexPotentialNet": (presets.CONTINUOUS["cpl"], "none"),
}


def find(name: str) -> tuple[Family, str, str]:
    """Returns the (family, size, damping) of a model.

    Args:
        name: name of the model, such as `"in_resnet20"`.

    Raises:
        ValueError: if the model is unknown; the message suggests similar names.
    """
    if name not in MODELS:
        hint = spelling.did_you_mean(name, MODELS).capitalize()
        raise ValueError(
            f"There is no model {name!r} in the zoo. {hint}"
            f"zoo.list_models() returns all {len(MODELS)}."
        )
    return MODELS[name]
