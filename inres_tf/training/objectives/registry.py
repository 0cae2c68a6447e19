"""Training objectives by name."""

from inres_tf.training.objectives.base import Objective
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.fgsm import FGSM
from inres_tf.training.objectives.noise import Noise
from inres_tf.training.objectives.pgd import PGD
from inres_tf.training.objectives.trades import TRADES

OBJECTIVES = {
    "clean": Objective,
    "pgd": PGD,
    "fgsm": FGSM,
    "trades": TRADES,
    "noise": Noise,
}


def make_objective(config: ObjectiveConfig) -> Objective:
    """The objective that the settings name."""
    return OBJECTIVES[config.objective](config)
