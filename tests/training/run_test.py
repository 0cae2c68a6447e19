"""Whole runs: their folder, resuming, and what is rejected before writing anything."""

import dataclasses
import json
import os
import signal

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import zoo
from inres_tf import class_names, files, layers
from inres_tf.distribution.classifier import Classifier
from inres_tf.errors import Stopped, UserError
from inres_tf.training import checkpoints, metrics_log, run, run_folder
from inres_tf.training.config import TrainConfig
from inres_tf.training.run import TrainingPipeline
from inres_tf.training.schedules import learning_rate


def build(name="in_resnet8", **kwargs):
    return lambda shape, classes: zoo.get_model(
        name, input_shape=shape, classes=classes, **kwargs
    )


def make_config(folder, **changes):
    settings = {
        "model": "in_resnet8",
        "epochs": 3,
        "batch_size": 128,
        "output_dir": str(folder),
        "verbose": 0,
    }
    return TrainConfig(**settings | changes)


def assert_same_weights(model, expected):
    assert len(model.weights) == len(expected.weights)
    for a, b in zip(model.get_weights(), expected.get_weights()):
        np.testing.assert_array_equal(a, b)


def without_times(history):
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in history]


def modification_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """An uninterrupted run of a damped network: (folder, result)."""
    folder = tmp_path_factory.mktemp("complete") / "run"
    config = make_config(folder, model="in_resnet20", epochs=4)
    return folder, run.train(config, build("in_resnet20"))


def test_run_learns_and_writes_its_folder(complete):
    folder, result = complete
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert [row["learning_rate"] for row in result.history] == pytest.approx(
        [0.1, 0.1, 0.01, 0.001]
    )
    assert metrics_log.read(folder / "metrics.jsonl") == result.history
    for row in result.history:
        rates = row["lambda"].values()
        assert len(rates) == 6 and row["dead_blocks"] == sum(r == 0 for r in rates)
    saved = json.loads((folder / "config.json").read_text())
    assert saved["flags"]["model"] == "in_resnet20" and saved["seed"] == 0
    assert saved["versions"]["tensorflow"] == tf.__version__
    assert {path.name for path in folder.iterdir()} == {
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


def test_run_writes_damping_rates_for_tensorboard(complete):
    folder = complete[0] / "tensorboard" / "train"
    tags = {
        value.tag
        for path in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"lambda/stage1_block2_merge", "epoch_loss", "epoch_learning_rate"} <= tags


class _InterruptAfter(keras.callbacks.Callback):
    """Sends a signal to this process after some steps, Ctrl-C by default."""

    def __init__(self, steps, number=signal.SIGINT):
        super().__init__()
        self.steps, self.number = steps, number

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("steps", "number"),
    [
        pytest.param(16, signal.SIGINT, id="within an epoch"),
        pytest.param(
            33, signal.SIGTERM, id="at the end of an epoch", marks=pytest.mark.long
        ),
        pytest.param(18, signal.SIGHUP, id="terminal closed", marks=pytest.mark.long),
    ],
)
def test_stopped_run_resumes_bit_for_bit(complete, steps, number, tmp_path):
    folder, (_, expected) = tmp_path / "run", complete
    config = make_config(folder, model="in_resnet20", epochs=4)
    cut = run.train(config, build("in_resnet20"), [_InterruptAfter(steps, number)])
    assert cut.interrupted == (number == signal.SIGINT)
    assert cut.preempted == (number != signal.SIGINT) and cut.model_path is None
    _, state = checkpoints.restore(cut.checkpoint)
    assert state["epoch"] == steps // 11 and state["step_in_epoch"] == steps % 11
    finished = expected.history[: steps // 11]
    assert without_times(state["history"]) == without_times(finished)
    best = max(finished, key=lambda row: row["val_accuracy"])
    assert state["best"]["val_accuracy"] == best["val_accuracy"]
    assert cut.checkpoint.name == f"checkpoint-{steps:08d}"
    assert not (folder / "model.keras").exists()
    with pytest.raises(Stopped, match="the same command resumes from it") as stop:
        run.stopped(cut)
    assert stop.value.code == (130 if number == signal.SIGINT else 75)

    keras.utils.set_random_seed(99)  # the global generators must not matter
    # Nor must the number of steps per execution.
    config = dataclasses.replace(config, steps_per_execution=4)
    resumed = run.train(config, build("in_resnet20"))
    assert not resumed.interrupted
    assert_same_weights(resumed.model, expected.model)
    assert without_times(resumed.history) == without_times(expected.history)
    assert metrics_log.read(folder / "metrics.jsonl") == resumed.history
    for a, b in zip(
        resumed.model.optimizer.variables, expected.model.optimizer.variables
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "strategy", ["one_device", pytest.param("mirrored", marks=pytest.mark.long)]
)
def test_noise_and_stochastic_depth_resume_bit_for_bit(strategy, tmp_path):
    """Their random states are restored, which Keras does not save."""
    build_random = build("en_resnet8", stochastic_depth=0.5, noise=0.1)
    complete, cut = (
        make_config(tmp_path / name, model="en_resnet8", epochs=2, strategy=strategy)
        for name in ("complete", "cut")
    )
    expected = run.train(complete, build_random)
    assert run.train(cut, build_random, [_InterruptAfter(13)]).interrupted
    keras.utils.set_random_seed(99)
    resumed = run.train(cut, build_random)
    assert without_times(resumed.history) == without_times(expected.history)
    assert_same_weights(resumed.model, expected.model)


def build_certified(shape, classes):
    """A network of damped convex potential blocks, whose constants are a = 1 - λ."""
    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 64)(inputs)
    for name in ("block1", "block2"):
        x = layers.ConvexPotentialConv2D(6, name=name)(x)
    unit = keras.constraints.UnitNorm(axis=0)
    head = keras.layers.Dense(classes, "softmax", kernel_constraint=unit, name="head")
    return keras.Model(inputs, head(keras.layers.Flatten()(x)))


