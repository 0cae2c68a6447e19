import dataclasses
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf.errors import Stopped, UserError
from inres_tf.training import checkpoints, metrics_log, run, schedules
from inres_tf.training.callbacks import ResumableEarlyStopping
from inres_tf.training.config import TrainConfig
from inres_tf.training.loop import Classifier
from inres_tf.training.run import TrainingPipeline


def build(name="in_resnet8", **kwargs):
    return lambda shape, classes: zoo.get_model(
        name, input_shape=shape, classes=classes, **kwargs
    )


def config(folder, **changes):
    settings = {
        "model": "in_resnet8",
        "epochs": 3,
        "batch_size": 128,
        "output_dir": str(folder),
        "verbose": 0,
    }
    return TrainConfig(**settings | changes)


def assert_same_weights(a, b, **tolerance):
    assert len(a.weights) == len(b.weights)
    for x, y in zip(a.get_weights(), b.get_weights()):
        np.testing.assert_allclose(x, y, **tolerance or {"rtol": 0, "atol": 0})


def without_times(history):
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of a damped network."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    settings = config(folder, model="in_resnet20", epochs=4)
    return folder, run.train(settings, build("in_resnet20"))


def test_a_run_learns_and_leaves_its_folder(whole):
    folder, result = whole
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert metrics_log.read(folder / "metrics.jsonl") == result.history
    for row in result.history:
        rates = row["lambda"].values()
        assert len(rates) == 6 and row["dead_blocks"] == sum(r == 0 for r in rates)
    kept = json.loads((folder / "config.json").read_text())
    assert kept["flags"]["model"] == "in_resnet20" and kept["seed"] == 0
    assert kept["versions"]["tensorflow"] == tf.__version__
    assert {p.name for p in folder.iterdir()} == {
        "checkpoints",
        "config.json",
        "curves.png",
        "lambda.png",
        "metrics.jsonl",
        "model.keras",
        "tensorboard",
    }
    assert len(checkpoints.list_checkpoints(folder / "checkpoints")) == 2
    loaded = keras.models.load_model(folder / "model.keras")
    assert_same_weights(loaded, result.model)
    assert int(loaded.optimizer.iterations.numpy()) == 4 * 11


def test_tensorboard_shows_the_rates(whole):
    folder = whole[0] / "tensorboard" / "train"
    tags = {
        value.tag
        for path in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"lambda/stage1_block2_merge", "epoch_loss", "epoch_learning_rate"} <= tags


def test_learning_rate_falls_at_half_and_three_quarters(whole):
    assert [row["learning_rate"] for row in whole[1].history] == pytest.approx(
        [0.1, 0.1, 0.01, 0.001]
    )
    schedule = schedules.learning_rate("step", 0.1, 160 * 390)
    at = [80 * 390 - 1, 80 * 390, 120 * 390 - 1, 120 * 390, 160 * 390]
    rates = [float(schedule(step)) for step in at]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])


def test_reported_metrics_are_the_models(whole, digits):
    result = whole[1]
    probabilities = result.model.predict(digits.test.images, verbose=0)
    accuracy = (probabilities.argmax(-1) == digits.test.labels).mean()
    chosen = probabilities[np.arange(len(digits.test)), digits.test.labels]
    assert result.history[-1]["val_accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert result.history[-1]["val_loss"] == pytest.approx(
        -np.log(chosen).mean(), rel=1e-3
    )


