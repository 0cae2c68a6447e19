"""The compiled step: its update, and options that must not change it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from inres_tf import layers
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.strategy import make_strategy
from inres_tf.layers import BatchNormalization, DampedAdd, UniformNoise
from inres_tf.models import random_state
from inres_tf.models.logits import logits_fn
from inres_tf.training import step, weight_averaging
from inres_tf.training.objectives import Objective
from inres_tf.training.objectives.registry import OBJECTIVES
from inres_tf.training.rematerialization import rematerialized


def small(batch_norm=True, **options):
    """A network of two damped blocks, which compiles quickly."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem_conv")(x)
    for i in range(2):
        branch = x
        if batch_norm:
            branch = BatchNormalization(momentum=0.9, name=f"bn{i}")(x)
        branch = keras.layers.ReLU()(branch)
        branch = keras.layers.Conv2D(8, 3, padding="same")(branch)
        x = DampedAdd("in", name=f"merge{i}")([x, branch])
        if options:
            x = keras.layers.Dropout(options["dropout"])(x)
            x = UniformNoise(0.1)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="predictions")(x))


def without_batch_norm():
    """A network whose loss is a mean over images, each independent of the others."""
    return small(batch_norm=False)


def assert_close(model, other, **tolerance):
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.fixture(scope="module")
def plain(make_trainer):
    """Four steps with default options: (rows, model, initial weights)."""
    trainer = make_trainer(small)
    before = trainer.model.get_weights()
    return trainer.run(4), trainer.model, before


def test_step_is_momentum_sgd_with_coupled_weight_decay(digits, make_trainer):
    """Compares two steps on a linear model with the update in NumPy."""
    rate, momentum, decay = 0.1, 0.9, 0.05

    def linear():
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))

    trainer = make_trainer(
        linear,
        optimizer=lambda: keras.optimizers.SGD(rate, momentum),
        decay=decay,
        batch_size=32,
    )
    kernel, bias = (v.astype(np.float64) for v in trainer.model.get_weights())
    velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
    pipeline = TrainingPipeline(digits.train, 32, "none", seed=0)
    for images, labels in pipeline.batches(0).take(2).as_numpy_iterator():
        pixels = images.reshape(32, -1) / 255
        scores = pixels @ kernel + bias
        p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        target = np.eye(10)[labels]
        ((loss, correct, *_),) = trainer.run()
        assert loss == pytest.approx(-np.log((p * target).sum(-1)).mean(), rel=1e-5)
        assert correct == (p.argmax(-1) == labels).sum()
        gradients = (
            pixels.T @ (p - target) / 32 + decay * kernel,
            (p - target).mean(0) + decay * bias,
        )
        velocity = [momentum * v - rate * g for v, g in zip(velocity, gradients)]
        kernel, bias = kernel + velocity[0], bias + velocity[1]
    for weight, expected in zip(trainer.model.get_weights(), (kernel, bias)):
        np.testing.assert_allclose(weight, expected, atol=2e-6)


def test_weight_decay_reaches_every_trainable_variable(make_trainer):
    """If the loss is exactly 0, so that it has no gradient, every variable shrinks."""
    trainer = make_trainer(
        small, optimizer=lambda: keras.optimizers.SGD(1.0), decay=0.25
    )
    trainer.model.get_layer("predictions").kernel.assign(tf.zeros((8, 10)))
    trainer.model.get_layer("predictions").bias.assign([1e6] + [0.0] * 9)
    before = [v.numpy() for v in trainer.model.trainable_variables]
    images = tf.zeros((4, 8, 8, 1), tf.uint8)
    data = tf.data.Dataset.from_tensors((images, tf.zeros(4, tf.int64)))
    trainer.batches = iter(trainer.strategy.experimental_distribute_dataset(data))
    assert trainer.run()[0, 0] == 0.0
    for initial, variable in zip(before, trainer.model.trainable_variables):
        np.testing.assert_allclose(variable, 0.75 * initial, rtol=1e-6)


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_several_steps_at_once_equal_single_steps(make_trainer, plain, strategy):
    trainer = make_trainer(small, strategy=strategy)
    rows = np.concatenate([trainer.run(3), trainer.run(1)])
    tolerance = 0 if strategy == "one_device" else 1e-3
    np.testing.assert_allclose(rows[:, 0], plain[0][:, 0], rtol=tolerance)
    assert_close(trainer.model, plain[1], rtol=tolerance, atol=tolerance)


def test_two_replicas_equal_one_device(make_trainer, plain):
    trainer = make_trainer(small, strategy="mirrored")
    assert trainer.strategy.num_replicas_in_sync == 2
    rows = trainer.run(4)
    np.testing.assert_allclose(rows[:, 0], plain[0][:, 0], rtol=1e-4)
    moved = np.abs(plain[1].get_weights()[0] - plain[2][0]).max()
    assert moved > 1e-3
    assert_close(trainer.model, plain[1], rtol=1e-3, atol=1e-5)