def excess(model):
    """By which factors the blocks' bounds exceed a = 1 - λ."""
    blocks = [model.get_layer(name) for name in ("block1", "block2")]
    return [block.lipschitz_bound() / (1 - float(block.rate)) for block in blocks]


def test_certified_networks_resume_and_end_with_exact_bounds(tmp_path):
    """Those of the averaged weights; checkpoints keep the estimates of the norms."""
    settings = {"epochs": 2, "ema": 0.9, "objective": "margin", "augmentation": "none"}
    complete, cut = (make_config(tmp_path / name, **settings) for name in "ab")
    expected = run.train(complete, build_certified)
    loaded = keras.models.load_model(expected.model_path)
    assert_same_weights(loaded, expected.model)
    assert max(excess(loaded)) < 1 + 1e-5
    norms = np.linalg.norm(loaded.get_layer("head").kernel, axis=0)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)
    checkpoint, _ = checkpoints.restore(expected.checkpoint)
    assert max(excess(checkpoint)) > 1 + 1e-4

    assert run.train(cut, build_certified, [_InterruptAfter(13)]).interrupted
    resumed = run.train(cut, build_certified)
    assert without_times(resumed.history) == without_times(expected.history)
    assert_same_weights(resumed.model, expected.model)
    last, _ = checkpoints.restore(resumed.checkpoint)
    assert_same_weights(last, checkpoint)


def test_finished_run_is_left_unchanged(complete, capsys):
    folder, result = complete
    before = modification_times(folder)
    again = run.train(make_config(folder, model="in_resnet20", epochs=4), None)
    assert "is already finished" in capsys.readouterr().err
    assert again.history == result.history and not again.interrupted
    assert again.model_path == result.model_path
    assert_same_weights(again.model, result.model)
    assert modification_times(folder) == before


def test_same_seed_gives_the_same_weights(tmp_path):
    first, same, other = (
        run.train(make_config(tmp_path / str(i), epochs=1, seed=seed), build()).model
        for i, seed in enumerate((5, 5, 6))
    )
    assert_same_weights(first, same)
    assert np.abs(first.get_weights()[0] - other.get_weights()[0]).max() > 0.01


