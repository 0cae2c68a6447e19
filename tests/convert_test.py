import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf import convert

DATA = pathlib.Path(__file__).parent / "data"
NETWORKS = ["resnet20", "in_resnet20", "lambda_in_resnet20"]


def golden(name):
    return dict(np.load(DATA / f"official_{name}.npz"))


def state_of(arrays):
    prefix = "state/"
    return {
        k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)
    }


def network(name):
    return zoo.get_model(name, include_preprocessing=False, classifier_activation=None)


@pytest.fixture(scope="module", params=NETWORKS)
def converted(request):
    arrays = golden(request.param)
    model = network(request.param)
    convert.load_official_state(model, state_of(arrays))
    return model, arrays


def assert_close(actual, expected):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)


def test_logits_in_inference(converted):
    model, arrays = converted
    assert_close(model(arrays["input_nhwc"], training=False), arrays["logits_eval"])


def test_input_gradients(converted):
    model, arrays = converted
    images = tf.constant(arrays["input_nhwc"])
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = model(images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            arrays["labels"], logits
        )
        loss = tf.reduce_sum(losses)
    assert_close(tape.gradient(loss, images), arrays["input_grad_nhwc"])


def test_logits_in_training(converted):
    model, arrays = converted
    weights = model.get_weights()
    assert_close(model(arrays["input_nhwc"], training=True), arrays["logits_train"])
    model.set_weights(weights)


@pytest.mark.parametrize("depth", [20, 164])
def test_every_variable_has_an_official_name(depth):
    model = zoo.InResNet(depth)
    targets = convert._targets(model)
    assert {id(v) for v in targets.values()} == {
        id(v) for v in model.weights if "normalization" not in v.path.split("/")[0]
    }
    assert ("downsample1.downsample.2.weight" in targets) == (depth == 164)


def test_mismatches_are_named_and_change_nothing():
    model = network("in_resnet20")
    before = model.get_weights()
    state = state_of(golden("in_resnet20"))
    del state["blocks.4.conv1.weight"]
    state["extra.weight"] = np.zeros(3)
    state["fc.weight"] = np.zeros((100, 64))
    with pytest.raises(ValueError) as error:
        convert.load_official_state(model, state)
    message = str(error.value)
    assert "missing: blocks.4.conv1.weight" in message
    assert "unknown: extra.weight" in message
    assert "fc.weight (has (100, 64), needs (10, 64))" in message
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_scalars_must_match():
    with pytest.raises(ValueError, match=r"unknown: ks.0, ks.1"):
        convert.load_official_state(
            network("resnet20"), state_of(golden("in_resnet20"))
        )
    with pytest.raises(ValueError, match=r"missing: ks.1, ks.2, ks.4"):
        convert.load_official_state(
            network("in_resnet20"), state_of(golden("resnet20"))
        )


def test_entries_with_similar_names_are_rejected():
    model, state = network("in_resnet20"), state_of(golden("in_resnet20"))
    with pytest.raises(ValueError, match=r"unknown: ks.99"):
        convert.load_official_state(model, state | {"ks.99": np.zeros(1)})
    with pytest.raises(ValueError, match=r"bn.weight \(has \(1,\), needs \(64,\)\)"):
        convert.load_official_state(model, state | {"bn.weight": np.zeros(1)})


@pytest.mark.parametrize(
    "name",
    [
        *("bn1.wieght", "downsample1.typo", "downsample1.downsample.7.weight"),
        *("foo.num_batches_tracked", "downsample22.downsample.0.bias.weight"),
    ],
)
def test_names_like_those_without_effect_are_rejected(name):
    model, state = network("in_resnet20"), state_of(golden("in_resnet20"))
    with pytest.raises(ValueError, match=rf"unknown: {name}"):
        convert.load_official_state(model, state | {name: np.zeros(16)})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("bn1.weight", (4, 4)), ("ks.0", (4, 5)), ("bn.num_batches_tracked", (2,))],
)
def test_shapes_of_entries_without_effect(name, shape):
    model, state = network("in_resnet20"), state_of(golden("in_resnet20"))
    with pytest.raises(ValueError, match=rf"of the wrong shape: {name} \(has"):
        convert.load_official_state(model, state | {name: np.zeros(shape)})
    convert.load_official_state(model, state | {"ks.0": np.zeros(())})


