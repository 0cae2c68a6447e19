"""What an evaluation does: its settings, which are flags."""

import dataclasses

from inres_tf import corruptions
from inres_tf.attacks import registry
from inres_tf.attacks.norms import NORMS
from inres_tf.attacks.versions import MEMBERS, VERSIONS
from inres_tf.config import Config, config_field
from inres_tf.corruptions.generate import CORRUPTIONS, GROUPS
from inres_tf.errors import UserError

PROTOCOLS = ("standard", "paper")
GENERATED = "generated"


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(Config):
    """What to evaluate; each field is a flag of `train.evaluate`."""

    attacks: tuple[str, ...] = config_field(
        ("fgsm", "ifgsm", "pgd"),
        f"Attacks, of {', '.join(registry.ATTACKS)}, or MODULE:FUNCTION for your own; "
        "none for none.",
    )
    eps: tuple[float, ...] = config_field(
        (1.0, 2.0, 4.0, 8.0), "Radii of the attacks, in 1/255 of the pixel range."
    )
    norm: str = config_field(
        "linf",
        "Norm of the balls; cw_l2 attacks in the L2 norm whatever it is. Usual L2 "
        "radii are 64 and 127.5 (1/4 and 1/2 of the pixel range).",
        choices=NORMS,
    )
    steps: int = config_field(20, "Steps of ifgsm, pgd and mim.", bounds="[1, 1000000]")
    step_size: float = config_field(
        0.0,
        "Size of their steps, in 1/255 of the pixel range; 0 for 1, as in the paper, "
        "and in the L2 norm for 2.5 eps / steps.",
        bounds="[0, 1000000000]",
    )
    restarts: int = config_field(
        1,
        "Random starts of pgd, square, and for each target of apgd and fab.",
        bounds="[1, inf)",
    )
    early_stop: bool = config_field(
        True,
        "Whether an image leaves an attack as soon as it is misclassified: faster, and "
        "never a higher accuracy. --protocol=paper takes all steps.",
    )
    apgd_steps: int = config_field(
        100,
        "Steps of apgd_ce, apgd_dlr and fab, also within autoattack.",
        bounds="[1, 1000000]",
    )
    queries: int = config_field(
        5000, "Queries of square, also within autoattack.", bounds="[1, 1000000]"
    )
    autoattack: tuple[str, ...] = config_field(
        ("standard",),
        "Version of autoattack: standard, plus or rand (for networks that are random), "
        "or the members of one of your own, such as apgd_ce,square.",
    )
    corruptions: tuple[str, ...] = config_field(
        ("noise",),
        f"Corruptions, of {', '.join(CORRUPTIONS)}, or groups of them: "
        f"{', '.join(GROUPS)}; none for none.",
    )
    corruption_source: str = config_field(
        GENERATED,
        "Where corrupted images come from: generated from the test images, "
        "cifar10_corrupted of TensorFlow Datasets, or folder:PATH with the .npy files "
        "of CIFAR-10-C.",
    )
    baseline: str = config_field(
        "", "Result file of the model that the mean corruption error is relative to."
    )
    protocol: str = config_field(
        "standard",
        "paper: as the official scripts, each corrupted set is normalised with its own "
        "mean and standard deviation, and PGD is projected around its random start, so "
        "that perturbations reach 2 eps.",
        choices=PROTOCOLS,
    )
    num_examples: int = config_field(
        0,
        "Test images to use, from the first; 0 for all.",
        bounds="[0, inf)",
    )
    check_examples: int = config_field(
        100,
        "Images, from the first, that the checks of the evaluation look at.",
        bounds="[1, inf)",
    )
    samples: int = config_field(
        4,
        "Adversarial images kept of each attack, at its largest radius.",
        bounds="[0, inf)",
    )
    batch_size: int = config_field(
        250, "Images evaluated or attacked at a time.", bounds="[1, inf)"
    )
    seed: int = config_field(
        0, "Seed of the corruptions and of all that attacks draw.", bounds="[0, inf)"
    )

    def __post_init__(self):
        super().__post_init__()
        for name in self.attacks:
            registry.find(name)
        try:
            names = corruptions.expand(self.corruptions)
        except ValueError as error:
            raise UserError(f"--corruptions: {error}") from error
        if self.corruption_source == GENERATED:
            for name in names:
                if name not in CORRUPTIONS:
                    raise UserError(
                        f"--corruptions: {name} is not generated, since it needs "
                        "outside files; name its --corruption_source"
                    )
        for name in self.autoattack:
            if name not in MEMBERS and self.autoattack not in ((v,) for v in VERSIONS):
                raise UserError(
                    f"--autoattack does not know {name!r}; known: one of "
                    f"{', '.join(VERSIONS)}, or members of {', '.join(MEMBERS)}"
                )
        if not self.autoattack:
            raise UserError("--autoattack must name a version, such as standard")
        largest = 255 if self.norm == "linf" else 10**9
        for eps in self.eps:
            if not 0 < eps <= largest:
                raise UserError(
                    f"--eps must be in (0, {largest}], in 1/255 of the pixel range; "
                    f"got {eps:g}"
                )
        if self.attacks and not self.eps:
            raise UserError("--eps must name at least one radius, such as --eps=2,8")
        for name in ("attacks", "eps", "autoattack"):
            # Once is enough.
            unique = tuple(dict.fromkeys(getattr(self, name)))
            object.__setattr__(self, name, unique)

    def step_of(self, eps: float) -> float:
        """The size of a step in a ball of radius eps."""
        if self.step_size:
            return self.step_size
        return 1.0 if self.norm == "linf" else 2.5 * eps / self.steps

    @property
    def version(self) -> str:
        """The version of AutoAttack: `"custom"` where members are named."""
        return self.autoattack[0] if self.autoattack[0] in VERSIONS else "custom"

    @property
    def members(self) -> tuple[str, ...]:
        """The members of a custom version of AutoAttack, and else none."""
        return self.autoattack if self.version == "custom" else ()
