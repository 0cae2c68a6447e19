"""Each check with a model or a result that trips it and one that does not."""

import keras
import numpy as np
import pytest
from keras import ops

from inres_tf.errors import UserError
from inres_tf.evaluation import checks, results
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.evaluation.evaluator import evaluate
from inres_tf.reporting import tables


class Rounded(keras.layers.Layer):
    """Pixels rounded to multiples of four, whose gradient is zero."""

    def call(self, inputs):
        return ops.round(inputs / 4) * 4


class Replaced(keras.layers.Layer):
    """The inputs, with a tenth of their gradient."""

    def call(self, inputs):
        return ops.stop_gradient(0.9 * inputs) + 0.1 * inputs


class Thinned(keras.layers.Layer):
    """The inputs, with a gradient for a fifth of their values alone."""

    def call(self, inputs):
        kept = ops.cast(ops.arange(64) % 5 == 0, "float32")
        kept = ops.reshape(kept, (1, 8, 8, 1))
        return ops.stop_gradient(inputs * (1 - kept)) + inputs * kept


class Noisy(keras.layers.Layer):
    """The inputs with noise, in evaluation too."""

    def call(self, inputs):
        return inputs + keras.random.normal(ops.shape(inputs))


class OfTheBatch(keras.layers.BatchNormalization):
    """Batch normalisation that stays in training mode."""

    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(100))


def behind(layer, model):
    """The model behind another layer."""
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(layer(inputs)))


def raised(findings):
    assert all(bool(f["message"]) == f["raised"] for f in findings)
    return {finding["name"] for finding in findings if finding["raised"]}


def test_a_plain_network_raises_nothing(trained, few):
    found = checks.of_model(trained, few)
    assert raised(found) == set()
    assert {f["name"] for f in found} == {
        "outputs",
        "probabilities",
        "randomness",
        "batch_dependence",
        "zero_gradients",
        "misleading_gradients",
    }
    (ratio,) = (f["value"] for f in found if f["name"] == "misleading_gradients")
    assert ratio == pytest.approx(1, abs=0.1)


def test_probabilities_taken_for_logits(trained, few):
    """A softmax behind which a layer without an activation stands."""
    hidden = keras.layers.Activation("linear")(trained.output)
    model = keras.Model(trained.input, hidden)
    found = checks.of_model(model, few)
    assert "probabilities" in raised(found)


def test_randomness(trained, few):
    found = raised(checks.of_model(behind(Noisy(), trained), few))
    assert "randomness" in found and "batch_dependence" not in found


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_in_training_mode(few, training):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    normalise = OfTheBatch() if training else keras.layers.BatchNormalization()
    hidden = normalise(inputs)
    scores = keras.layers.Dense(10)(keras.layers.Flatten()(hidden))
    model = keras.Model(inputs, scores)
    before = [value.copy() for value in model.get_weights()]
    assert raised(checks.of_model(model, few)) == (
        {"batch_dependence"} if training else set()
    )
    changed = checks.of_weights(before, model.get_weights())
    assert raised(changed) == ({"weights_changed"} if training else set())


def test_zero_and_masked_gradients(trained, few):
    found = checks.of_model(behind(Rounded(), trained), few)
    (zero,) = (f for f in found if f["name"] == "zero_gradients")
    assert zero["raised"] and zero["value"]["images"] == 1
    found = checks.of_model(behind(Thinned(), trained), few)
    (masked,) = (f for f in found if f["name"] == "zero_gradients")
    assert masked["raised"] and masked["value"]["images"] == 0
    # 13 of 64 values have a gradient.
    assert masked["value"]["entries"] == pytest.approx(51 / 64, abs=0.01)


def test_misleading_gradients(trained, few):
    found = checks.of_model(behind(Replaced(), trained), few)
    assert raised(found) == {"misleading_gradients"}
    assert found[-1]["value"] == pytest.approx(10, rel=0.1)


def of_attacks(model, data, **settings):
    settings = {"attacks": ("pgd",), "eps": (24.0,), "corruptions": ()} | settings
    result = evaluate(model, data, EvaluationConfig(**settings), progress=False)
    return raised(result["checks"]), result


def test_a_sound_evaluation_raises_nothing(trained, few):
    found, result = of_attacks(
        trained, few, attacks=("apgd_dlr",), apgd_steps=40, eps=(12.0, 24.0)
    )
    assert found == set()
    names = [finding["name"] for finding in result["checks"]]
    assert len(names) == len(set(names)) == 16


def test_steps_that_are_too_small(trained, few):
    found, result = of_attacks(trained, few, attacks=("ifgsm",), steps=2, step_size=1.0)
    assert {"step_size", "restarts", "reach"} <= found
    text = tables.evaluation({"model": "m", "dataset": "digits", **result})
    assert "more of 100 images fall at ε = 24" in text


def test_masked_gradients_are_seen_by_attacks_too(trained, few):
    """Behind rounding, PGD finds little, and random search and large balls tell."""
    found, _ = of_attacks(
        behind(Rounded(), trained), few, eps=(40.0,), steps=20, step_size=4.0
    )
    assert {"zero_gradients", "black_box", "huge_eps"} <= found