def test_rematerialisation_does_not_change_steps(make_trainer, plain):
    trainer = make_trainer(small, rematerialize=True)
    rows = trainer.run(4)
    np.testing.assert_allclose(rows, plain[0], rtol=1e-5)
    assert_close(trainer.model, plain[1], rtol=1e-3, atol=1e-5)


def test_rematerialised_blocks_are_recomputed():
    """Each of the three convolutions runs in the forward and in the backward pass."""
    counts = {}
    for computing in (None, rematerialized):
        model = small()
        logits = logits_fn(model, computing)

        @tf.function
        def gradients(images, model=model, logits=logits):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(logits(images, training=True))
            return tape.gradient(loss, model.trainable_variables)

        graph = gradients.get_concrete_function(tf.TensorSpec((4, 8, 8, 1))).graph
        counts[computing] = sum(op.type == "Conv2D" for op in graph.get_operations())
    assert counts == {None: 3, rematerialized: 6}


@pytest.mark.parametrize(
    "strategy", ["one_device", pytest.param("mirrored", marks=pytest.mark.long)]
)
def test_rematerialised_random_layers_draw_once(make_trainer, strategy):
    """Both passes use the same masks, and the random states advance once."""

    def build():
        return small(dropout=0.3)

    a, b = (make_trainer(build, strategy=strategy, rematerialize=r) for r in (0, 1))
    np.testing.assert_allclose(b.run(3), a.run(3), rtol=1e-4)
    assert_close(b.model, a.model, rtol=1e-3, atol=1e-4)
    for x, y in zip(
        random_state.random_states(a.model),
        random_state.random_states(b.model),
        strict=True,
    ):
        np.testing.assert_array_equal(x.numpy(), y.numpy())


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_accumulated_parts_equal_the_whole_step(make_trainer, strategy):
    whole = make_trainer(without_batch_norm)
    parts = make_trainer(without_batch_norm, strategy, accumulate_steps=4)
    np.testing.assert_allclose(parts.run(3), whole.run(3), rtol=1e-5)
    assert_close(parts.model, whole.model, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_every_step_part_and_replica_has_its_own_seed(
    make_trainer, strategy, monkeypatch
):
    seeds = []

    class Spy(Objective):
        def inputs(self, logits_of, images, labels, seed):
            seed = tf.numpy_function(
                lambda value: seeds.append(tuple(value)) or value, [seed], tf.int32
            )
            seed = tf.ensure_shape(seed, (2,))
            return tf.cast(images, tf.float32) + 0 * tf.cast(seed[0], tf.float32)

    monkeypatch.setitem(OBJECTIVES, "noise", Spy)
    options = {"objective": "noise", "accumulate_steps": 2, "seed": 5}
    trainer = make_trainer(without_batch_norm, strategy, **options)
    trainer.run(3)
    expected = 3 * 2 * trainer.strategy.num_replicas_in_sync
    assert len(seeds) == len(set(seeds)) == expected


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_signals_are_summed_over_replicas(make_trainer, strategy):
    trainer = make_trainer(without_batch_norm, strategy)
    replicas = trainer.strategy.num_replicas_in_sync
    assert trainer.run(signals=(1.0, 0.0))[0, 2:].tolist() == [replicas, 0.0]
    assert trainer.run(signals=(0.0, 1.0))[0, 2:].tolist() == [0.0, replicas]


def test_planned_damping_rates_are_not_trained(make_trainer):
    """While λ is planned, gradient, weight decay and momentum do not change k."""
    trainer = make_trainer(small, plan_rates=True)
    trainer.run(2)
    layers.set_damping_rates(trainer.model, 0.3)
    (_, first), *_ = layers.damped_layers(trainer.model)
    momentum = next(
        v
        for v in trainer.model.optimizer.variables
        if v.path.endswith(f"{first.name}_k_momentum")
    )
    momentum.assign(0.0)
    before = layers.damping_rates(trainer.model)
    kernel = trainer.model.get_layer("stem_conv").kernel.numpy()
    trainer.run(2, learn=0.0)
    assert layers.damping_rates(trainer.model)[first.name] == before[first.name]
    assert np.abs(trainer.model.get_layer("stem_conv").kernel - kernel).max() > 1e-4
    trainer.run(1, learn=1.0)
    assert layers.damping_rates(trainer.model)[first.name] != before[first.name]


def values_on_replicas(variable):
    return [value.numpy() for value in variable.value.values]


def test_unsynchronised_statistics_diverge_and_are_averaged(make_trainer):
    trainer = make_trainer(small, strategy="mirrored", synchronized=False)
    trainer.run(3)
    mean = trainer.model.get_layer("bn1").moving_mean
    first, second = values_on_replicas(mean)
    assert np.abs(first - second).max() > 1e-4
    trainer.average_replicas()
    for value in values_on_replicas(mean):
        np.testing.assert_allclose(value, (first + second) / 2, rtol=1e-6)


def test_synchronised_statistics_are_the_same_on_all_replicas(make_trainer):
    trainer = make_trainer(small, strategy="mirrored")
    trainer.run(3)
    first, second = values_on_replicas(trainer.model.get_layer("bn1").moving_mean)
    np.testing.assert_array_equal(first, second)


def test_spread_seeds_makes_replicas_draw_different_masks():
    strategy = make_strategy(StrategyConfig(strategy="mirrored"))
    with strategy.scope():
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5)])
    apply = tf.function(
        lambda: strategy.run(lambda: model(tf.ones((1, 64)), training=True))
    )
    first, second = (value.numpy() for value in apply().values)
    np.testing.assert_array_equal(first, second)
    step.spread_seeds(model, strategy)
    first, second = (value.numpy() for value in apply().values)
    assert 10 < (first != second).sum() < 54


