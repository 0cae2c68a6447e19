import keras
import numpy as np
import pytest

from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.registry import OBJECTIVES, make_objective
from inres_tf.training.run import final_metrics


def make(name):
    return make_objective(ObjectiveConfig(objective=name))


def test_pgd_accuracy_of_a_linear_model(rng):
    """Images are robust if their margin exceeds eps times the L1 norm of w."""
    w = np.array([[1.0, -1.0], [-2.0, 0.5], [0.3, 0.1], [-0.2, 0.4]]) / 100
    images = rng.integers(60, 190, (200, 2, 2, 1)).astype(np.uint8)
    difference = w[:, 1] - w[:, 0]
    scores = images.reshape(-1, 4) @ difference
    median = np.median(scores)
    scores, labels = scores - median, (scores > median).astype(int)
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.layers[-1].set_weights([w, np.array([0, -median])])
    expected = (np.abs(scores) > 8 * np.abs(difference).sum()).mean()
    assert 0.2 < expected < 0.8
    metrics = make("fgsm").metrics(model, images, labels)
    assert metrics == {"pgd_accuracy": pytest.approx(expected, abs=1e-9)}
    assert make("pgd").metrics(model, images, labels) == {}


class Run:
    """A run whose weights, batch statistics included, all equal the current epoch."""

    def __init__(self, history=()):
        self.model = keras.Sequential(
            [keras.Input((3,)), keras.layers.BatchNormalization()]
        )
        self.model.compile(keras.optimizers.SGD(use_ema=True))
        self.model.optimizer.build(self.model.trainable_variables)
        self.epoch, self.history = len(history), list(history)
        self._set_weights(self.epoch)
        [self.callback] = make("fgsm").callbacks(self.history)
        self.callback.set_model(self.model)
        self.model.stop_training = False
        self.callback.on_train_begin()

    @property
    def _variables(self):
        averages = self.model.optimizer._model_variables_moving_average
        return (*self.model.weights, *averages)

    def _set_weights(self, value):
        for variable in self._variables:
            variable.assign(np.full(variable.shape, value))

    def end_epoch(self, accuracy):
        self._set_weights(self.epoch + 1)
        self.history.append({"epoch": self.epoch + 1, "pgd_accuracy": accuracy})
        self.callback.on_epoch_end(self.epoch, {"pgd_accuracy": accuracy})
        self.epoch += 1

    @property
    def epoch_of_weights(self):
        [value] = {float(v) for variable in self._variables for v in variable.numpy()}
        return value


def make_history(*accuracies):
    return [{"epoch": i + 1, "pgd_accuracy": a} for i, a in enumerate(accuracies)]


def test_drop_stops_training_and_restores_the_weights(capsys):
    run = Run()
    for accuracy in (0.3, 0.5, 0.35):
        run.end_epoch(accuracy)
        assert not run.model.stop_training and run.epoch_of_weights == run.epoch
    assert capsys.readouterr().err == ""
    run.end_epoch(0.02)
    assert run.model.stop_training and run.epoch_of_weights == 3
    reverted = [row["epoch"] for row in run.history if row.get("reverted")]
    assert reverted == [4]
    assert final_metrics(run.history)["epoch"] == 3
    assert capsys.readouterr().err == (
        "Catastrophic overfitting: the PGD accuracy dropped from 50.0% to 2.0% in "
        "epoch 4; training stops with the weights of epoch 3.\n"
    )


def test_drop_is_measured_from_the_best_epoch():
    run = Run()
    for accuracy in (0.5, 0.31, 0.3):  # the last is exactly 0.2 below
        run.end_epoch(accuracy)
    assert not run.model.stop_training
    run.end_epoch(0.29)
    assert run.model.stop_training and run.epoch_of_weights == 3


def test_resumed_run_knows_the_best_accuracy_and_the_weights():
    run = Run(make_history(0.5, 0.4))
    assert not run.model.stop_training
    run.end_epoch(0.25)
    assert run.model.stop_training and run.epoch_of_weights == 2


def test_resumed_run_that_had_stopped_stays_stopped(capsys):
    """Its checkpoint holds the restored weights, which do not change."""
    run = Run(make_history(0.5, 0.4, 0.1))
    assert run.model.stop_training and run.epoch_of_weights == 3
    assert "with the weights of epoch 2" in capsys.readouterr().err


def test_only_fgsm_checks_for_catastrophic_overfitting():
    for name in OBJECTIVES:
        assert len(make(name).callbacks([])) == (name == "fgsm")
