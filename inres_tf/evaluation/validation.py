"""Checks that a model, its images and the settings of an evaluation fit."""

from inres_tf.attacks import registry
from inres_tf.data.images import Images
from inres_tf.errors import UserError
from inres_tf.evaluation.config import EvaluationConfig


def check_number(config: EvaluationConfig, data: Images) -> None:
    """Raises UserError if there are fewer images than are to be used."""
    if config.num_examples > len(data):
        raise UserError(
            f"--num_examples={config.num_examples} is more than the {len(data)} test "
            "images there are"
        )


def check_fits(model, data: Images) -> None:
    """Raises UserError if the model takes other images or knows fewer classes."""
    expected, found = model.input_shape[1:], data.images.shape[1:]
    if len(expected) != 3 or any(
        e is not None and e != f for e, f in zip(expected, found)
    ):
        raise UserError(
            f"model {model.name} takes images of {_by(expected)} and the dataset's are "
            f"{_by(found)}; give the --dataset or --image_size it was trained on"
        )
    if int(data.labels.max()) >= model.output_shape[-1]:
        raise UserError(
            f"model {model.name} knows {model.output_shape[-1]} classes and the "
            f"dataset has at least {int(data.labels.max()) + 1}; give the --dataset it "
            "was trained on"
        )


def check_classes(model, config: EvaluationConfig) -> None:
    """Raises UserError if an attack needs more classes than the model has."""
    has = model.output_shape[-1]
    for name in config.attacks:
        needed = registry.find(name).classes(config)
        if needed > has:
            raise UserError(
                f"--attacks: {name} needs {needed} classes and model {model.name} has "
                f"{has}; use apgd_ce, fab and square, or --autoattack with those"
            )


def _by(shape):
    return "x".join("any" if n is None else str(n) for n in shape)
