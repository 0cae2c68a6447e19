"""The certificates that a result file claims, and whether they can be proved."""

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from inres_tf.errors import UserError

# A claimed radius may exceed the proved one by this factor, for rounding in float32.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Claims:
    """The Lipschitz certificates of a result.

    Attributes:
        source: name of the result, for error messages.
        num_examples: number of test images, from the first.
        fingerprint: of these images and their labels.
        accuracies: certified accuracy in [0, 1] by the radius, in 1/255.
        radii: certified radius of each image, (number,); -1 for none.
    """

    source: str
    num_examples: int
    fingerprint: str | None
    accuracies: Mapping[float, float]
    radii: np.ndarray

    def check(self, report: Mapping[str, Any]) -> None:
        """Checks that all claims are proved.

        Args:
            report: what `verify` returns for the same images.

        Raises:
            UserError: if a certified accuracy or a radius exceeds what is proved.
        """
        proved = np.asarray(report["radii"])
        reached = np.where(proved < 0, proved, proved * (1 + TOLERANCE))
        number = self.num_examples
        for radius, accuracy in self.accuracies.items():
            count = int((reached >= radius).sum())
            if not accuracy * number <= count + 0.5:  # or NaN
                raise UserError(
                    f"{self.source} claims that {accuracy * number:.0f} of {number} "
                    f"images are certified at radius {radius:g}/255, but only {count} "
                    "can be proved"
                )
        for image in np.flatnonzero(~(self.radii <= reached))[:1]:
            raise UserError(
                f"{self.source} claims radius {self.radii[image]:.6g}/255 for image "
                f"{image}, but only {max(proved[image], 0):.6g}/255 can be proved"
            )


def claims_of(result: Mapping[str, Any], source: str) -> Claims:
    """Returns the certificates in a result.

    Args:
        result: content of a file of `train.evaluate --certify=lipschitz --output`.
        source: its name, for error messages.

    Raises:
        UserError: if it has no Lipschitz certificates.

    Example:
        >>> import base64
        >>> import numpy as np
        >>> from inres_tf import verifier
        >>> radii = base64.b64encode(np.array([40.0, -1.0], "<f4").tobytes())
        >>> certificates = {"method": "lipschitz", "radii": {"36": 0.5}}
        >>> result = {
        ...     "num_examples": 2,
        ...     "fingerprint": "0123456789abcdef",
        ...     "certificates": certificates | {"image_radii": radii.decode()},
        ... }
        >>> verifier.claims_of(result, "result.json").radii
        array([40., -1.])
    """
    entry = result.get("certificates")
    if not isinstance(entry, Mapping) or entry.get("method") != "lipschitz":
        raise UserError(
            f"{source} has no Lipschitz certificates; train.evaluate "
            "--certify=lipschitz --output writes them"
        )
    try:
        content = base64.b64decode(entry["image_radii"], validate=True)
        radii = np.frombuffer(content, "<f4").astype(np.float64)
        accuracies = {float(r): float(share) for r, share in entry["radii"].items()}
        accuracies |= {float(r): float(share) for r, share in entry.get("curve", ())}
        number = int(result["num_examples"])
        if len(radii) != number:
            raise ValueError(f"it has the radii of {len(radii)} of {number} images")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the certificates of {source} are damaged: {error}") from error
    return Claims(source, number, result.get("fingerprint"), accuracies, radii)
