"""Certified radii where the distance to the decision boundary is known."""

import numpy as np
import pytest

from inres_tf import verifier
from inres_tf.errors import UserError


def test_radii_are_the_smallest_over_the_other_classes():
    logits = [[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 5.0, 0.0]]
    constants = [[0, 1, 4], [1, 0, 2], [4, 2, 0]]
    found = verifier.certified_radii(logits, [0, 2, 1], constants)
    assert found.tolist() == [0.25, -1.0, 2.5]
    column = verifier.certified_radii(logits, [[0], [2], [1]], constants)
    np.testing.assert_array_equal(column, found)
    with pytest.raises(UserError, match="Received -1 for image 1"):
        verifier.certified_radii(logits, [0, -1, 1], constants)


def test_ties_are_not_certified():
    assert verifier.certified_radii([[1.0, 1.0]], [0], np.ones((2, 2))).tolist() == [-1]


def test_radii_are_the_distances_to_the_boundaries_of_a_linear_classifier(
    nearest_mean, digits
):
    """Its bound is attained: beyond its radius, an image can be misclassified."""
    chain = verifier.read_chain(nearest_mean)
    images, labels = digits.test.images, digits.test.labels
    report = verifier.verify(chain, images, labels, radii=[10, 100])
    radii = np.array(report["radii"])
    logits = chain.logits(images)
    correct = logits.argmax(1) == labels
    assert report["clean"]["accuracy"] == correct.mean() > 0.8
    assert report["num_examples"] == 359
    np.testing.assert_array_equal(radii[~correct], -1)
    rows = chain.links[-1].map.matrix.T / 255
    for i in np.flatnonzero(correct)[:50]:
        gaps = logits[i, labels[i]] - logits[i]
        normals = rows[labels[i]] - rows
        lengths = np.linalg.norm(normals, axis=1)
        lengths[labels[i]] = np.inf
        distances = np.where(lengths < np.inf, gaps / lengths, np.inf)
        assert radii[i] == pytest.approx(distances.min(), rel=1e-5)
        j = distances.argmin()
        direction = -normals[j].reshape(8, 8, 1) / lengths[j]
        for factor, label in ((0.999, labels[i]), (1.001, j)):
            moved = images[i] + factor * radii[i] * direction
            assert chain.logits(moved[None]).argmax() == label
    for radius in (10, 100):
        share = report["certificates"]["radii"][str(radius)]
        assert share == (radii >= radius).mean() and 0 < share < 1


def test_radii_end_at_the_diameter_of_the_images(nearest_mean, digits):
    chain = verifier.read_chain(nearest_mean)
    chain.links[-1].map.matrix[:] = 0.0
    report = verifier.verify(chain, digits.test.images[:9], digits.test.labels[:9])
    # Constants of 0: the biases alone decide.
    assert set(report["radii"]) <= {-1.0, 255 * 8.0} and max(report["radii"]) > 0


def test_images_that_do_not_fit(nearest_mean, digits):
    chain = verifier.read_chain(nearest_mean)
    with pytest.raises(UserError, match=r"shape \(8, 8, 1\), but .* \(4, 8, 1\)"):
        verifier.verify(chain, digits.test.images[:2, :4], digits.test.labels[:2])
    with pytest.raises(UserError, match="10 classes, but the dataset has at least 13"):
        verifier.verify(chain, digits.test.images[:2], np.array([1, 12]))


def test_batches_change_nothing(nearest_mean, digits, monkeypatch):
    chain = verifier.read_chain(nearest_mean)
    images, labels = digits.test.images[:20], digits.test.labels[:20]
    whole = verifier.verify(chain, images, labels)
    monkeypatch.setattr(verifier.certificates, "_BATCH", 7)
    np.testing.assert_allclose(
        verifier.verify(chain, images, labels)["radii"], whole["radii"], rtol=1e-9
    )
