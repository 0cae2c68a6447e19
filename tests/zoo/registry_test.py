import inspect

import pytest

import zoo
from zoo import presets


def test_registry_lists_every_family_at_every_depth():
    names = zoo.list_models()
    assert names == sorted(names)
    stems = ("{}", "in_{}", "lambda_in_{}", "exponential_{}")
    resnets = [*presets.RESNETS, *presets.IMAGENET_RESNETS]
    resnexts = [*presets.RESNEXTS, *presets.IMAGENET_RESNEXTS]
    expected = {s.format(f"resnet{size}") for s in stems for size in resnets}
    expected |= {s.format("airnet") for s in (*stems, "plain_{}")}
    expected |= {s.format(f"resnext{size}") for s in stems for size in resnexts}
    expected |= {f"plain{size}" for size in resnets}
    expected |= {f"plain_resnext{size}" for size in resnexts}
    expected |= {f"en_resnet{size}" for size in presets.RESNETS}
    v2 = {f"resnet{size}" for size in presets.IMAGENET_RESNETS}
    kinds = ("node", "lip_node", "damped_node", "cpl", "damped_cpl")
    expected |= {f"{kind}_{size}" for kind in kinds for size in ("tiny", "small", "xs")}
    assert set(names) == expected - v2 | {f"{name}v2" for name in v2}
    assert {"resnext29_8x64d", "in_resnext11_4x16d", "in_resnext50_32x4d"} <= expected

    exported = {}
    for constructor in zoo.__all__:
        parameters = inspect.signature(getattr(zoo, constructor)).parameters
        if "damping" in parameters:
            exported[parameters["name"].default] = constructor
    assert set(exported) == set(names)
    assert exported["in_resnext101_32x8d"] == "InResNeXt101_32x8d"
    assert exported["resnet50v2"] == "ResNet50V2"
    assert exported["damped_node_small"] == "DampedNODESmall"
    assert exported["cpl_xs"] == "CPLXS"


def test_unknown_names():
    with pytest.raises(ValueError, match="Did you mean .*in_resnet20.*all 117"):
        zoo.get_model("in_resnet21")
    with pytest.raises(ValueError, match="There is no model 'vgg' in the zoo"):
        zoo.describe("vgg")
    with pytest.raises(AttributeError, match="no attribute 'InResNet21'"):
        _ = zoo.InResNet21
