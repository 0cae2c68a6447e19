import dataclasses
import math

import pytest

from inres_tf.config import Bounds, Config, config_field
from inres_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Settings(Config):
    mode: str = config_field("fast", "A mode.", choices=("fast", "slow"))
    scale: float | None = config_field(0.5, "A scale.", bounds="(0, 1]")
    sizes: tuple[int, ...] = config_field((1, 2), "Some sizes.", bounds="[1, 9]")
    modes: tuple[str, ...] = config_field((), "Some modes.", choices=["fast", "slow"])
    anything: str = config_field("", "A field that accepts anything.")


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("[0, 1]", (0, 0.5, 1), (-1e-9, 1 + 1e-9)),
        ("(0, 1)", (1e-9, 0.5), (0, 1)),
        ("[0, 1)", (0, 0.5), (1,)),
        ("(0, 1]", (0.5, 1), (0,)),
        ("[-2, inf)", (-2, 1e300), (-3, math.inf)),
        ("(0, inf)", (1e-300,), (0, math.inf)),
    ],
)
def test_bounds_contain_the_numbers_of_the_interval(text, inside, outside):
    bounds = Bounds(text)
    assert all(number in bounds for number in inside)
    assert not any(number in bounds for number in outside)
    assert math.nan not in bounds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[0, 100]", "from 0 to 100"),
        ("[0.001, 255]", "from 0.001 to 255"),
        ("[0, 1)", "in [0, 1)"),
        ("(0, 1]", "in (0, 1]"),
        ("(0, inf)", "positive"),
        ("[1, inf)", "at least 1"),
    ],
)
def test_bounds_are_described_in_words(text, message):
    assert str(Bounds(text)) == message


def test_fields_have_defaults_and_metadata():
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    assert {name: field.default for name, field in fields.items()} == {
        "mode": "fast",
        "scale": 0.5,
        "sizes": (1, 2),
        "modes": (),
        "anything": "",
    }
    assert fields["modes"].metadata["choices"] == ("fast", "slow")
    assert fields["mode"].metadata["bounds"] is None
    assert fields["scale"].metadata["help"] == "A scale."
    assert fields["scale"].metadata["bounds"].text == "(0, 1]"


def test_accepted_values_are_kept():
    settings = Settings(mode="slow", scale=1.0, sizes=(9, 1), modes=("fast", "fast"))
    assert settings.sizes == (9, 1) and settings.modes == ("fast", "fast")
    assert Settings(sizes=()).sizes == ()
    assert Settings(anything=3.0).anything == 3.0


def test_none_is_accepted_whatever_the_bounds_and_choices():
    settings = Settings(mode=None, scale=None, sizes=(1, None))
    assert settings.mode is settings.scale is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "quick"}, "--mode must be one of fast, slow; got 'quick'"),
        ({"modes": ("slow", "x")}, "--modes must be one of fast, slow; got 'x'"),
        ({"scale": 0.0}, "--scale must be in (0, 1]; got 0"),
        ({"scale": 1.25}, "--scale must be in (0, 1]; got 1.25"),
        ({"scale": math.nan}, "--scale must be in (0, 1]; got nan"),
        ({"sizes": (3, 10)}, "--sizes must be from 1 to 9; got 10"),
    ],
)
def test_other_values_are_rejected_in_one_line(values, message):
    with pytest.raises(UserError) as error:
        Settings(**values)
    assert str(error.value) == message


def test_subclasses_check_how_fields_combine():
    @dataclasses.dataclass(frozen=True)
    class Range(Config):
        low: int = config_field(0, "Lower end.", bounds="[0, 9]")
        high: int = config_field(1, "Upper end.", bounds="[0, 9]")

        def __post_init__(self):
            super().__post_init__()
            if self.low > self.high:
                raise UserError("--low must not exceed --high")

    with pytest.raises(UserError, match="--low must not exceed --high"):
        Range(low=5)
    with pytest.raises(UserError, match="--low must be from 0 to 9; got 10"):
        Range(low=10)


def test_paths_are_expanded(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Paths(Config):
        folder: str | None = config_field(None, "A folder.", path=True)
        name: str = config_field("~/x", "No path.")

    monkeypatch.setenv("HOME", "/home/ada")
    paths = Paths("folder:~/photos")
    assert (paths.folder, paths.name) == ("folder:/home/ada/photos", "~/x")
    assert Paths().folder is None