class _InterruptAt(keras.callbacks.Callback):
    """Sends a signal after some steps, Ctrl-C by default, as a user would."""

    def __init__(self, steps, number=signal.SIGINT):
        super().__init__()
        self.steps, self.number = steps, number

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("steps", "number"),
    [(16, signal.SIGINT), (33, signal.SIGTERM)],
    ids=["within an epoch", "at its end"],
)
def test_stopped_and_resumed_is_bit_for_bit_the_same(whole, steps, number, tmp_path):
    settings = config(tmp_path / "run", model="in_resnet20", epochs=4)
    cut = run.train(settings, build("in_resnet20"), [_InterruptAt(steps, number)])
    assert cut.interrupted == (number == signal.SIGINT)
    assert cut.preempted == (number == signal.SIGTERM) and cut.model_path is None
    _, state = checkpoints.restore(cut.checkpoint)
    assert state["epoch"] == steps // 11 and state["step_in_epoch"] == steps % 11
    done = whole[1].history[: steps // 11]
    assert without_times(state["history"]) == without_times(done)
    best = max(done, key=lambda row: row["val_accuracy"])
    assert state["best"]["val_accuracy"] == best["val_accuracy"]
    assert cut.checkpoint.name == f"checkpoint-{steps:08d}"
    assert not (tmp_path / "run" / "model.keras").exists()
    with pytest.raises(Stopped, match="the same command again goes on") as caught:
        run.stopped(cut)
    assert caught.value.code == {signal.SIGINT: 130, signal.SIGTERM: 75}[number]

    keras.utils.set_random_seed(99)  # nothing may hang on the global generators
    # However many steps run at a time.
    settings = dataclasses.replace(settings, steps_per_execution=4)
    resumed = run.train(settings, build("in_resnet20"))
    assert not resumed.interrupted
    assert_same_weights(resumed.model, whole[1].model)
    assert without_times(resumed.history) == without_times(whole[1].history)
    assert metrics_log.read(tmp_path / "run" / "metrics.jsonl") == resumed.history
    for a, b in zip(
        resumed.model.optimizer.variables, whole[1].model.optimizer.variables
    ):
        np.testing.assert_array_equal(a, b)


def test_a_finished_run_is_left_as_it_is(whole, capsys):
    folder, result = whole
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    again = run.train(config(folder, model="in_resnet20", epochs=4), None)
    assert "is finished already" in capsys.readouterr().err
    assert again.history == result.history and not again.interrupted
    assert again.model_path == result.model_path
    assert_same_weights(again.model, result.model)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize(
    "strategy", ["one_device", pytest.param("mirrored", marks=pytest.mark.long)]
)
def test_noise_and_stochastic_depth_resume_bit_for_bit(strategy, tmp_path):
    """Their random numbers go on where they were; Keras does not save that."""
    random = build("en_resnet8", stochastic_depth=0.5, noise=0.1)
    whole, cut = (
        config(tmp_path / name, model="en_resnet8", epochs=2, strategy=strategy)
        for name in ("whole", "cut")
    )
    expected = run.train(whole, random)
    assert run.train(cut, random, [_InterruptAt(13)]).interrupted
    keras.utils.set_random_seed(99)
    resumed = run.train(cut, random)
    assert without_times(resumed.history) == without_times(expected.history)
    assert_same_weights(resumed.model, expected.model)


def test_seed_decides(tmp_path):
    runs_ = [
        run.train(config(tmp_path / str(i), epochs=1, seed=seed), build()).model
        for i, seed in enumerate((5, 5, 6))
    ]
    assert_same_weights(runs_[0], runs_[1])
    assert np.abs(runs_[0].get_weights()[0] - runs_[2].get_weights()[0]).max() > 0.01


def test_not_a_finite_loss_stops_the_run_at_the_step(tmp_path):
    with pytest.raises(
        UserError, match=r"loss became .* at step \d+ \(epoch 1, step \d+\)"
    ):
        run.train(config(tmp_path / "run", learning_rate=1e18), build())
    assert not (tmp_path / "run" / "model.keras").exists()


def test_not_a_finite_validation_loss_leaves_no_model(tmp_path, digits):
    """One step an epoch, whose own loss is from before the update that diverges."""
    settings = config(
        tmp_path / "run", epochs=2, batch_size=len(digits.train), learning_rate=1e38
    )
    with pytest.raises(UserError, match=r"validation loss became .* step 1 \(epoch 1"):
        run.train(settings, build())
    assert not list((tmp_path / "run").rglob("*.keras"))


def test_mirrored_run_is_the_run_on_one_device(tmp_path):
    """Over five steps: later, rounding grows at kinks of ReLU."""
    settings = {"epochs": 1, "batch_size": 256, "learning_rate": 0.02}
    one, two = (
        run.train(config(tmp_path / name, strategy=name, **settings), build())
        for name in ("one_device", "mirrored")
    )
    for key in ("loss", "val_loss"):
        assert two.history[0][key] == pytest.approx(one.history[0][key], rel=1e-4)
    assert_same_weights(two.model, one.model, rtol=1e-2, atol=1e-3)
    loaded = keras.models.load_model(two.model_path)
    assert not loaded.get_layer("head_bn").synchronized


def test_work_without_its_config_is_left_alone(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"mine")
    with pytest.raises(UserError, match="holds model.keras of a run without config"):
        run.train(config(tmp_path), build())
    assert (tmp_path / "model.keras").read_bytes() == b"mine"


def test_early_stopping_resumes_where_it_was(tmp_path, monkeypatch):
    """With the validation loss growing every epoch, patience 3 ends after epoch 4."""
    values = iter(range(100))
    monkeypatch.setattr(
        Classifier,
        "metrics",
        lambda self, data, prefix: {
            "val_loss": float(next(values)),
            "val_accuracy": 0.5,
        },
    )
    settings = config(
        tmp_path / "run", epochs=9, validation_fraction=0.1, early_stopping=3
    )
    result = run.train(settings, build())
    assert len(result.history) == 4 and not result.interrupted

    callback = ResumableEarlyStopping(result.history[:2], patience=3)
    callback.set_model(result.model)
    callback.on_train_begin()
    assert callback.wait == 1 and callback.best == 0.0


def test_validation_images_are_held_out_of_training(tmp_path, digits, monkeypatch):
    seen = {}
    original = TrainingPipeline.__init__

    def spy(self, data, *args):
        seen["training"] = len(data)
        original(self, data, *args)

    monkeypatch.setattr(TrainingPipeline, "__init__", spy)
    monkeypatch.setattr(
        Classifier,
        "metrics",
        lambda self, data, prefix: (
            seen.update(validation=len(data)) or {"val_loss": 0.0, "val_accuracy": 0.0}
        ),
    )
    run.train(config(tmp_path / "run", epochs=1, validation_fraction=0.25), build())
    assert seen["training"] + seen["validation"] == len(digits.train)
    assert seen["validation"] == pytest.approx(len(digits.train) / 4, abs=5)


def test_folder_of_another_run_is_left_alone(whole, tmp_path):
    folder, _ = whole
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    same = config(folder, model="in_resnet20", epochs=4)
    with pytest.raises(UserError, match=r"already holds this run; --resume goes on"):
        run.train(dataclasses.replace(same, resume=False), build("in_resnet20"))
    for resume in (False, True):
        with pytest.raises(UserError, match=r"another run \(--epochs=4 there, 5 now\)"):
            run.train(
                dataclasses.replace(same, epochs=5, resume=resume), build("in_resnet20")
            )
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        run.train(config(tmp_path / "file"), build())


def test_nothing_is_written_before_the_arguments_are_right(tmp_path):
    folder = tmp_path / "run"
    for change, message in (
        ({"dataset": "cifar100", "data_dir": str(tmp_path)}, "not in --data_dir"),
        ({"batch_size": 10**6}, "batch size 1000000"),
        ({"strategy": "mirrored", "batch_size": 33}, "not a multiple of the 2 devices"),
    ):
        with pytest.raises(UserError, match=message):
            run.train(config(folder, **change), build())
    assert not folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "--epochs must be from 1 to 1000000; got 0"),
        ({"learning_rate": float("nan")}, "--learning_rate must be positive; got nan"),
        ({"momentum": 1.0}, r"--momentum must be in \[0, 1\)"),
        ({"weight_decay": -1.0}, "--weight_decay must be at least 0"),
        ({"early_stopping": 3}, "--early_stopping needs --validation_fraction"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_wrong_settings(change, message):
    with pytest.raises(UserError, match=message):
        config("unused", **change)


def test_folder_of_a_run_has_a_default():
    for dataset, name in (("cifar10", "cifar10"), ("folder:/data/pets/", "pets")):
        settings = TrainConfig(model="plain8", dataset=dataset, seed=3)
        assert settings.output_dir == f"runs/plain8-{name}-seed3"
