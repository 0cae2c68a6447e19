"""Certified radii: how far an image can be moved without a change of the prediction.

An attack that fails proves nothing; a certificate is a proof. All radii are L2 norms of
differences of pixels, in 1/255 of the pixel range. A radius of -1 means that there is
no certificate: the image is misclassified, or the method abstains.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy import special

from inres_tf import labels as label_checks
from inres_tf.attacks import counter_rng
from inres_tf.distribution.classifier import compiled_classifier, is_correct
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.errors import UserError
from inres_tf.models.lipschitz import LipschitzBound, lipschitz_bound
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32, in_float64
from inres_tf.progress import bar

if TYPE_CHECKING:
    import keras

NO_CERTIFICATE = -1.0

# Images whose logits are computed in float64 too, and by how much the rounding of
# others may exceed the largest rounding of these.
_MEASURED, _SAFETY = 32, 8.0


class CertificateError(UserError):
    """An attack refutes a certificate, so that a Lipschitz bound must be wrong."""


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """Certified radii of images.

    Attributes:
        radii: largest certified L2 radius of each image around which the prediction is
            its label, in 1/255 of the pixel range, float64, (number,); -1 for none.
        predicted: the class that is certified, right or wrong, (number,); -1 where the
            method abstains.
        facts: what the radii follow from, ready for JSON.
    """

    radii: np.ndarray
    predicted: np.ndarray
    facts: dict[str, Any]

    def accuracy(self, radius: float) -> float:
        """Share of the images that are certified at a radius, in [0, 1]."""
        return float((self.radii >= radius).mean())


def lipschitz_certificate(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    batch_size: int = 250,
    bound: LipschitzBound | None = None,
) -> Certificate:
    """Certifies images by a Lipschitz bound of the classifier.

    Within the radius r of an image, the difference of two logits changes at most by r
    times its Lipschitz constant. So the radius is the smallest, over the classes j
    other than the label y, of

        (logit y - logit j - 4 e) / L_yj

    at most the largest distance within the pixel range. e bounds the rounding of a
    logit in float32, or in whatever arithmetic the device has: it is measured, as eight
    times the largest difference from float64 among 32 of the images, plus 2^-20 of the
    image's largest logit. Two logits round at the image and two at its neighbour, hence
    4 e. For exact arithmetic the certificate is a proof; that e holds around all images
    is an estimate with that margin.

    Args:
        model: Keras classifier of pixels in [0, 255].
        images: pixels in [0, 255], (number, height, width, channels).
        labels: true classes, integers, (number,).
        batch_size: number of images classified at a time.
        bound: the model's bound, if it is known already.

    Returns:
        The certificate. Its `facts` are the `bound` of the features, of the logits and
        of the differences of two logits (smallest and largest), per 1/255 of the pixel
        range, and the `rounding` of the logits, without the part of 2^-20.

    Raises:
        ValueError: if a layer has no known Lipschitz bound.

    Example:
        >>> import numpy as np
        >>> from inres_tf import evaluation
        >>> model = zoo.get_model("cpl_tiny", input_shape=(8, 8, 1))
        >>> inres_tf.layers.tighten(model)
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1))
        >>> labels = model.predict(images, verbose=0).argmax(-1)
        >>> certificate = evaluation.lipschitz_certificate(model, images, labels)
        >>> bool((certificate.radii > 0).all())
        True

    Reference:
        Tsuzuku, Sato, Sugiyama: Lipschitz-Margin Training: Scalable Certification of
        Perturbation Invariance for Deep Neural Networks, NeurIPS 2018, proposition 1.
    """
    model = in_float32(model)
    bound = lipschitz_bound(model) if bound is None else bound
    images = np.asarray(images)
    labels = label_checks.checked(labels, len(images), model.output_shape[-1])
    logits = compiled_classifier(model, batch_size).logits(images)
    rounding = _rounding(model, images, logits)
    radii = _radii(bound, logits, labels, rounding)
    farthest = 255 * np.sqrt(np.prod(images.shape[1:]))
    off_diagonal = bound.pairwise[~np.eye(len(bound.pairwise), dtype=bool)]
    facts = {
        "bound": {
            "features": bound.features,
            "logits": bound.global_bound,
            "pairwise": [float(off_diagonal.min()), float(off_diagonal.max())],
        },
        "rounding": rounding,
    }
    return Certificate(np.minimum(radii, farthest), logits.argmax(-1), facts)


def _rounding(model, images, logits) -> float:
    """Eight times the largest rounding error of the logits of some images."""
    number = min(len(images), _MEASURED)
    chosen = np.linspace(0, len(images) - 1, number).astype(int)
    exact = logits_fn(in_float64(model))
    pixels = images[chosen].astype(np.float32)
    errors = np.abs(np.asarray(exact(pixels, training=False)) - logits[chosen])
    return float(_SAFETY * errors.max(initial=0.0))


def _radii(bound, logits, labels, rounding) -> np.ndarray:
    """Certified radii of logits; see `lipschitz_certificate`."""
    correct = is_correct(logits, labels)
    logits = np.where(correct[:, None], logits, 0.0).astype(np.float64)
    rounding = rounding + 2.0**-20 * np.abs(logits).max(-1, keepdims=True)
    rows = np.arange(len(labels))
    margins = logits[rows, labels][:, None] - logits - 4 * rounding
    margins[rows, labels] = np.inf
    with np.errstate(divide="ignore"):
        # A difference of two logits that is constant has the bound 0.
        radii = (margins / bound.pairwise[labels]).min(-1)
    return np.where(correct & (radii >= 0), radii, NO_CERTIFICATE)


def smoothed_certificate(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    sigma: float,
    *,
    samples: int = 1000,
    selection: int = 100,
    alpha: float = 0.001,
    batch_size: int = 250,
    seed: int = 0,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> Certificate:
    """Certifies images by randomised smoothing, for a classifier of any kind.

    What is certified is the smoothed classifier: the class that the model predicts most
    often for an image with added Gaussian noise. A first set of noisy copies selects
    the class; a second one bounds its probability p from below, by Clopper and Pearson.
    The radius is sigma · Φ⁻¹(p); where p is not above 1/2 the method abstains. Each
    certificate is wrong with a probability of at most `alpha`.

    Args:
        model: Keras classifier of pixels in [0, 255], best trained on noisy images. The
            noisy pixels are not clipped.
        images: pixels in [0, 255], (number, height, width, channels).
        labels: true classes, integers, (number,).
        sigma: standard deviation of the noise, in 1/255 of the pixel range, positive.
        samples: number of noisy copies of an image that its radius follows from.
        selection: number of noisy copies that select the class.
        alpha: probability of a wrong certificate, in (0, 1).
        batch_size: number of noisy copies classified at a time.
        seed: seed of the noise.
        ids: indices of the images in their dataset, from which their noise is derived;
            0, 1, ... by default. It does not depend on the other images.
        progress: label of a progress bar; empty for none.

    Returns:
        The certificate. Its `facts` are the share of images on which it `abstained`.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> import numpy as np
        >>> from inres_tf import data, evaluation
        >>> test = data.load("digits").test.take(slice(2))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> certificate = evaluation.smoothed_certificate(
        ...     model, test.images, test.labels, sigma=32.0, samples=50, selection=10)
        >>> certificate.radii.shape
        (2,)

    Reference:
        Cohen, Rosenfeld, Kolter: Certified Adversarial Robustness via Randomized
        Smoothing, ICML 2019, theorem 1 and the procedure CERTIFY.
    """
    _check_smoothing(sigma, samples, selection, alpha)
    images = np.asarray(images)
    labels = label_checks.checked(labels, len(images), model.output_shape[-1])
    ids = np.arange(len(images)) if ids is None else np.asarray(ids, np.int64)
    model = in_float32(model)
    predict = _noisy_predictions(model, images.shape[1:])
    counts = np.zeros((2, len(images), model.output_shape[-1]), np.int64)
    copies = selection + samples
    starts = range(0, len(images) * copies, batch_size)
    for start in bar(starts, progress, "batch", disable=not progress):
        flat = np.arange(start, min(start + batch_size, len(images) * copies))
        image, copy = np.divmod(flat, copies)
        pixels = images[image].astype(np.float32)
        classes = predict(pixels, ids[image], copy, float(sigma), seed)
        valid = classes >= 0
        which = (copy >= selection).astype(int)
        np.add.at(counts, (which[valid], image[valid], classes[valid]), 1)
    selected, counted = counts
    predicted = selected.argmax(-1)
    successes = counted[np.arange(len(labels)), predicted]
    p = clopper_pearson(successes, samples, alpha)
    predicted = np.where(p > 0.5, predicted, -1)
    radii = np.where(predicted == labels, sigma * special.ndtri(p), NO_CERTIFICATE)
    abstained = float((predicted == -1).mean())
    return Certificate(radii, predicted, {"abstained": abstained})


def _check_smoothing(sigma, samples, selection, alpha):
    if not 0 < sigma < np.inf:
        raise ValueError(
            f"`sigma` must be positive and finite. Received: sigma={sigma}"
        )
    if samples < 1 or selection < 1:
        raise ValueError(
            "`samples` and `selection` must be positive. Received: "
            f"samples={samples}, selection={selection}"
        )
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` must be in (0, 1). Received: alpha={alpha}")


def clopper_pearson(successes: npt.ArrayLike, trials: int, alpha: float) -> np.ndarray:
    """The lower end of a one-sided confidence interval of a probability.

    Args:
        successes: numbers of successes.
        trials: number of trials of each.
        alpha: probability that the interval misses the true value, at most.

    Returns:
        Float64, of the shape of `successes`.

    Example:
        >>> from inres_tf.evaluation import certificates
        >>> certificates.clopper_pearson([0, 100], 100, 0.05).round(4).tolist()
        [0.0, 0.9705]

    Reference:
        Clopper, Pearson: The Use of Confidence or Fiducial Limits Illustrated in the
        Case of the Binomial, Biometrika 1934.
    """
    successes = np.asarray(successes, np.float64)
    least = special.betaincinv(np.maximum(successes, 1), trials - successes + 1, alpha)
    return np.where(successes > 0, least, 0.0)


def _noisy_predictions(model, shape):
    """Compiles the predictions of noisy images, -1 where a logit is not finite.

    The noise is a function of the seed, the image's id and the number of its copy.
    """
    logits = logits_fn(model)

    def function(images, ids, copies, sigma, seed):
        keys = counter_rng.key(seed, ids, copies)
        noisy = images + sigma * counter_rng.normal(keys, shape)
        values = tf.cast(logits(noisy, training=False), tf.float32)
        classes = tf.argmax(values, -1, tf.int32)
        finite = tf.reduce_all(tf.math.is_finite(values), -1)
        return tf.where(finite, classes, -1)

    integers = tf.TensorSpec((None,), tf.int64)
    scalars = [tf.TensorSpec(()), tf.TensorSpec((), tf.int64)]
    images = tf.TensorSpec((None, *shape))
    return compile_per_example(function, [images, integers, integers, *scalars])
