import keras
import numpy as np
import pytest
from scipy import signal

from inres_tf.layers import PartialIdentity, PatchWhitening


def natural_patches(rng, channels):
    """2x2 patches of noise whose spectrum falls like that of natural images."""
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(256)] * 2))
    spectrum = np.fft.fft2(rng.normal(size=(channels, 256, 256)), axes=(1, 2))
    images = np.fft.ifft2(spectrum / (frequency + 0.05) ** 1.5, axes=(1, 2)).real
    images = images + 5 * images[:1]  # channels are correlated
    images = (images / images.std()).transpose(1, 2, 0)
    views = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(0, 1))
    return views.transpose(0, 1, 3, 4, 2).reshape(-1, 4 * channels)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_whitening_is_an_orthogonal_basis_and_its_negative(channels):
    kernel = np.asarray(PatchWhitening()((2, 2, channels, 8 * channels)))
    filters = kernel.reshape(4 * channels, -1)
    first, second = np.split(filters, 2, axis=1)
    np.testing.assert_array_equal(first, -second)
    gram = first.T @ first
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-2)
    # The mean of a patch varies most and is divided by most.
    assert np.diag(gram).argmin() == 0
    np.testing.assert_allclose(first[:, 0], first[0, 0], rtol=1e-6)
    np.testing.assert_allclose(np.diag(gram)[0], 1 / (15.53 + 0.05), rtol=1e-5)


def test_whitening_does_not_amplify_the_noise_that_it_expects(rng):
    """Without, the rarest frequency of three channels is amplified 73-fold."""
    noise = rng.normal(0, np.sqrt(0.05), (10_000, 12))
    for expected, largest in ((0.05, 1.0), (0.0, 0.05 / 0.00019)):
        whiten = PatchWhitening.from_config(PatchWhitening(expected).get_config())
        filters = np.asarray(whiten((2, 2, 3, 24))).reshape(12, 24)
        np.testing.assert_allclose(
            (noise @ filters).var(axis=0).max(), largest, rtol=0.05
        )


@pytest.mark.parametrize("noise", [-0.1, np.inf, np.nan])
def test_impossible_noise_is_refused(noise):
    with pytest.raises(
        ValueError, match="`noise` must be a finite number of at least 0"
    ):
        PatchWhitening(noise)


def test_whitening_makes_natural_patches_less_correlated(rng):
    patches = natural_patches(rng, 3)
    filters = np.asarray(PatchWhitening()((2, 2, 3, 24))).reshape(12, 24)[:, :12]

    def condition(values):
        return np.linalg.cond(np.cov(values.T))

    assert condition(patches @ filters) < condition(patches) / 5


@pytest.mark.parametrize("shape", [(3, 3, 3, 24), (2, 2, 3, 12)])
def test_whitening_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"\(2, 2, channels, 8 \* channels\). Rec"):
        PatchWhitening()(shape)


@pytest.mark.parametrize(("inputs", "filters"), [(3, 3), (2, 5), (5, 2)])
def test_first_filters_pass_their_inputs_on(inputs, filters, rng):
    kernel = np.asarray(PartialIdentity(seed=1)((3, 3, inputs, filters)))
    assert kernel.shape == (3, 3, inputs, filters)
    x = rng.normal(size=(6, 7, inputs))
    passed = min(inputs, filters)
    for i in range(passed):
        output = sum(
            signal.correlate2d(x[..., j], kernel[..., j, i], mode="same")
            for j in range(inputs)
        )
        np.testing.assert_allclose(output, x[..., i], rtol=1e-6)
    others = kernel[..., passed:]
    limit = 1 / np.sqrt(9 * inputs)  # variance 1 / (3 fan in) of U(-limit, limit)
    assert (np.abs(others) <= limit).all()
    if others.size:
        assert np.abs(others).max() > 0.8 * limit


def test_seed_makes_the_other_filters_reproducible():
    first, second = PartialIdentity(seed=1), PartialIdentity(seed=2)
    shape = (3, 3, 2, 4)
    again = keras.initializers.get(keras.initializers.serialize(first))
    np.testing.assert_array_equal(again(shape), PartialIdentity(seed=1)(shape))
    assert not np.array_equal(first(shape), second(shape))