def test_settings_reach_the_step_and_the_optimiser(tmp_path, monkeypatch):
    """Settings without a visible effect on the result are observed where used."""
    options = {}
    make_step = run.make_step

    def spy(*args, **kwargs):
        options.update(kwargs)
        return make_step(*args, **kwargs)

    monkeypatch.setattr(run, "make_step", spy)
    config = make_config(
        tmp_path / "run",
        recipe="fast",
        epochs=1,
        learning_rate=0.03,
        momentum=0.8,
        ema=0.7,
        accumulate_steps=2,
        rematerialize=True,
        seed=4,
    )
    result = run.train(config, build())
    assert options == {
        "accumulate_steps": 2,
        "rematerialize": True,
        "plan_rates": False,
        "seed": 4,
    }
    optimizer = result.model.optimizer
    assert (optimizer.momentum, optimizer.nesterov) == (0.8, True)
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.7)
    schedule = learning_rate("cosine", 0.03, 11, 0.15)
    assert result.history[0]["learning_rate"] == pytest.approx(float(schedule(10)))


def test_validation_images_are_held_out_of_training(tmp_path, digits, monkeypatch):
    sizes = {}
    original = TrainingPipeline.__init__

    def spy(self, data, *args):
        sizes["training"] = len(data)
        original(self, data, *args)

    def metrics(self, data, prefix):
        sizes["validation"] = len(data)
        return {"val_loss": 0.0, "val_accuracy": 0.0}

    monkeypatch.setattr(TrainingPipeline, "__init__", spy)
    monkeypatch.setattr(Classifier, "metrics", metrics)
    config = make_config(tmp_path / "run", epochs=1, validation_fraction=0.25)
    run.train(config, build())
    assert sizes["training"] + sizes["validation"] == len(digits.train)
    assert sizes["validation"] == pytest.approx(len(digits.train) / 4, abs=5)


def test_folder_of_another_run_is_rejected(complete, tmp_path):
    folder, _ = complete
    before = modification_times(folder)
    same = make_config(folder, model="in_resnet20", epochs=4)
    with pytest.raises(UserError, match=r"already holds this run; use --resume to"):
        run.train(dataclasses.replace(same, resume=False), build("in_resnet20"))
    for resume in (False, True):
        other = dataclasses.replace(same, epochs=5, resume=resume)
        with pytest.raises(UserError, match=r"another run \(--epochs=4 there, 5 now\)"):
            run.train(other, build("in_resnet20"))
    assert modification_times(folder) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        run.train(make_config(tmp_path / "file"), build())


def test_folder_without_config_is_rejected(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"model")
    with pytest.raises(UserError, match="holds model.keras of a run without config"):
        run.train(make_config(tmp_path), build())
    assert (tmp_path / "model.keras").read_bytes() == b"model"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "cifar100", "data_dir": "missing"}, "not in --data_dir"),
        ({"batch_size": 10**6}, "--batch_size must be .*; got 1000000"),
        ({"strategy": "mirrored", "batch_size": 33}, "not a multiple of the 2 devices"),
        ({"accumulate_steps": 3}, "--accumulate_steps must divide the 128 .*; got 3"),
        (
            {"model": "resnet20", "lambda_schedule": "fixed:0.5"},
            "needs damped blocks .*; resnet20 has none",
        ),
        (
            {"model": "in_resnet8", "lambda_schedule": "fixed:0.5"},
            "needs damped blocks .*; in_resnet8 has none",
        ),
    ],
)
def test_nothing_is_written_for_invalid_settings(changes, message, tmp_path):
    config = make_config(tmp_path / "run", **changes)
    with pytest.raises(UserError, match=message):
        run.train(config, build(config.model))
    assert not (tmp_path / "run").exists()


