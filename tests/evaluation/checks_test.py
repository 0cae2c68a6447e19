"""Each check with a model or a result that raises it and one that does not."""

import keras
import numpy as np
import pytest
from keras import ops

from inres_tf import attacks
from inres_tf.errors import UserError
from inres_tf.evaluation import (
    EvaluationConfig,
    _attack_checks,
    checks,
    evaluate,
    results,
)
from inres_tf.reporting import tables


class Rounded(keras.layers.Layer):
    """Rounds to multiples of four, so that the gradient is zero."""

    def call(self, inputs):
        return ops.round(inputs / 4) * 4


class Replaced(keras.layers.Layer):
    """The identity, with a tenth of its gradient."""

    def call(self, inputs):
        return ops.stop_gradient(0.9 * inputs) + 0.1 * inputs


class Masked(keras.layers.Layer):
    """The identity, with a gradient for only a fifth of the values."""

    def call(self, inputs):
        kept = ops.cast(ops.arange(64) % 5 == 0, "float32")
        kept = ops.reshape(kept, (1, 8, 8, 1))
        return ops.stop_gradient(inputs * (1 - kept)) + inputs * kept


class Hidden(keras.layers.Layer):
    """The identity, without a gradient."""

    def call(self, inputs):
        return ops.stop_gradient(inputs)


class Noisy(keras.layers.Layer):
    """Adds noise, in evaluation mode too."""

    def call(self, inputs):
        return inputs + keras.random.normal(ops.shape(inputs))


class AlwaysTraining(keras.layers.BatchNormalization):
    """Batch normalisation that is always in training mode."""

    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(100))


def after(layer, model):
    """The model with another layer in front of it."""
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(layer(inputs)))


def logits_of(model):
    """The logits of a model that ends in a dense layer with a softmax, symbolically."""
    last = model.layers[-1]
    head = keras.layers.Dense(last.units)
    logits = head(last.input)
    head.set_weights(last.get_weights())
    return logits


def raised(findings):
    assert all(bool(f["message"]) == f["raised"] for f in findings)
    return {finding["name"] for finding in findings if finding["raised"]}


def test_a_plain_network_raises_nothing(trained, few):
    findings = checks.of_model(trained, few)
    assert raised(findings) == set()
    assert {f["name"] for f in findings} == {
        "outputs",
        "probabilities",
        "randomness",
        "batch_dependence",
        "zero_gradients",
        "misleading_gradients",
        "random_directions",
    }
    *_, misleading, random = findings
    assert misleading["name"] == "misleading_gradients"
    assert misleading["value"] == pytest.approx(1, abs=0.1)
    assert random["name"] == "random_directions" and 0.98 < random["value"] <= 1


def test_probabilities_taken_for_logits(trained, few):
    """The softmax is not the last layer."""
    copied = keras.layers.Dense(10, use_bias=False, kernel_initializer="identity")
    model = keras.Model(trained.input, copied(trained.output))
    assert "probabilities" in raised(checks.of_model(model, few))


def test_randomness(trained, few):
    names = raised(checks.of_model(after(Noisy(), trained), few))
    assert "randomness" in names
    assert not {"batch_dependence", "random_directions"} & names


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_in_training_mode(few, training):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    normalise = AlwaysTraining() if training else keras.layers.BatchNormalization()
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
    *_, zero, _, _ = checks.of_model(after(Rounded(), trained), few)
    assert zero["name"] == "zero_gradients"
    assert zero["raised"] and zero["value"]["images"] == 1
    *_, masked, _, _ = checks.of_model(after(Masked(), trained), few)
    assert masked["raised"] and masked["value"]["images"] == 0
    # 13 of 64 values have a gradient.
    assert masked["value"]["entries"] == pytest.approx(51 / 64, abs=0.01)


def test_misleading_gradients(trained, few):
    findings = checks.of_model(after(Replaced(), trained), few)
    assert raised(findings) == {"misleading_gradients", "random_directions"}
    assert findings[-2]["value"] == pytest.approx(10, rel=0.1)


def test_random_directions(digits, few):
    """Half of an ensemble has no gradient, which no other check finds."""

    def member(seed):
        keras.utils.set_random_seed(seed)
        layers = [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(10),
        ]
        model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        model.fit(digits.train.images, digits.train.labels, epochs=8, verbose=0)
        return model

    first, second = member(0), member(1)
    inputs = keras.Input((8, 8, 1))

    def ensemble(hides):
        hidden = Hidden()(second(inputs)) if hides else second(inputs)
        scores = keras.layers.Average()([first(inputs), hidden])
        identity = keras.layers.Dense(10, kernel_initializer="identity")
        return keras.Model(inputs, identity(scores))

    honest = checks.of_model(ensemble(False), few)
    assert raised(honest) == set() and honest[-1]["value"] > 0.99
    hiding = checks.of_model(ensemble(True), few)
    assert raised(hiding) == {"random_directions"}
    assert 0.4 < hiding[-1]["value"] < 0.8


