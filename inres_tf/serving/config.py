"""Settings of predictions, which are flags."""

import dataclasses

from inres_tf.config import Config, config_field


@dataclasses.dataclass(frozen=True)
class PredictConfig(Config):
    """Settings of `predict`; each field is a flag of `train.predict`.

    Raises:
        UserError: for a value that is out of range.

    Example:
        >>> from inres_tf import serving
        >>> serving.PredictConfig(top=3).batch_size
        32
    """

    top: int = config_field(
        5, "Number of classes to name for each image.", bounds="[1, inf)"
    )
    batch_size: int = config_field(
        32, "Number of images classified at a time.", bounds="[1, inf)"
    )