def write_digits(folder, part, number, names):
    """Writes the first images of each class into a folder of its own."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(part.images[part.labels == label][:number]):
            PIL.Image.fromarray(image[..., 0]).save(folder / name / f"{i}.png")


def test_a_run_is_resumed_on_its_own_images_only(tmp_path, digits, capsys, monkeypatch):
    photos, folder = tmp_path / "photos", tmp_path / "run"
    for split, part in (("train", digits.train), ("test", digits.test)):
        write_digits(photos / split, part, 4, ("one", "two"))
    monkeypatch.chdir(tmp_path)

    def train(dataset=f"folder:{photos}", **changes):
        settings = {"model": "plain8", "epochs": 1, "batch_size": 4} | changes
        return run.train(
            make_config(folder, dataset=dataset, **settings), build("plain8")
        )

    model = train().model
    assert model.class_names == ("one", "two")
    assert class_names.read(folder / "model.keras") == ("one", "two")
    (newest,) = checkpoints.list_checkpoints(folder / "checkpoints")
    assert class_names.read(newest / "model.keras") == ("one", "two")
    config = json.loads((folder / "config.json").read_text())
    assert config["class_names"] == ["one", "two"]
    assert config["images"]["training"]["number"] == 8
    assert len(train("folder:photos/").history) == 1  # the same under another path

    # Only an unfinished run needs the same validation images.
    write_digits(photos / "test", digits.test, 5, ("one",))
    capsys.readouterr()
    assert len(train().history) == 1
    assert "come from other images" in capsys.readouterr().err
    (folder / "model.keras").rename(tmp_path / "model.keras")
    with pytest.raises(UserError, match=r"validation images of the run .* 8 .* 9 "):
        train()
    (tmp_path / "model.keras").rename(folder / "model.keras")
    write_digits(photos / "train", digits.train, 5, ("one",))
    with pytest.raises(UserError, match=r"training images of the run .* 8 .* 9 "):
        train()
    for split in ("train", "test"):
        (photos / split / "two").rename(photos / split / "2")
    with pytest.raises(UserError, match="differ: one, two and 2, one"):
        train()


def test_epochs_of_a_resumed_run_keep_their_number_of_steps():
    """Also of runs whose config.json does not tell which images they are of."""
    history = [{"epoch": 1, "step": 10}, {"epoch": 2, "step": 20}]
    run_folder.check_steps([], 7)
    run_folder.check_steps(history, 10)
    with pytest.raises(UserError, match="took 10 steps in each epoch, .* now give 7"):
        run_folder.check_steps(history, 7)


def test_a_folder_in_use_is_refused(tmp_path):
    with files.lock(tmp_path / "run"):
        with pytest.raises(UserError, match="run is in use by process"):
            run.train(make_config(tmp_path / "run"), build())
        assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]


def test_runs_of_train_and_reproduce_do_not_share_a_folder(tmp_path):
    one, several = {"model": "plain8", "epochs": 1}, {"models": [], "epochs": 1}
    for number, (there, now) in enumerate([(one, several), (several, one)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        run_folder.write_config(folder, there, 0)
        with pytest.raises(UserError, match="run of another program"):
            run_folder.check_folder(folder, now, resume=True, defaults=one | several)


def test_output_folders_that_cannot_be(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match="link is a link to nowhere, which does not"):
        run_folder.check_folder(tmp_path / "link", {}, resume=True)
    with pytest.raises(UserError, match=r"run.udcff' is not UTF-8"):
        run_folder.check_folder(tmp_path / "run\udcff", {}, resume=True)


def test_a_finished_run_with_a_damaged_model_says_how_to_restore_it(tmp_path):
    config = make_config(tmp_path / "run", model="plain8", epochs=1, batch_size=512)
    model = run.train(config, build("plain8")).model
    (tmp_path / "run" / "model.keras").write_bytes(b"PK")
    with pytest.raises(UserError, match="; delete .*model.keras, and the same command"):
        run.train(config, build("plain8"))
    (tmp_path / "run" / "model.keras").unlink()
    assert_same_weights(run.train(config, build("plain8")).model, model)