def run(model, data, **settings):
    """Evaluates a model; returns the names of the checks raised, and the result."""
    settings = {"attacks": ("pgd",), "eps": (24.0,), "corruptions": ()} | settings
    result = evaluate(model, data, EvaluationConfig(**settings), progress=False)
    return raised(result["checks"]), result


def test_a_sound_evaluation_raises_nothing(trained, few):
    names, result = run(
        trained, few, attacks=("apgd_dlr",), apgd_steps=40, eps=(12.0, 24.0)
    )
    assert names == set()
    names = [finding["name"] for finding in result["checks"]]
    assert len(names) == len(set(names)) == 17


def test_steps_that_are_too_small(trained, few):
    names, result = run(trained, few, attacks=("ifgsm",), steps=2, step_size=1.0)
    assert {"step_size", "restarts", "reach"} <= names
    text = tables.evaluation({"model": "m", "dataset": "digits", **result})
    assert "more of 100 images at ε = 24" in text


def test_masked_gradients_are_detected_by_attacks_too(trained, few):
    """With rounding, PGD fails, and random search and huge balls reveal it."""
    names, _ = run(after(Rounded(), trained), few, eps=(40.0,), steps=20, step_size=4.0)
    assert {"zero_gradients", "black_box", "huge_eps"} <= names


def test_saturated_logits_are_not_masked_gradients(trained, few):
    """Their cross-entropy has no gradient in float32, but their margin has."""
    scaled = keras.initializers.Identity(1000.0)
    top = keras.layers.Dense(10, use_bias=False, kernel_initializer=scaled)
    model = keras.Model(trained.input, top(logits_of(trained)))
    names, _ = run(model, few, attacks=("fgsm",))
    assert "zero_gradients" in names and "huge_eps" not in names


@pytest.mark.long
def test_masked_gradients_are_detected_within_autoattack(trained, few):
    """Many images are misclassified only under its member Square."""
    names, result = run(
        after(Rounded(), trained),
        few,
        attacks=("autoattack",),
        autoattack=("apgd_ce", "square"),
        apgd_steps=5,
        queries=200,
        eps=(40.0,),
    )
    assert "black_box" in names
    (row,) = result["attacks"]
    by_gradients = results.unpack(
        result["correct"]["autoattack linf 40 by gradients"], 100
    )
    assert by_gradients.mean() == row["after"]["apgd_ce"] > row["accuracy"]


@pytest.mark.parametrize("name", ["square", "autoattack"])
def test_a_successful_black_box_attack_alone_does_not_mean_masked_gradients(
    name, trained, few
):
    names, result = run(
        trained,
        few,
        attacks=(name,),
        autoattack=("square",),
        queries=300,
        eps=(40.0,),
    )
    assert result["attacks"][0]["accuracy"] < 0.9
    assert "black_box" not in names


class Singular(keras.layers.Layer):
    """The identity, with a non-finite gradient."""

    def call(self, inputs):
        return inputs + ops.sqrt(ops.abs(inputs - ops.stop_gradient(inputs)))


def test_non_finite_gradients(trained, few):
    """Attacks without gradients run; others end in an error message."""
    model = after(Singular(), trained)
    names, result = run(
        model, few, attacks=("square",), queries=20, eps=(40.0,), check_examples=20
    )
    assert "zero_gradients" in names and result["attacks"]
    with pytest.raises(UserError, match="non-finite"):
        run(model, few)


def test_attacks_that_fail_do_not_count_as_success(trained, few):
    """PGD in a huge ball meets non-finite gradients, and so fools no image."""
    model = after(Singular(), trained)
    config = EvaluationConfig(attacks=(), eps=(40.0,))
    fooled = _attack_checks.is_fooled(
        model, few, config, attacks.pgd, 40.0, np.arange(5), steps=2, step_size=8.0
    )
    assert not fooled.any()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 128.0), ("l2", 128.0 * 8)])
def test_checks_by_attacks(trained, few, monkeypatch, norm, eps):
    """The huge ball holds the same grey image in either norm; starts are new ones."""
    calls = []

    def pgd(model, images, labels, eps, **settings):
        calls.append((eps, settings))
        return images.astype(np.float32)

    monkeypatch.setattr(_attack_checks.attacks, "pgd", pgd)
    run(trained, few, attacks=("fgsm",), norm=norm, eps=(4.0,), seed=7)
    huge = [settings for radius, settings in calls if radius == pytest.approx(eps)]
    assert len(huge) == 1
    (restarts,) = [settings for _, settings in calls if settings.get("restarts") == 5]
    assert restarts["seed"] != 7


