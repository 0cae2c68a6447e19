"""Settings of the training objective."""

import dataclasses

from inres_tf.config import Config, config_field
from inres_tf.errors import UserError

OBJECTIVES = ("clean", "pgd", "fgsm", "trades", "noise", "margin")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig(Config):
    """Settings of the training objective; each is a flag of `train.train`.

    The defaults of the adversary are those of Madry et al.'s code for CIFAR-10, beta is
    Zhang et al.'s, and the largest noise is the strongest Gaussian noise of CIFAR-10-C:
    0.1 of the pixel range.

    Raises:
        UserError: for a value that is out of range.

    Example:
        >>> from inres_tf.training import objectives
        >>> config = objectives.ObjectiveConfig(objective="trades", trades_beta=3.0)
        >>> config.adversary_eps
        8.0
    """

    objective: str = config_field(
        "clean",
        "Loss to minimise. clean: cross-entropy; pgd, fgsm: adversarial training; "
        "trades: TRADES; noise: cross-entropy of images with Gaussian noise; margin: "
        "cross-entropy with a margin, for certified networks.",
        choices=OBJECTIVES,
    )
    adversary_eps: float = config_field(
        8.0,
        "Radius of the L-infinity ball of pgd, fgsm and trades, in 1/255 of the pixel "
        "range: 8, or 8/255, which is the same.",
        bounds="(0, 255]",
        pixels=0.5,
    )
    adversary_steps: int = config_field(
        10, "Number of attack steps of pgd and trades.", bounds="[1, 1000000]"
    )
    adversary_step_size: float = config_field(
        2.0,
        "Step size of pgd and trades, in 1/255 of the pixel range; fgsm uses 1.25 "
        "times --adversary_eps.",
        bounds="(0, 255]",
        pixels=0.05,
    )
    trades_beta: float = config_field(
        6.0,
        "Weight of the divergence in trades: the paper's 1/lambda.",
        bounds="[0, inf)",
    )
    noise_std: float = config_field(
        25.5,
        "Largest standard deviation of the noise of --objective=noise, in 1/255 of the "
        "pixel range.",
        bounds="(0, 255]",
        pixels=0.5,
    )
    margin_offset: float = config_field(
        1.0,
        "Offset that --objective=margin subtracts from the logit of the true class.",
        bounds="[0, inf)",
    )
    margin_temperature: float = config_field(
        1.0,
        "Temperature by which --objective=margin divides the logits.",
        bounds="(0, inf)",
    )
    margin_annealing: float = config_field(
        0.0,
        "Power of 1 - p, p the probability of the true class, by which "
        "--objective=margin multiplies the loss of an image; 0: none.",
        bounds="[0, inf)",
    )
    label_smoothing: float = config_field(
        0.0,
        "Fraction of each label that is spread over all classes.",
        bounds="[0, 1)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective == "margin" and self.label_smoothing:
            raise UserError(
                "--objective=margin needs --label_smoothing=0, since it lowers the "
                f"logit of one class; got {self.label_smoothing}"
            )
