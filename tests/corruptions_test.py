import numpy as np
import pytest

from inres_tf import corruptions

NAMES = list(corruptions.CORRUPTIONS)
PARAMETERS = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle_noise": (0.06, 0.10, 0.12, 0.16, 0.20),
}


def noise(name, severity, value, count=200):
    """What the corruption adds to constant images, in [0, 1]."""
    images = np.full((count, 32, 32, 3), value, np.uint8)
    return corruptions.corrupt(images, name, severity, seed=3) / 255 - value / 255


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "speckle_noise"])
def test_standard_deviation_is_the_published_one(name, severity):
    value = 100
    x, c = value / 255, PARAMETERS[name][severity - 1]
    expected = {
        "gaussian_noise": c,
        "shot_noise": np.sqrt(x / c),
        "speckle_noise": x * c,
    }[name]
    found = noise(name, severity, value)
    assert found.std() == pytest.approx(expected, rel=0.02)
    # Truncation to uint8 lowers the mean by half a step.
    assert found.mean() == pytest.approx(-0.5 / 255, abs=3e-4)


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
def test_impulse_noise_is_salt_and_pepper_in_equal_parts(severity):
    images = np.full((200, 32, 32, 3), 100, np.uint8)
    found = corruptions.corrupt(images, "impulse_noise", severity)
    fraction = PARAMETERS["impulse_noise"][severity - 1]
    assert set(np.unique(found)) == {0, 100, 255}
    assert (found == 0).mean() == pytest.approx(fraction / 2, rel=0.05)
    assert (found == 255).mean() == pytest.approx(fraction / 2, rel=0.05)


def test_gaussian_noise_is_clipped_and_truncated():
    """Against the definition, with the same draws."""
    images = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    rng = np.random.default_rng([7, NAMES.index("gaussian_noise"), 5])
    x = images / 255.0 + 0.10 * rng.standard_normal(images.shape)
    expected = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    found = corruptions.corrupt(images, "gaussian_noise", 5, seed=7)
    np.testing.assert_array_equal(found, expected)
    assert found.min() == 0 and found.max() == 255


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_and_independent_of_later_images(name, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3)).astype(np.uint8)
    whole = corruptions.corrupt(images, name, 3, seed=1)
    assert whole.dtype == np.uint8 and whole.shape == images.shape
    np.testing.assert_array_equal(
        corruptions.corrupt(images[:4], name, 3, 1), whole[:4]
    )
    monkeypatch.setattr(corruptions, "_CHUNK", 2)
    np.testing.assert_array_equal(corruptions.corrupt(images, name, 3, 1), whole)
    assert (corruptions.corrupt(images, name, 3, seed=2) != whole).any()
    assert (corruptions.corrupt(images, name, 4, seed=1) != whole).any()


def test_empty_and_black_images():
    empty = np.zeros((0, 4, 4, 3), np.uint8)
    assert corruptions.corrupt(empty, "shot_noise", 1).shape == empty.shape
    black = np.zeros((2, 4, 4, 3), np.uint8)
    for name in ("shot_noise", "speckle_noise"):
        np.testing.assert_array_equal(corruptions.corrupt(black, name, 5), black)


def test_errors_say_what_is_accepted():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="'impulse_noise'.*Received: name='fog'"):
        corruptions.corrupt(images, "fog", 1)
    with pytest.raises(ValueError, match="from 1 to 5. Received: severity=6"):
        corruptions.corrupt(images, "shot_noise", 6)
    with pytest.raises(ValueError, match="uint8 pixels. Received: .*float32"):
        corruptions.corrupt(images.astype(np.float32), "shot_noise", 1)
