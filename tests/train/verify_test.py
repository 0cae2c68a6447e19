"""The verifier as a program: results that claim too much, and other mistakes."""

import base64
import json
import re

import keras
import numpy as np
import pytest

import zoo
from inres_tf import layers
from inres_tf.evaluation import (
    EvaluationConfig,
    evaluate_model,
    lipschitz_certificate,
    results,
)
from inres_tf.models import LipschitzBound, lipschitz_bound


@pytest.fixture(scope="module")
def checkpoint(digits, tmp_path_factory):
    """Path of a block and the classifier of the nearest mean of its features."""
    keras.utils.set_random_seed(0)
    block = layers.ConvexPotentialConv2D(4, damping="in", name="block")
    before = [keras.Input(digits.shape), keras.layers.Rescaling(1 / 255), block]
    features = keras.Sequential([*before, keras.layers.Flatten()])
    layers.tighten(features)
    found = features.predict(digits.train.images, batch_size=1438, verbose=0)
    means = np.stack([found[digits.train.labels == c].mean(0) for c in range(10)])
    head = keras.layers.Dense(10, activation="softmax")
    model = keras.Sequential([*before, *features.layers[2:], head])
    head.set_weights([means.T, -(means**2).sum(1) / 2])
    path = tmp_path_factory.mktemp("run") / "model.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def result(checkpoint, digits):
    """The result of an evaluation with certificates."""
    config = EvaluationConfig(
        attacks=(),
        corruptions=(),
        num_examples=80,
        check_examples=2,
        certify="lipschitz",
        certify_radii=(10.0, 36.0),
        steps=1,
    )
    model = keras.models.load_model(checkpoint)
    return evaluate_model(model, digits, config, progress=False)


@pytest.fixture
def write(tmp_path):
    def to_file(result):
        path = tmp_path / "result.json"
        path.write_text(json.dumps(result))
        return path

    return to_file


def test_proves_the_certificates_of_an_evaluation(binary, checkpoint, result, write):
    certified = result["certificates"]["radii"]["10"]
    assert 0.2 < certified < 1
    path = write(result)
    arguments = [f"--checkpoint={checkpoint}", f"--results={path}", "--radii=10"]
    code, out, err = binary("verify", *arguments)
    assert (code, err) == (0, "")
    assert out.endswith(f"\nall certificates in {path} are proved\n")
    header, _, row, *_ = out.splitlines()
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        *("images", "clean", "radius 10/255")
    ]
    clean = result["clean"]["accuracy"]
    expected = ["80", f"{100 * clean:.1f}", f"{100 * certified:.1f}"]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == expected


def test_the_radii_are_those_of_the_evaluation(binary, checkpoint, result):
    """But for what the evaluation takes off for rounding in float32."""
    arguments = [f"--checkpoint={checkpoint}", "--num_examples=80", "--json"]
    code, out, _ = binary("verify", *arguments)
    report = json.loads(out)
    assert code == 0 and list(report["certificates"]["radii"]) == ["36", "72", "108"]
    content = base64.b64decode(result["certificates"]["image_radii"])
    claimed, proved = np.frombuffer(content, "<f4"), np.array(report["radii"])
    assert (claimed <= proved * np.where(proved < 0, 1, 1 + 1e-4)).all()
    np.testing.assert_allclose(claimed, proved, rtol=0.01, atol=0.1)


def test_a_wrong_bound_is_caught(binary, checkpoint, digits, result, write):
    """The certificates of an evaluation whose bound of the features is 5% too low."""
    model = keras.models.load_model(checkpoint)
    bound = lipschitz_bound(model)
    wrong = LipschitzBound(0.95 * bound.features, bound.kernel)
    images, labels = digits.test.images[:80], digits.test.labels[:80]
    found = lipschitz_certificate(model, images, labels, bound=wrong)
    entry = result["certificates"]
    entry = entry | {"image_radii": results.pack_radii(found.radii)}
    path = write(result | {"certificates": entry})
    code, out, err = binary("verify", f"--checkpoint={checkpoint}", f"--results={path}")
    assert code == 1 and "are proved" not in out and out.startswith("| images")
    assert re.fullmatch(
        rf"train.verify: {path} claims radius ([\d.]+)/255 for image \d+, but only "
        r"([\d.]+)/255 can be proved\n",
        err,
    )


