"""Training objectives by name."""

from inres_tf.training.objectives.base import Objective
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.fgsm import FGSM
from inres_tf.training.objectives.margin import Margin
from inres_tf.training.objectives.noise import Noise
from inres_tf.training.objectives.pgd import PGD
from inres_tf.training.objectives.trades import TRADES

OBJECTIVES: dict[str, type[Objective]] = {
    "clean": Objective,
    "pgd": PGD,
    "fgsm": FGSM,
    "trades": TRADES,
    "noise": Noise,
    "margin": Margin,
}


def make_objective(config: ObjectiveConfig) -> Objective:
    """Creates the objective that `config.objective` names.

    Args:
        config: the objective's settings.

    Returns:
        The objective.

    Example:
        >>> from inres_tf.training import objectives
        >>> config = objectives.ObjectiveConfig(objective="trades")
        >>> type(objectives.make_objective(config)).__name__
        'TRADES'
    """
    return OBJECTIVES[config.objective](config)
