"""All corruptions: names, seeds and constants; noise; summaries."""

import pathlib
import re

import numpy as np
import pytest

from inres_tf import corruptions
from inres_tf.corruptions import (
    CORRUPTIONS,
    EXTRA,
    GROUPS,
    SEVERITIES,
    STANDARD,
    filters,
    generate,
)
from inres_tf.errors import UserError

NAMES = list(CORRUPTIONS)
# Corruptions without randomness.
FIXED = {
    "brightness",
    "contrast",
    "defocus_blur",
    "gaussian_blur",
    "jpeg_compression",
    "pixelate",
    "saturate",
    "zoom_blur",
}
SHAPES = [(9, 8, 8, 1), (5, 32, 32, 3), (4, 13, 9, 3), (4, 35, 40, 1)]


def parameter(name, severity):
    return CORRUPTIONS[name][1][severity - 1]


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def smooth(count=20, side=32):
    """Images with detail at all scales, like photographs."""
    rng = np.random.default_rng(0)
    x = sum(
        sigma * filters.gaussian(rng.standard_normal((count, side, side, 3)), sigma)
        for sigma in (0.5, 1, 2, 4, 8)
    )
    return np.clip(128 + 60 * x / x.std(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_deterministic_and_independent_of_later_images(name, shape, monkeypatch):
    images = pixels(shape)
    before = images.copy()
    whole = corruptions.corrupt(images, name, 3, seed=1)
    np.testing.assert_array_equal(images, before)
    assert whole.dtype == np.uint8 and whole.shape == images.shape
    np.testing.assert_array_equal(
        corruptions.corrupt(images[:3], name, 3, 1), whole[:3]
    )
    monkeypatch.setattr(generate, "_CHUNK", 2 * images[0].size)
    np.testing.assert_array_equal(corruptions.corrupt(images, name, 3, 1), whole)
    other = corruptions.corrupt(images, name, 3, seed=2)
    assert (other != whole).any() == (name not in FIXED)
    if not (name == "saturate" and shape[-1] == 1):
        assert (whole != images).any()
        assert (corruptions.corrupt(images, name, 5, seed=1) != whole).any()


@pytest.mark.parametrize(
    "name",
    sorted(
        set(NAMES) - {"elastic_transform", "glass_blur", "saturate", "snow", "spatter"}
    ),
)
def test_distance_from_the_clean_image_increases_with_severity(name):
    images = smooth()
    distances = [
        np.abs(corruptions.corrupt(images, name, s).astype(float) - images).mean()
        for s in SEVERITIES
    ]
    assert distances == sorted(distances) and distances[-1] > 1.2 * distances[0]


@pytest.mark.parametrize("name", NAMES)
def test_images_may_have_any_size(name):
    for shape in [(0, 4, 4, 3), (1, 1, 1, 3), (2, 1, 5, 1), (2, 2, 2, 3)]:
        for severity in SEVERITIES:
            actual = corruptions.corrupt(pixels(shape), name, severity)
            assert actual.shape == shape


def test_black_images_stay_black_without_added_light():
    black = np.zeros((2, 8, 8, 3), np.uint8)
    for name in ("shot_noise", "speckle_noise", "fog", "zoom_blur", "saturate"):
        np.testing.assert_array_equal(corruptions.corrupt(black, name, 5), black)


def test_unknown_names_and_other_images_are_refused():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"mean 'fog'\?. Received: name='fogg'"):
        corruptions.corrupt(images, "fogg", 1)
    with pytest.raises(ValueError, match="known: gaussian_noise, .*name='rain'"):
        corruptions.corrupt(images, "rain", 1)
    with pytest.raises(ValueError, match="'frost' cannot be generated.*cifar10_c.load"):
        corruptions.corrupt(images, "frost", 1)
    for severity in (6, 3.0, "3"):
        with pytest.raises(ValueError, match="integer from 1 to 5. Received: severity"):
            corruptions.corrupt(images, "shot_noise", severity)
    with pytest.raises(ValueError, match="uint8 pixels. Received: .*float32"):
        corruptions.corrupt(images.astype(np.float32), "shot_noise", 1)
    for shape in [(4, 4, 3), (1, 4, 4, 2), (1, 0, 4, 3)]:
        with pytest.raises(ValueError, match="1 or 3"):
            corruptions.corrupt(np.zeros(shape, np.uint8), "shot_noise", 1)


def test_names_are_those_of_the_published_sets():
    assert len(STANDARD) == 15 and len(EXTRA) == 4 and not set(STANDARD) & set(EXTRA)
    assert {*STANDARD, *EXTRA} == {*NAMES, "frost"}
    # Seeds depend on the position.
    assert tuple(NAMES[:4]) == GROUPS["noise"]
    groups = dict(GROUPS)
    assert groups.pop("all") == tuple(NAMES)
    members = [n for g in ("noise", "blur", "weather", "digital") for n in groups[g]]
    assert set(members) == set(STANDARD) - {"frost"} | {"speckle_noise"}


def test_groups_are_replaced_by_their_members_without_repetitions():
    expand = corruptions.expand
    assert expand([]) == ()
    assert expand(["fog", "weather", "frost"]) == ("fog", "snow", "brightness", "frost")
    assert expand(["extra", "noise"])[:5] == (*EXTRA, "gaussian_noise")
    assert expand(["all", "blur"]) == tuple(NAMES)
    with pytest.raises(ValueError, match=r"'motion'; did you mean 'motion_blur'.*\?"):
        expand(["noise", "motion"])
    with pytest.raises(ValueError, match="'xyz'; known: gaussian_noise.*, all"):
        expand(["xyz"])


def test_the_documentation_lists_the_constants():
    document = pathlib.Path(__file__).parents[2] / "docs" / "corruptions.md"
    rows = re.findall(r"^\| (\w+) \| [^|]* \| (.*) \|$", document.read_text(), re.M)
    actual = {name: cells.split(" | ") for name, cells in rows if name != "corruption"}
    expected = {
        name: [" ".join(f"{v:g}" for v in np.atleast_1d(c)) for c in constants]
        for name, (_, constants) in CORRUPTIONS.items()
    }
    assert actual == expected


# Noise.


def added_noise(name, severity, value, count=200):
    """The noise added to constant images, in [0, 1]."""
    images = np.full((count, 32, 32, 3), value, np.uint8)
    return corruptions.corrupt(images, name, severity, seed=3) / 255 - value / 255


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "speckle_noise"])
def test_standard_deviation_is_the_published_one(name, severity):
    value = 100
    x, c = value / 255, parameter(name, severity)
    expected = {
        "gaussian_noise": c,
        "shot_noise": np.sqrt(x / c),
        "speckle_noise": x * c,
    }[name]
    actual = added_noise(name, severity, value)
    assert actual.std() == pytest.approx(expected, rel=0.02)
    # Truncation to uint8 lowers the mean by half a step.
    assert actual.mean() == pytest.approx(-0.5 / 255, abs=3e-4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_is_salt_and_pepper_in_equal_parts(severity):
    images = np.full((200, 32, 32, 3), 100, np.uint8)
    actual = corruptions.corrupt(images, "impulse_noise", severity)
    fraction = parameter("impulse_noise", severity)
    assert set(np.unique(actual)) == {0, 100, 255}
    assert (actual == 0).mean() == pytest.approx(fraction / 2, rel=0.05)
    assert (actual == 255).mean() == pytest.approx(fraction / 2, rel=0.05)


@pytest.mark.parametrize(
    "position, name",
    [
        (0, "gaussian_noise"),
        (1, "shot_noise"),
        (2, "impulse_noise"),
        (3, "speckle_noise"),
    ],
)
def test_noise_is_clipped_and_truncated(position, name):
    """Compares with the definition, for the same random numbers."""
    images = pixels((5, 4, 4, 3), seed=1)
    rng, x = np.random.default_rng([7, position, 5]), images / 255.0
    if name == "gaussian_noise":
        x = x + 0.10 * rng.standard_normal(x.shape)
    elif name == "shot_noise":
        x = rng.poisson(50 * x) / 50
    elif name == "speckle_noise":
        x = x + x * 0.20 * rng.standard_normal(x.shape)
    else:
        u = rng.random(x.shape)
        x = np.where(u < 0.035, 0, np.where(u >= 0.965, 1, x))
    expected = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    actual = corruptions.corrupt(images, name, 5, seed=7)
    np.testing.assert_array_equal(actual, expected)


# Summaries.


def by_severity(**accuracies):
    """The `"corruptions"` of a result."""
    return {
        name: {
            **{str(s): accuracy for s, accuracy in zip(SEVERITIES, values)},
            "mean": float(np.mean(values)),
        }
        for name, values in accuracies.items()
    }


def test_mean_accuracy_is_over_corruptions_and_severities():
    accuracies = by_severity(fog=[1, 0.8, 0.6, 0.4, 0.2], snow=[0.5] * 5)
    assert corruptions.mean_accuracy(accuracies) == pytest.approx(0.55)
    with pytest.raises(UserError, match="mean accuracy needs a result with corrup"):
        corruptions.mean_accuracy({})


def test_mce_is_relative_to_the_baseline():
    accuracies = by_severity(
        fog=[0.9, 0.9, 0.9, 0.9, 0.9], snow=[0.4, 0.2, 0.2, 0.2, 0]
    )
    base = by_severity(
        snow=[0.6, 0.6, 0.6, 0.6, 0.6], fog=[1, 1, 1, 0.5, 0.5], jpeg=[1] * 5
    )
    errors = corruptions.mce(accuracies, base)
    # Sums of errors: 0.5 against 1.0, and 4.0 against 2.0.
    assert errors["relative"] == pytest.approx({"fog": 0.5, "snow": 2.0})
    assert errors["mce"] == pytest.approx(1.25)
    assert corruptions.mce(
        base | {"jpeg": accuracies["fog"]}, base | {"jpeg": accuracies["fog"]}
    )["mce"] == pytest.approx(1)
    perfect = corruptions.mce(by_severity(fog=[1] * 5), base)
    assert perfect == {"mce": 0, "relative": {"fog": 0}}


def test_mce_without_a_comparable_baseline_is_an_error():
    accuracies = by_severity(fog=[0.5] * 5, snow=[0.5] * 5)
    with pytest.raises(UserError, match="lacks snow; it has: fog"):
        corruptions.mce(accuracies, by_severity(fog=[0.5] * 5))
    with pytest.raises(UserError, match="no errors on snow"):
        corruptions.mce(accuracies, by_severity(fog=[0.5] * 5, snow=[1] * 5))
    with pytest.raises(UserError, match="severities 1, 2, 3, 4, 5 .* and 1, 2 in"):
        corruptions.mce(accuracies, by_severity(fog=[0.5] * 2, snow=[0.5] * 5))
    with pytest.raises(UserError, match="mCE needs a result with corruptions"):
        corruptions.mce({}, accuracies)