def test_masked_gradients_are_seen_within_autoattack(trained, few):
    """Images that fall to its Square alone, whatever its other members found."""
    found, result = of_attacks(
        behind(Rounded(), trained),
        few,
        attacks=("autoattack",),
        autoattack=("apgd_ce", "square"),
        apgd_steps=5,
        queries=200,
        eps=(40.0,),
    )
    assert "black_box" in found
    (row,) = result["attacks"]
    by_gradients = results.unpack(
        result["correct"]["autoattack linf 40 by gradients"], 100
    )
    assert by_gradients.mean() == row["after"]["apgd_ce"] > row["accuracy"]


@pytest.mark.parametrize("name", ["square", "autoattack"])
def test_a_black_box_attack_alone_does_not_accuse_gradients(name, trained, few):
    found, result = of_attacks(
        trained,
        few,
        attacks=(name,),
        autoattack=("square",),
        queries=300,
        eps=(40.0,),
    )
    assert result["attacks"][0]["accuracy"] < 0.9
    assert "black_box" not in found


class Singular(keras.layers.Layer):
    """The inputs, whose gradient is no number."""

    def call(self, inputs):
        return inputs + ops.sqrt(ops.abs(inputs - ops.stop_gradient(inputs)))


def test_gradients_that_are_no_numbers(trained, few):
    """An attack that needs none goes on; one that does says it in one line."""
    model = behind(Singular(), trained)
    found, result = of_attacks(
        model, few, attacks=("square",), queries=20, eps=(40.0,), check_examples=20
    )
    assert "zero_gradients" in found and result["attacks"]
    with pytest.raises(UserError, match="no number"):
        of_attacks(model, few)


def test_a_network_that_has_diverged(trained, few):
    model = keras.models.clone_model(trained)
    weights = trained.get_weights()
    weights[-1] = weights[-1] * np.nan
    model.set_weights(weights)
    found = checks.of_model(model, few)
    assert [finding["name"] for finding in found] == ["outputs"]
    assert found[0]["raised"] and found[0]["value"] == 100


def test_a_black_box_attack_that_was_asked_for(trained, few):
    found, _ = of_attacks(
        behind(Rounded(), trained),
        few,
        attacks=("fgsm", "square"),
        queries=200,
        eps=(40.0,),
    )
    assert "black_box" in found
    found, _ = of_attacks(
        trained,
        few,
        attacks=("apgd_ce", "square"),
        apgd_steps=30,
        queries=50,
        eps=(40.0,),
    )
    assert "black_box" not in found


def rows(*accuracies, name="pgd", norm="linf"):
    return [
        {
            **{"name": name, "norm": norm, "eps": eps, "accuracy": accuracy},
            **{"steps": 20, "step_size": 1.0},
        }
        for eps, accuracy in zip((1.0, 2.0, 4.0), accuracies)
    ]


@pytest.mark.parametrize(
    ("accuracies", "worst"),
    [((0.8, 0.5, 0.2), 0), ((0.8, 0.3, 0.5), 0.2), ((0.95, 0.3, 0.3), 0.05)],
)
def test_accuracy_that_rises_with_eps(accuracies, worst):
    result = {"num_examples": 100, "clean": {"accuracy": 0.9}}
    found = checks.of_accuracies(result | {"attacks": rows(*accuracies)}, "linf")
    assert raised(found) == ({"monotone"} if worst else set())
    assert found[0]["value"] == pytest.approx(worst)


def test_one_image_is_not_many():
    result = {"num_examples": 50, "clean": {"accuracy": 0.9}}
    found = checks.of_accuracies(result | {"attacks": rows(0.5, 0.52, 0.5)}, "linf")
    assert raised(found) == set()


def test_single_attacks_that_are_weak():
    result = {"num_examples": 100, "clean": {"accuracy": 0.9}}
    result["attacks"] = rows(0.5, 0.4, name="fgsm") + rows(0.5, 0.45, name="pgd")
    assert raised(checks.of_accuracies(result, "linf")) == {"single_step"}
    result["attacks"][-1] |= {"accuracy": 0.4, "steps": 1}
    found = checks.of_accuracies(result, "linf")
    assert raised(found) == {"reach"}
    assert "all steps of pgd at ε = 2 together" in found[2]["message"]
    result["attacks"][-1] |= {"step_size": 2.0}
    assert raised(checks.of_accuracies(result, "linf")) == set()


def test_labels_of_other_images():
    assert raised(checks.of_labels(False, "folder:here")) == set()
    assert raised(checks.of_labels(True, "folder:here")) == {"labels"}


def test_another_norm_is_said():
    result = {"num_examples": 50, "clean": {"accuracy": 0.9}}
    result["attacks"] = rows(0.5, name="cw_l2", norm="l2")
    assert raised(checks.of_accuracies(result, "linf")) == {"norms"}
    assert raised(checks.of_accuracies(result, "l2")) == set()


def test_no_attack_no_findings_about_attacks(trained, few):
    found = evaluate(
        trained, few, EvaluationConfig(attacks=(), corruptions=()), progress=False
    )
    names = {finding["name"] for finding in found["checks"]}
    assert "probabilities" in names and "step_size" not in names
    assert np.isfinite(found["clean"]["accuracy"])
