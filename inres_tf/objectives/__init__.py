"""Training objectives by name: what a training step minimises.

`ObjectiveConfig` holds their settings, `make` builds the one it names, and
`inres_tf.objectives.clean.Objective` is their interface.
"""

import dataclasses
import math

from inres_tf.config import setting
from inres_tf.errors import UserError
from inres_tf.objectives.clean import Objective
from inres_tf.objectives.fgsm import FGSM
from inres_tf.objectives.noise import Noise
from inres_tf.objectives.pgd import PGD
from inres_tf.objectives.trades import TRADES

OBJECTIVES = {
    "clean": Objective,
    "pgd": PGD,
    "fgsm": FGSM,
    "trades": TRADES,
    "noise": Noise,
}


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the training objective; each is a flag of `train.train`.

    The adversary's defaults are those of Madry et al.'s code for CIFAR-10, beta is
    Zhang et al.'s, and the noise reaches to the strongest Gaussian noise of CIFAR-10-C:
    0.1 of the pixel range.

    Raises:
        UserError: for a value that is out of range.
    """

    objective: str = setting(
        "clean",
        "What to minimise: the clean loss; adversarial training with pgd or fgsm; "
        "trades; the loss of images with Gaussian noise.",
        tuple(OBJECTIVES),
    )
    adversary_eps: float = setting(
        8.0,
        "Radius of the L-infinity ball of pgd, fgsm and trades, in 1/255 of the pixel "
        "range.",
    )
    adversary_steps: int = setting(10, "Steps of the attack of pgd and trades.")
    adversary_step_size: float = setting(
        2.0,
        "Size of a step of pgd and trades, in 1/255 of the pixel range; fgsm takes "
        "1.25 times --adversary_eps.",
    )
    trades_beta: float = setting(
        6.0, "Weight of the divergence in trades: the paper's 1/lambda."
    )
    noise_std: float = setting(
        25.5,
        "Largest standard deviation of the noise of --objective=noise, in 1/255 of the "
        "pixel range.",
    )
    label_smoothing: float = setting(
        0.0, "Share of every label that is spread over all classes."
    )

    def __post_init__(self):
        names = ", ".join(OBJECTIVES)
        steps, size = self.adversary_steps, self.adversary_step_size
        checks = (
            ("objective", self.objective in OBJECTIVES, f"one of {names}"),
            ("adversary_eps", 0 < self.adversary_eps <= 255, "in (0, 255]"),
            ("adversary_steps", 1 <= steps <= 10**6, "from 1 to 1000000"),
            ("adversary_step_size", 0 < size <= 255, "in (0, 255]"),
            ("trades_beta", 0 <= self.trades_beta < math.inf, "at least 0"),
            ("noise_std", 0 < self.noise_std <= 255, "in (0, 255]"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
        )
        for name, passed, accepted in checks:
            if not passed:
                raise UserError(
                    f"--{name} must be {accepted}; got {getattr(self, name)}"
                )


def make(config: ObjectiveConfig) -> Objective:
    """The objective that the settings name."""
    return OBJECTIVES[config.objective](config)