def test_an_accuracy_that_is_too_high_is_named(binary, checkpoint, result, write):
    radii = result["certificates"]["radii"]
    count = round(80 * radii["10"])
    changed = result["certificates"] | {"radii": {"10": (count + 1) / 80}}
    path = write(result | {"certificates": changed})
    code, _, err = binary("verify", f"--checkpoint={checkpoint}", f"--results={path}")
    assert code == 1
    assert err == (
        f"train.verify: {path} claims that {count + 1} of 80 images are certified at "
        f"radius 10/255, but only {count} can be proved\n"
    )


def test_prints_the_constants_of_the_layers(binary, checkpoint):
    arguments = [f"--checkpoint={checkpoint.parent}", "--num_examples=5", "--verbose"]
    code, out, err = binary("verify", *arguments)
    model = keras.models.load_model(checkpoint)
    assert (code, err) == (0, "")
    for name in ("block",):
        bound = model.get_layer(name).lipschitz_bound()
        (line,) = [line for line in out.splitlines() if f" {name} " in line]
        assert float(line.split("|")[2]) == pytest.approx(bound, rel=1e-4)


def test_all_images_are_used_if_there_are_fewer(binary, checkpoint):
    code, out, _ = binary("verify", f"--checkpoint={checkpoint}")
    assert code == 0 and "| 359 " in out


def test_mistakes_are_one_line(binary, checkpoint, result, write, tmp_path):
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    residual = keras.layers.Add()([flat, keras.layers.Dense(64)(flat)])
    keras.Model(inputs, residual).save(tmp_path / "residual.keras")
    flipped = bytearray(checkpoint.read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    (tmp_path / "flipped.keras").write_bytes(bytes(flipped))
    other = write(result | {"fingerprint": "0"})
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps({k: v for k, v in result.items() if k[:4] != "cert"}))
    given = f"--checkpoint={checkpoint}"
    cases = [
        ([], "pass either --checkpoint"),
        (["--checkpoint=none"], "none does not exist; --checkpoint must be a .ker"),
        ([f"--checkpoint={tmp_path}/flipped.keras"], "damaged"),
        ([f"--checkpoint={tmp_path}/residual.keras"], "only chains can be verified"),
        ([given, "--results=none"], "there is no result file none"),
        ([given, f"--results={plain}"], "has no Lipschitz certificates"),
        ([given, f"--results={other}"], "is of other images than the first 80 of dig"),
        ([given, "--image_size=9"], "takes images of shape (8, 8, 1)"),
        ([given, "--radii=a"], "--radii"),
        ([given, "--radii=0"], "--radii must be in"),
        (
            [given, "--dataset=none", f"--data_dir={tmp_path}"],
            "there is no dataset 'none'",
        ),
    ]
    for arguments, message in cases:
        code, out, err = binary("verify", *arguments)
        assert (code, out) == (1, ""), arguments
        assert err.startswith("train.verify: ") and err.count("\n") == 1, err
        assert message in err, err


def test_an_adaptive_neural_ode_is_refused(binary, digits, tmp_path):
    model = zoo.get_model("node_tiny", input_shape=digits.shape, solver="dopri5")
    model.save(tmp_path / "node.keras")
    code, out, err = binary("verify", f"--checkpoint={tmp_path}/node.keras")
    assert (code, out) == (1, "")
    assert "layer 'stage1_flow' (inres_tf>NeuralODE) is solved by 'dopri5'" in err


def test_shipped_weights(binary, tmp_path):
    path = tmp_path / "model.keras"
    zoo.CPLTiny(weights="mnist", input_shape=(28, 28, 1)).save(path)
    data = ["--dataset=digits", "--image_size=28", "--num_examples=3", "--json"]
    _, expected, _ = binary("verify", f"--checkpoint={path}", *data)
    shipped = ["--model=cpl_tiny", "--weights=mnist"]
    assert binary("verify", *shipped, *data) == (0, expected, "")
    code, out, err = binary("verify", f"--checkpoint={path}", *shipped, *data)
    assert (code, out) == (1, "") and "pass either --checkpoint" in err
    code, out, err = binary("verify", shipped[0])
    assert (code, out) == (1, "") and "--model needs --weights" in err
