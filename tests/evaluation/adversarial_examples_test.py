import base64
import io

import numpy as np
import PIL.Image
import pytest

from inres_tf.evaluation.adversarial_examples import encode_examples

ROW = {"name": "pgd", "norm": "linf", "eps": 8.0}


def decode(text):
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_hold_three_images_and_their_classes(rng, channels):
    images = rng.integers(8, 248, (3, 4, 5, channels)).astype(np.uint8)
    change = np.where(rng.random(images.shape) < 0.5, -8.0, 4.0)
    adversarial = (images + change).astype(np.float32)
    labels, predicted = np.array([4, 5, 6]), np.array([4, 7, 8])
    first, second = encode_examples(ROW, images, labels, adversarial, predicted, [2, 1])
    assert (first["attack"], first["norm"], first["eps"]) == ("pgd", "linf", 8.0)
    assert [first["index"], second["index"]] == [2, 1]
    assert [first["label"], first["predicted"]] == [6, 8]
    assert first["largest"] == 8
    np.testing.assert_array_equal(decode(first["clean"]), images[2].squeeze())
    np.testing.assert_array_equal(
        decode(first["adversarial"]), adversarial[2].squeeze()
    )
    # The largest change becomes black, half of it in the other direction light grey.
    expected = np.where(change[2] < 0, 1, 192).squeeze()
    np.testing.assert_array_equal(decode(first["perturbation"]), expected)


def test_large_images_are_subsampled():
    images = np.arange(200 * 100 * 3).reshape(1, 200, 100, 3).astype(np.uint8)
    (sample,) = encode_examples(
        ROW, images, np.zeros(1), images.astype(np.float32), np.ones(1), [0]
    )
    np.testing.assert_array_equal(decode(sample["clean"]), images[0, ::3, ::3])
    assert (decode(sample["perturbation"]) == 128).all()