@pytest.mark.parametrize("name", ["in_resnet50", "in_resnext11_4x16d"])
def test_networks_without_an_official_version(name):
    with pytest.raises(ValueError, match=f"no network like {name}: only ResNets for"):
        convert.load_official_state(zoo.get_model(name), {})


def test_noise_does_not_affect_the_weights():
    model = zoo.EnResNet20(include_preprocessing=False, classifier_activation=None)
    arrays = golden("resnet20")
    convert.load_official_state(model, state_of(arrays))
    assert_close(model(arrays["input_nhwc"]), arrays["logits_eval"])


WRAPPINGS = {
    "DataParallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "torch.compile": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "both": lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    "both, the other way": lambda state: {
        f"_orig_mod.module.{k}": v for k, v in state.items()
    },
    "compiled blocks": lambda state: {
        k.replace("blocks.0.", "blocks.0._orig_mod."): v for k, v in state.items()
    },
    "AveragedModel": lambda state: {
        "n_averaged": np.array(3),
        **{f"module.{k}": v for k, v in state.items()},
    },
    **{
        name: lambda state, name=name: {name: state, "epoch": 3, "acc": np.array(0.9)}
        for name in ("net", "model", "state_dict", "model_state_dict")
    },
    "model by name": lambda state: {"model": "resnet20", "state_dict": state},
    "all": lambda state: {
        "net": {f"module._orig_mod.{k}": v for k, v in state.items()}
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_states(wrapping):
    state = state_of(golden("resnet20"))
    model, expected = network("resnet20"), network("resnet20")
    convert.load_official_state(expected, state)
    convert.load_official_state(model, WRAPPINGS[wrapping](state))
    for value, same in zip(model.get_weights(), expected.get_weights()):
        np.testing.assert_array_equal(value, same)


def test_ambiguous_states_are_refused():
    state, model = state_of(golden("resnet20")), network("resnet20")
    with pytest.raises(ValueError, match="ambiguous: model and net both hold"):
        convert.load_official_state(model, {"net": state, "model": state})
    twice = state | {"module.bn.weight": state["bn.weight"]}
    with pytest.raises(ValueError, match="bn.weight twice, as module.bn.weight too"):
        convert.load_official_state(model, twice)


def test_pytorch_file(tmp_path):
    torch = pytest.importorskip("torch")
    state = state_of(golden("in_resnet20"))
    path = tmp_path / "state.pt"
    torch.save({k: torch.from_numpy(v.copy()) for k, v in state.items()}, path)
    read = convert.read_official_checkpoint(path)
    assert read.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(read[key], value)

    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(1, 1))
    torch.save({"net": averaged.state_dict(), "acc": 0.9}, path)
    assert convert.read_official_checkpoint(path).keys() == {"weight", "bias"}

    half = {"w": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))}
    torch.save(half, path)
    np.testing.assert_array_equal(convert.read_official_checkpoint(path)["w"], [1, 1])
    torch.save({"w": torch.tensor([np.nan])}, path)
    with pytest.raises(ValueError, match="non-finite values: w"):
        convert.read_official_checkpoint(path)
    torch.save({"network": pathlib.Path("x")}, path)
    with pytest.raises(
        ValueError, match="not a PyTorch state dict that can be read safely"
    ):
        convert.read_official_checkpoint(path)
    for content in ([1, 2], {0: torch.ones(1)}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="is not a state dict"):
            convert.read_official_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        convert.read_official_checkpoint(tmp_path / "missing.pt")


def test_pytorch_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="needs PyTorch: pip install torch"):
        convert.read_official_checkpoint(tmp_path / "state.pt")
