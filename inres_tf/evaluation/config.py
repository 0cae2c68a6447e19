"""Settings of an evaluation, which are flags."""

import dataclasses

from inres_tf import corruptions
from inres_tf.attacks import registry
from inres_tf.attacks.norms import NORMS, default_step_size
from inres_tf.attacks.versions import MEMBERS, VERSIONS
from inres_tf.config import Config, config_field
from inres_tf.corruptions.generate import CORRUPTIONS, GROUPS
from inres_tf.errors import UserError

PROTOCOLS = ("standard", "paper")
GENERATED = "generated"
NO_CERTIFY, LIPSCHITZ, SMOOTHING = "none", "lipschitz", "smoothing"


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(Config):
    """Settings of `evaluate`; each field is a flag of `train.evaluate`.

    Repeated attacks, radii and members of AutoAttack are dropped.

    Raises:
        UserError: for a value that is out of range, or an unknown attack or corruption.

    Example:
        >>> from inres_tf import evaluation
        >>> config = evaluation.EvaluationConfig(attacks=("pgd",), eps=(2.0, 8.0))
        >>> config.steps, config.corruptions
        (20, ('noise',))
        >>> evaluation.EvaluationConfig(norm="l2", eps=(127.5,)).step_of(127.5)
        15.9375
    """

    attacks: tuple[str, ...] = config_field(
        ("fgsm", "ifgsm", "pgd"),
        f"Attacks, from {', '.join(registry.ATTACKS)}, or MODULE:FUNCTION for your "
        "own; `none` for none.",
    )
    eps: tuple[float, ...] = config_field(
        (1.0, 2.0, 4.0, 8.0),
        "Radii of the attacks, in 1/255 of the pixel range: 8, or 8/255, which is the "
        "same.",
        pixels=0.5,
    )
    norm: str = config_field(
        "linf",
        "Norm of the balls; cw_l2 always uses the L2 norm. Usual L2 radii are 64 and "
        "127.5 (1/4 and 1/2 of the pixel range).",
        choices=NORMS,
    )
    steps: int = config_field(
        20, "Number of steps of ifgsm, pgd and mim.", bounds="[1, 1000000]"
    )
    step_size: float = config_field(
        0.0,
        "Size of these steps, in 1/255 of the pixel range; 0 for 1, as in the paper, "
        "or, in the L2 norm, 2.5 eps / steps.",
        bounds="[0, 1000000000]",
        pixels=0.05,
    )
    restarts: int = config_field(
        1,
        "Number of random starts of pgd and square, and of apgd and fab for each "
        "target class.",
        bounds="[1, inf)",
    )
    early_stop: bool = config_field(
        True,
        "Stop attacking an image as soon as it is misclassified: faster, and for "
        "deterministic networks the accuracy is never higher. --protocol=paper "
        "(fgsm, ifgsm, pgd) and --autoattack=rand take all steps.",
    )
    apgd_steps: int = config_field(
        100,
        "Number of steps of apgd_ce, apgd_dlr and fab, also within autoattack.",
        bounds="[1, 1000000]",
    )
    queries: int = config_field(
        5000,
        "Number of queries of square, also within autoattack.",
        bounds="[1, 1000000]",
    )
    autoattack: tuple[str, ...] = config_field(
        ("standard",),
        "Version of autoattack: standard, plus or rand (for random networks), or the "
        "members of a custom one, such as apgd_ce,square.",
    )
    corruptions: tuple[str, ...] = config_field(
        ("noise",),
        f"Corruptions, from {', '.join(CORRUPTIONS)}, or groups of them: "
        f"{', '.join(GROUPS)}; `none` for none.",
    )
    corruption_source: str = config_field(
        GENERATED,
        "Source of the corrupted images: generated from the test images, "
        "cifar10_corrupted of TensorFlow Datasets, or folder:PATH with the .npy files "
        "of CIFAR-10-C.",
        path=True,
    )
    baseline: str = config_field(
        "", "Result file of the baseline of the mean corruption error.", path=True
    )
    certify: str = config_field(
        NO_CERTIFY,
        "Certificates of L2 radii: lipschitz, by Lipschitz bounds of all layers, with "
        "the accuracy under an L2 attack beside it; or smoothing, of the classifier "
        "smoothed by noise.",
        choices=(NO_CERTIFY, LIPSCHITZ, SMOOTHING),
    )
    certify_radii: tuple[float, ...] = config_field(
        (36.0, 72.0, 108.0),
        "Radii of the certified accuracies, in 1/255 of the pixel range.",
        bounds="(0, 1000000000]",
        pixels=0.5,
    )
    certify_attack: str = config_field(
        "pgd",
        "The L2 attack next to Lipschitz certificates; it uses the attack flags.",
        choices=[name for name, a in registry.ATTACKS.items() if "l2" in a.norms],
    )
    smoothing_sigma: float = config_field(
        63.75,
        "Standard deviation of the noise of smoothing, in 1/255 of the pixel range.",
        bounds="(0, 1000000000]",
        pixels=0.5,
    )
    smoothing_samples: int = config_field(
        1000,
        "Number of noisy copies of each image from which its radius is computed.",
        bounds="[1, inf)",
    )
    smoothing_selection: int = config_field(
        100, "Noisy copies of each image that select its class.", bounds="[1, inf)"
    )
    smoothing_alpha: float = config_field(
        0.001, "Probability of a wrong certificate of smoothing.", bounds="(0, 1)"
    )
    protocol: str = config_field(
        "standard",
        "paper: as in the official scripts, the five sets of a corruption together are "
        "normalised with their own mean and standard deviation, and PGD is projected "
        "around its random start, so that perturbations reach 2 eps.",
        choices=PROTOCOLS,
    )
    num_examples: int = config_field(
        0,
        "Number of test images to use, from the first; 0 for all.",
        bounds="[0, inf)",
    )
    check_examples: int = config_field(
        100,
        "Number of images that the checks use, from the first.",
        bounds="[1, inf)",
    )
    samples: int = config_field(
        4,
        "Number of adversarial images to save per attack, at its largest radius.",
        bounds="[0, inf)",
    )
    batch_size: int = config_field(
        250, "Number of images evaluated or attacked at a time.", bounds="[1, inf)"
    )
    seed: int = config_field(
        0, "Seed of the corruptions and attacks.", bounds="[0, inf)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.attacks:
            registry.find(name)
        self._check_corruptions()
        self._check_autoattack()
        self._check_radii()
        if self.certify != NO_CERTIFY and not self.certify_radii:
            raise UserError(
                "--certify_radii must hold at least one radius, such as 36,72,108"
            )
        for field in ("attacks", "eps", "autoattack", "certify_radii"):
            unique = tuple(dict.fromkeys(getattr(self, field)))
            object.__setattr__(self, field, unique)

    def _check_corruptions(self):
        try:
            names = corruptions.expand(self.corruptions)
        except ValueError as error:
            raise UserError(f"--corruptions: {error}") from error
        for name in names:
            if self.corruption_source == GENERATED and name not in CORRUPTIONS:
                raise UserError(
                    f"--corruptions: {name} cannot be generated, since it requires "
                    "third-party photographs; pass a --corruption_source"
                )

    def _check_autoattack(self):
        if not self.autoattack:
            raise UserError("--autoattack must name a version, such as standard")
        is_version = self.autoattack in ((version,) for version in VERSIONS)
        for name in self.autoattack:
            if name not in MEMBERS and not is_version:
                raise UserError(
                    f"--autoattack must be one of {', '.join(VERSIONS)}, or members "
                    f"from {', '.join(MEMBERS)}; got {name!r}"
                )

    def _check_radii(self):
        largest = 255 if self.norm == "linf" else 10**9
        for eps in self.eps:
            if not 0 < eps <= largest:
                raise UserError(
                    f"--eps must be in (0, {largest}], in 1/255 of the pixel range; "
                    f"got {eps:g}"
                )
        if self.attacks and not self.eps:
            raise UserError("--eps must hold at least one radius, such as --eps=2,8")

    def step_of(self, eps: float) -> float:
        """Returns the step size in a ball of radius `eps`, in 1/255 too."""
        if self.step_size:
            return self.step_size
        return default_step_size(self.norm, eps, self.steps)

    @property
    def version(self) -> str:
        """The version of AutoAttack; `"custom"` if members are given."""
        return self.autoattack[0] if self.autoattack[0] in VERSIONS else "custom"

    @property
    def members(self) -> tuple[str, ...]:
        """The members of a custom version of AutoAttack; otherwise empty."""
        return self.autoattack if self.version == "custom" else ()