def test_a_network_that_has_diverged(trained, few):
    model = keras.models.clone_model(trained)
    weights = trained.get_weights()
    weights[-1] = weights[-1] * np.nan
    model.set_weights(weights)
    (finding,) = checks.of_model(model, few)
    assert finding["name"] == "outputs"
    assert finding["raised"] and finding["value"] == 100


@pytest.mark.long
def test_black_box_attacks_of_the_evaluation_are_compared(trained, few):
    names, _ = run(
        after(Rounded(), trained),
        few,
        attacks=("fgsm", "square"),
        queries=200,
        eps=(40.0,),
    )
    assert "black_box" in names
    names, _ = run(
        trained,
        few,
        attacks=("apgd_ce", "square"),
        apgd_steps=30,
        queries=50,
        eps=(40.0,),
    )
    assert "black_box" not in names


def rows(*accuracies, name="pgd", norm="linf"):
    return [
        {
            **{"name": name, "norm": norm, "eps": eps, "accuracy": accuracy},
            **{"steps": 20, "step_size": 1.0},
        }
        for eps, accuracy in zip((1.0, 2.0, 4.0), accuracies)
    ]


@pytest.mark.parametrize(
    ("accuracies", "increase"),
    [((0.8, 0.5, 0.2), 0), ((0.8, 0.3, 0.5), 0.2), ((0.95, 0.3, 0.3), 0.05)],
)
def test_accuracies_that_increase_with_eps(accuracies, increase):
    result = {"num_examples": 100, "clean": {"accuracy": 0.9}}
    findings = checks.of_accuracies(result | {"attacks": rows(*accuracies)}, "linf")
    assert raised(findings) == ({"monotone"} if increase else set())
    assert findings[0]["value"] == pytest.approx(increase)


def test_one_image_is_not_many():
    result = {"num_examples": 50, "clean": {"accuracy": 0.9}}
    result["attacks"] = rows(0.5, 0.52, 0.5)
    assert raised(checks.of_accuracies(result, "linf")) == set()


def test_attacks_that_are_weaker_than_fgsm_or_cannot_reach_the_surface():
    result = {"num_examples": 100, "clean": {"accuracy": 0.9}}
    result["attacks"] = rows(0.5, 0.4, name="fgsm") + rows(0.5, 0.45, name="pgd")
    assert raised(checks.of_accuracies(result, "linf")) == {"single_step"}
    result["attacks"][-1] |= {"accuracy": 0.4, "steps": 1}
    findings = checks.of_accuracies(result, "linf")
    assert raised(findings) == {"reach"}
    assert "all steps of pgd at ε = 2 together" in findings[2]["message"]
    result["attacks"][-1] |= {"step_size": 2.0}
    assert raised(checks.of_accuracies(result, "linf")) == set()


def test_labels_of_other_images():
    assert raised(checks.of_labels(False, "folder:here")) == set()
    assert raised(checks.of_labels(True, "folder:here")) == {"labels"}


def test_attacks_in_another_norm():
    result = {"num_examples": 50, "clean": {"accuracy": 0.9}}
    result["attacks"] = rows(0.5, name="cw_l2", norm="l2")
    assert raised(checks.of_accuracies(result, "linf")) == {"norms"}
    assert raised(checks.of_accuracies(result, "l2")) == set()


def test_without_attacks_only_the_model_is_checked(trained, few):
    _, result = run(trained, few, attacks=())
    names = {finding["name"] for finding in result["checks"]}
    assert "probabilities" in names and "step_size" not in names


def test_weights_that_stay_nan_have_not_changed():
    weights = [np.array([np.nan, 1.0]), np.arange(3)]
    (same,) = checks.of_weights(weights, [array.copy() for array in weights])
    assert not same["raised"] and same["value"] == 0
    (other,) = checks.of_weights(weights, [np.array([np.nan, 2.0]), weights[1]])
    assert other["raised"] and other["value"] == 1


def test_outputs_of_every_set_and_weights_must_be_finite():
    good = checks.of_outputs({"clean": 0, "fog 1": 0}, 9, [np.ones(2)])
    assert not good["raised"] and good["value"] == 0
    bad = checks.of_outputs({"clean": 2, "fog 1": 0, "pgd linf 8": 1}, 9)
    assert bad["raised"] and bad["value"] == 2
    assert "2 (clean), 1 (pgd linf 8) of 9 images are not finite" in bad["message"]
    weights = checks.of_outputs({"clean": 0}, 9, [np.ones(2), np.array([np.inf])])
    assert weights["raised"] and "1 of the model's 2 weights" in weights["message"]
