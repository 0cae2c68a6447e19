"""The certificates of an evaluation, and the attacks that could refute them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inres_tf import pixels
from inres_tf.attacks import registry
from inres_tf.data.images import Images
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.evaluation import certificates, results
from inres_tf.evaluation._findings import Row
from inres_tf.evaluation._parts import parts
from inres_tf.evaluation.config import LIPSCHITZ, NO_CERTIFY, EvaluationConfig
from inres_tf.models.lipschitz import lipschitz_bound

if TYPE_CHECKING:
    import keras

# By how much examples may exceed their ball, as attacks round pixels to float32.
_TOLERANCE = 1e-3
# Points of the curve of certified accuracy, up to 4/3 of the largest radius.
_POINTS = 37


@pixels.suppress_warnings()
def attack_config(config: EvaluationConfig) -> EvaluationConfig:
    """Returns the settings of the attack beside Lipschitz certificates.

    Args:
        config: settings of the evaluation.

    Returns:
        Settings with the L2 norm and the radii of the certificates. There are no
        attacks in them if none runs.
    """
    step_size = config.step_size if config.norm == "l2" else 0.0
    attacks = (config.certify_attack,) if config.certify == LIPSCHITZ else ()
    return dataclasses.replace(
        config,
        attacks=attacks,
        eps=config.certify_radii,
        norm="l2",
        step_size=step_size,
        protocol="standard",
    )


class Certification:
    """Certifies the images of an evaluation.

    Args:
        model: float32 Keras classifier of pixels in [0, 255].
        data: images to certify.
        config: settings of the evaluation.
        earlier: the result so far of the evaluation to resume; empty for none.
        progress: whether to show progress bars.

    Raises:
        ValueError: if a layer of the model has no Lipschitz bound that
            `--certify=lipschitz` needs.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Images,
        config: EvaluationConfig,
        earlier: Mapping[str, Any],
        progress: bool,
    ) -> None:
        self.model, self.data, self.config = model, data, config
        self.earlier, self.progress = earlier, progress
        self.bound = lipschitz_bound(model) if config.certify == LIPSCHITZ else None

    def parts(
        self, rows: Sequence[Row], correct: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """Yields the certificates so far after each part that is finished.

        Args:
            rows: the attacks that have run, rows of the result.
            correct: whether each image is classified correctly under each, by key.

        Yields:
            The `"certificates"` of the result, and whether each image is certified or
            robust, by `results.certificate_key`; nothing if none are asked for.

        Raises:
            CertificateError: if an attack refutes a certificate.
        """
        config = self.config
        if config.certify == NO_CERTIFY:
            return
        entry = self._entry()
        radii = results.unpack_radii(entry["image_radii"], len(self.data))
        for row in rows if self.bound else ():
            robust = correct[results.attack_key(row)]
            reach = self._reach(row)
            self._check(row, robust, radii, np.full(len(radii), reach))
        answers = {
            results.certificate_key("certified", radius): radii >= radius
            for radius in config.certify_radii
        }
        yield entry, answers
        for radius in config.certify_radii if self.bound else ():
            row, robust = self._attack(radius, radii)
            accuracies = entry.get("attacked", {}) | {f"{radius:g}": row["accuracy"]}
            entry = entry | {
                "attacked": accuracies,
                "attacks": [*entry.get("attacks", []), row],
            }
            answers |= {results.certificate_key("attacked", radius): robust}
            yield entry, answers

    def _entry(self) -> dict[str, Any]:
        """The certificates, without the attack beside them."""
        earlier = self.earlier.get("certificates")
        if earlier:
            return {k: v for k, v in earlier.items() if not k.startswith("attack")}
        config, settings = self.config, dict[str, Any]()
        model, pixels, labels = self.model, self.data.images, self.data.labels
        if self.bound:
            certificate = certificates.lipschitz_certificate(
                model, pixels, labels, batch_size=config.batch_size, bound=self.bound
            )
        else:
            settings = {
                "sigma": config.smoothing_sigma,
                "samples": config.smoothing_samples,
                "selection": config.smoothing_selection,
                "alpha": config.smoothing_alpha,
            }
            certificate = certificates.smoothed_certificate(
                model,
                pixels,
                labels,
                **settings,
                batch_size=config.batch_size,
                seed=config.seed,
                progress="smoothing" if self.progress else "",
            )
        packed = results.pack_radii(certificate.radii)
        # As they are stored, rounded down.
        radii = results.unpack_radii(packed, len(self.data))
        points = np.linspace(0, 4 / 3 * max(config.certify_radii), _POINTS).round(3)
        return {
            "method": config.certify,
            "settings": settings,
            **certificate.facts,
            "radii": {f"{r:g}": _share(radii >= r) for r in config.certify_radii},
            "curve": [[float(r), _share(radii >= r)] for r in points],
            "image_radii": packed,
        }

    @pixels.suppress_warnings()
    def _attack(self, radius, radii) -> tuple[dict[str, Any], np.ndarray]:
        """Attacks all images at one radius.

        Returns:
            The attack as a row of a result, and whether each image is robust.
        """
        name, config = self.config.certify_attack, attack_config(self.config)
        attack = registry.find(name)
        settings = attack.settings(config, radius)
        row = results.attack_row(name, radius, attack, settings)
        earlier = self._earlier_attack(row)
        if earlier is not None:
            return earlier
        classifier = compiled_classifier(self.model, config.batch_size)
        correct, distances = [], []
        for start, part in parts(self.data, config.batch_size):
            examples = attack(
                self.model,
                part.images,
                part.labels,
                # So that no example lies outside the ball.
                max(radius - _TOLERANCE, radius / 2),
                seed=config.seed,
                batch_size=config.batch_size,
                ids=np.arange(start, start + len(part)),
                progress=f"certified {radius:g}" if self.progress else "",
                **settings,
            )
            difference = examples.astype(np.float64) - part.images
            distances.append(np.linalg.norm(difference.reshape(len(part), -1), axis=1))
            correct.append(classifier.correct(examples, part.labels))
        robust, distance = np.concatenate(correct), np.concatenate(distances)
        self._check(row, robust, radii, distance)
        return row | {"accuracy": _share(robust)}, robust

    def _earlier_attack(self, row) -> tuple[dict[str, Any], np.ndarray] | None:
        """What the earlier result has of an attack, if it has the attack."""
        key = results.certificate_key("attacked", row["eps"])
        packed = self.earlier.get("correct", {}).get(key)
        if packed is None:
            return None
        (found,) = (
            earlier
            for earlier in self.earlier["certificates"]["attacks"]
            if earlier["eps"] == row["eps"]
        )
        return found, results.unpack(packed, len(self.data))

    def _reach(self, row: Row) -> float:
        """The largest L2 distance of the examples of an attack."""
        eps = row["eps"] + _TOLERANCE
        if row.get("center") == "start":
            eps *= 2
        if row["norm"] == "linf":
            eps *= math.sqrt(math.prod(self.data.images.shape[1:]))
        return eps

    def _check(self, row, robust, radii, distances) -> None:
        """Raises an error if an attack refutes the certificates of some images.

        Args:
            row: the attack.
            robust: whether each image is correct under it, (number,).
            radii: certified radii, (number,).
            distances: L2 distances of the examples at most, (number,).
        """
        refuted = np.flatnonzero(~robust & (distances <= radii))
        if not len(refuted):
            return
        images = ", ".join(map(str, refuted[:5])) + ", …" * (len(refuted) > 5)
        norm = "L∞" if row["norm"] == "linf" else "L2"
        reach = float(distances[refuted].max())
        raise certificates.CertificateError(
            f"{row['name']} at the {norm} radius {row['eps']:g}/255 fools the model on "
            f"{len(refuted)} of {len(radii)} images that are certified (indices "
            f"{images}), by examples at L2 distances up to {reach:.4g}/255: there, "
            f"{_share(radii >= reach):.1%} are certified, and {_share(robust):.1%} are "
            "correct under the attack; the Lipschitz bound of a layer is wrong, and no "
            "certificate of this model holds"
        )


def _share(which) -> float:
    return float(np.mean(which))
