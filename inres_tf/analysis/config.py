"""Settings of the analyses."""

import dataclasses

from inres_tf.config import Config, config_field
from inres_tf.corruptions.generate import CORRUPTIONS, GROUPS, expand
from inres_tf.errors import UserError

ANALYSES = (
    "landscape",
    "lyapunov",
    "lipschitz",
    "gradients",
    "calibration",
    "continuous",
)
DIRECTIONS = ("sign", "gradient", "pgd")
# As `inres_tf.solvers.FIXED_STEP`, which loads Keras.
SOLVERS = ("euler", "midpoint", "heun", "rk4", "exponential_euler")


@dataclasses.dataclass(frozen=True)
class AnalysisConfig(Config):
    """Settings of `analyze`; each field is a flag of `train.analyze`.

    Raises:
        UserError: if a setting is out of range, or every analysis is switched off.

    Example:
        >>> from inres_tf import analysis
        >>> analysis.AnalysisConfig(eps=4.0, landscape=False).rates
        (0.0, 0.5, 1.0)
    """

    landscape: bool = config_field(True, "Loss landscape around the images.")
    lyapunov: bool = config_field(
        True, "Growth of perturbations and local exponents, by block and by λ."
    )
    lipschitz: bool = config_field(
        True, "Local Lipschitz constants of the logits, the margin and the blocks."
    )
    gradients: bool = config_field(True, "Norms of the input gradients.")
    calibration: bool = config_field(True, "Calibration on clean and corrupted images.")
    continuous: bool = config_field(
        False,
        "Distance to the continuous limit, in which the residual blocks are neural "
        "ODEs, by solver and number of steps.",
    )
    eps: float = config_field(
        8.0,
        "Extent of the landscape and radius of the perturbations whose growth is "
        "measured, in 1/255 of the pixel range: an L-infinity distance; with "
        "--direction=gradient the landscape's is an L2 distance.",
        bounds="[0.001, 255]",
        pixels=0.5,
    )
    grid: int = config_field(
        21,
        "Number of points along each axis of the landscape, odd.",
        bounds="[3, 1001]",
    )
    direction: str = config_field(
        "sign",
        "Attack direction of the landscape: the sign of the gradient, the gradient, or "
        "the perturbation of PGD.",
        choices=DIRECTIONS,
    )
    steps: int = config_field(
        20, "Number of PGD steps, each of size 2.5 eps / steps.", bounds="[1, 1000000]"
    )
    rates: tuple[float, ...] = config_field(
        (0.0, 0.5, 1.0),
        "Values of λ to set all damped blocks to, as well as λ as trained; `none` for "
        "no others. Ignored for networks without damped blocks.",
        bounds="[0, 1000000]",
    )
    iterations: int = config_field(
        50, "Maximum number of power iteration steps.", bounds="[1, 1000000]"
    )
    tolerance: float = config_field(
        1e-3,
        "Relative change at which the power iteration stops.",
        bounds="[0, 1]",
    )
    corruptions: tuple[str, ...] = config_field(
        ("all",),
        f"Corruptions, from {', '.join(CORRUPTIONS)}, or groups of them: "
        f"{', '.join(GROUPS)}; `none` for none.",
        choices=(*CORRUPTIONS, *GROUPS),
    )
    severity: int = config_field(
        5, "Severity shown in the reliability diagram, 1 to 5.", bounds="[1, 5]"
    )
    bins: int = config_field(
        15, "Number of bins of the confidence.", bounds="[1, 10000]"
    )
    solvers: tuple[str, ...] = config_field(
        ("euler", "heun", "rk4"),
        f"Methods that solve the blocks in continuous time, from {', '.join(SOLVERS)}.",
        choices=SOLVERS,
    )
    solver_steps: tuple[int, ...] = config_field(
        (1, 2, 4, 8, 16, 32),
        "Numbers of steps per block in continuous time. The reference, RK4, takes four "
        "times the most of them.",
        bounds="[1, 10000]",
    )
    num_examples: int = config_field(
        100,
        "Number of test images to use, from the first; 0 for all.",
        bounds="[0, inf)",
    )
    batch_size: int = config_field(
        100, "Number of images per batch.", bounds="[1, inf)"
    )
    seed: int = config_field(
        0,
        "Seed of random directions, perturbations and noise.",
        bounds="[0, 2147483646]",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "corruptions", expand(self.corruptions))
        if not any(getattr(self, name) for name in ANALYSES):
            raise UserError(
                "at least one analysis must be on: "
                f"{', '.join(f'--{name}' for name in ANALYSES)}"
            )
        if self.continuous and not (self.solvers and self.solver_steps):
            raise UserError(
                "--continuous needs at least one method in --solvers and one number in "
                "--solver_steps"
            )
        if self.grid % 2 == 0:
            raise UserError(
                f"--grid must be odd, to be centred at the clean image; got {self.grid}"
            )