def test_averaged_weights_replaces_the_weights_within_its_context(make_trainer):
    """With decay 0.5, over three steps."""
    trainer = make_trainer(
        small,
        optimizer=lambda: keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5),
    )
    kernel = trainer.model.get_layer("stem_conv").kernel
    values = []
    for _ in range(3):
        trainer.run()
        values.append(kernel.numpy())
    with weight_averaging.averaged_weights(trainer.model):
        expected = 0.25 * values[0] + 0.25 * values[1] + 0.5 * values[2]
        np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(kernel, values[2])
    assert np.abs(expected - values[2]).max() > 1e-3


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_close_to_float32_and_has_float32_weights(
    make_trainer, name, set_policy
):
    full = make_trainer(small)
    set_policy(name)

    def optimizer():
        optimizer = keras.optimizers.SGD(0.01, 0.9)
        if name == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        return optimizer

    half = make_trainer(small, optimizer=optimizer)
    losses, half_losses = full.run(4)[:, 0], half.run(4)[:, 0]
    np.testing.assert_allclose(half_losses, losses, rtol=0.05)
    assert half_losses[0] != losses[0]
    assert all(v.dtype == "float32" for v in half.model.trainable_variables)
    kernel = half.model.get_layer("stem_conv").kernel
    np.testing.assert_allclose(
        kernel, full.model.get_layer("stem_conv").kernel, atol=0.02
    )


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_overflow_skips_the_step_on_all_replicas(make_trainer, strategy):
    """The gradients are non-finite on the last replica only."""

    def optimizer():
        inner = keras.optimizers.SGD(0.01, 0.9)
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=1024.0)

    trainer = make_trainer(without_batch_norm, strategy, optimizer)
    optimizer, finite_batches = trainer.model.optimizer, trainer.batches
    replicas = trainer.strategy.num_replicas_in_sync

    def make_nan_batch(context):
        pixels = np.full((replicas, 4, 8, 8, 1), 7, np.float32)
        pixels[-1] = np.nan
        labels = np.zeros((replicas, 4), np.int64)
        return tf.data.Dataset.from_tensor_slices((pixels, labels))

    trainer.batches = iter(
        trainer.strategy.distribute_datasets_from_function(make_nan_batch)
    )
    before = trainer.model.get_weights()
    trainer.run()
    for initial, weight in zip(before, trainer.model.get_weights()):
        np.testing.assert_array_equal(weight, initial)
    assert optimizer.dynamic_scale.numpy() == 512.0
    trainer.batches = finite_batches
    trainer.run()
    assert np.abs(before[0] - trainer.model.get_weights()[0]).max() > 0


def test_loss_scaling_does_not_change_steps(make_trainer):
    plain = make_trainer(without_batch_norm)

    def optimizer():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01, 0.9))

    scaled = make_trainer(without_batch_norm, optimizer=optimizer)
    np.testing.assert_allclose(scaled.run(3), plain.run(3), rtol=1e-6)
    assert_close(scaled.model, plain.model, rtol=1e-5, atol=1e-7)


def test_replicas_stay_equal_with_accumulated_steps(make_trainer):
    """They synchronise the statistics of the parts in the same order."""
    trainer = make_trainer(small, strategy="mirrored", accumulate_steps=4)
    rows = trainer.run(8)
    assert rows[-1, 0] < rows[0, 0]
    for variable in trainer.model.weights:
        first, second = values_on_replicas(variable)
        np.testing.assert_array_equal(first, second)
