import numpy as np
import pytest

from inres_tf import labels
from inres_tf.errors import UserError


@pytest.mark.parametrize(
    "form",
    [
        [2, 0, 1],
        [[2], [0], [1]],
        [2.0, 0.0, 1.0],
        np.eye(3)[[2, 0, 1]],
        np.eye(4, dtype=bool)[[2, 0, 1]],
        np.array([2, 0, 1], np.uint8),
    ],
    ids=["list", "column", "floats", "one-hot", "boolean one-hot", "uint8"],
)
def test_usual_forms_of_labels_mean_the_same(form):
    found = labels.checked(form, number=3, classes=3)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [2, 0, 1])


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ([2, -1, -1], "Received -1 for image 1 and for 1 others: its class is unknown"),
        ([0, 1, 3], "Received 3 for image 2: there are 3 classes, 0 to 2"),
        ([0, 1, 2.5], "Received 2.5 for image 2: it must be a whole number"),
        ([0, np.nan, 2], "Received nan for image 1"),
        ([0, np.inf, 2], "Received inf for image 1"),
        ([0, 1], "Received: 2 labels for 3 images"),
        (0, r"Received: shape \(\)"),
        (np.zeros((3, 2, 1)), r"Received: shape \(3, 2, 1\)"),
        ([[1, 1, 0]] * 3, r"of shape \(3, 3\) must be one-hot"),
        (np.full((3, 3), 1 / 3), "must be one-hot"),
        ([[0, 2]] * 3, "must be one-hot"),
        (["cat", "dog", "eel"], "must be integers, the index of each image's class"),
        ([[0], [1, 2], [0]], "must be one class per image"),
    ],
)
def test_labels_that_mean_no_class_are_refused(form, message):
    for kind in (UserError, ValueError):
        with pytest.raises(kind, match=f"^mine.*{message}"):
            labels.checked(form, number=3, classes=3, name="mine")


def test_no_labels_are_labels_of_no_images():
    assert labels.checked([], number=0).shape == (0,)
