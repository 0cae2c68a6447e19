import pytest

from inres_tf.analysis import ANALYSES, AnalysisConfig
from inres_tf.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 0.0}, "--eps must be from 0.001 to 255; got 0"),
        ({"grid": 10}, "--grid must be odd"),
        ({"bins": 0}, "--bins must be from 1"),
        ({"rates": (0.5, -1.0)}, "--rates must be from 0 to 1.*; got -1"),
        ({"direction": "up"}, "--direction must be one of sign, .*; got 'up'"),
        ({"corruptions": ("no",)}, "--corruptions must be one of .*; got 'no'"),
        ({"severity": 6}, "--severity must be from 1 to 5; got 6"),
        (dict.fromkeys(ANALYSES, False), "at least one analysis must be on: --landsc"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(UserError, match=message):
        AnalysisConfig(**settings)


def test_groups_of_corruptions():
    chosen = AnalysisConfig(corruptions=("fog", "digital")).corruptions
    assert chosen == (
        "fog",
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    )
    assert len(AnalysisConfig().corruptions) == 18
    assert AnalysisConfig(corruptions=()).corruptions == ()
