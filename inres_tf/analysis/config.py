"""Settings of the analyses."""

import dataclasses

from inres_tf.config import Config, config_field
from inres_tf.corruptions.generate import CORRUPTIONS
from inres_tf.errors import UserError

ANALYSES = ("landscape", "lyapunov", "lipschitz", "gradients", "calibration")
DIRECTIONS = ("sign", "gradient", "pgd")


@dataclasses.dataclass(frozen=True)
class AnalysisConfig(Config):
    """What to analyse, and how; each field is a flag of `train.analyze`."""

    landscape: bool = config_field(True, "The loss around the images.")
    lyapunov: bool = config_field(
        True, "Growth of perturbations and local exponents, block by block and by λ."
    )
    lipschitz: bool = config_field(
        True, "Local Lipschitz constants of the network, its margin and its blocks."
    )
    gradients: bool = config_field(True, "Norms of the input gradients.")
    calibration: bool = config_field(True, "Calibration, clean and corrupted.")
    eps: float = config_field(
        8.0,
        "How far the landscape reaches, and the radius of the perturbations that grow, "
        "in 1/255 of the pixel range: an L-infinity distance, and with "
        "--direction=gradient the landscape's L2 distance.",
        bounds="[0.001, 255]",
    )
    grid: int = config_field(
        21,
        "Points along each axis of the landscape, an odd number.",
        bounds="[3, 1001]",
    )
    direction: str = config_field(
        "sign",
        "The landscape's attack direction: the sign of the gradient, the gradient, or "
        "what PGD adds.",
        choices=DIRECTIONS,
    )
    steps: int = config_field(
        20, "Steps of PGD, each of 2.5 eps / steps.", bounds="[1, 1000000]"
    )
    rates: tuple[float, ...] = config_field(
        (0.0, 0.5, 1.0),
        "λ to set all damped blocks to, beside λ as trained; none for none. Without a "
        "meaning for a network without damped blocks.",
        bounds="[0, 1000000]",
    )
    iterations: int = config_field(
        50, "Most steps of the power iteration.", bounds="[1, 1000000]"
    )
    tolerance: float = config_field(
        1e-3,
        "Relative change at which the power iteration ends.",
        bounds="[0, 1]",
    )
    corruptions: tuple[str, ...] = config_field(
        tuple(CORRUPTIONS),
        f"Corruptions, of {', '.join(CORRUPTIONS)}; none for none.",
        choices=CORRUPTIONS,
    )
    severity: int = config_field(
        5, "Severity in the plot of the reliability, 1 to 5.", bounds="[1, 5]"
    )
    bins: int = config_field(15, "Bins of the confidence.", bounds="[1, 10000]")
    num_examples: int = config_field(
        100,
        "Test images to use, from the first; 0 for all.",
        bounds="[0, inf)",
    )
    batch_size: int = config_field(100, "Images at a time.", bounds="[1, inf)")
    seed: int = config_field(
        0,
        "Seed of random directions, perturbations and noise.",
        bounds="[0, 2147483646]",
    )

    def __post_init__(self):
        super().__post_init__()
        if not any(getattr(self, name) for name in ANALYSES):
            raise UserError(
                "every analysis is left out; leave on one of "
                f"{', '.join(f'--{name}' for name in ANALYSES)}"
            )
        if self.grid % 2 == 0:
            raise UserError(
                "--grid must be odd, so that the clean image is its middle; got "
                f"{self.grid}"
            )
