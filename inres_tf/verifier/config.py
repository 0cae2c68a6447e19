"""Settings of a verification, which are flags."""

import dataclasses

from inres_tf.config import Config, config_field


@dataclasses.dataclass(frozen=True)
class VerifierConfig(Config):
    """Settings of `verify`; each field is a flag of `train.verify`.

    Raises:
        UserError: for a value that is out of range.

    Example:
        >>> from inres_tf import verifier
        >>> verifier.VerifierConfig(num_examples=100).radii
        (36.0, 72.0, 108.0)
    """

    num_examples: int = config_field(
        1000,
        "Number of test images to use, from the first, or all if there are fewer; 0 "
        "for all. With --results it is that of the file.",
        bounds="[0, inf)",
    )
    radii: tuple[float, ...] = config_field(
        (36.0, 72.0, 108.0),
        "L2 radii of the certified accuracy, in 1/255 of the pixel range.",
        bounds="(0, 1000000000)",
        pixels=0.5,
    )
