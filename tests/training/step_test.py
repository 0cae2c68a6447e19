"""The compiled step: its update, and what must not change it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from inres_tf import layers
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.distribution import workers
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.strategy import make_strategy
from inres_tf.errors import UserError
from inres_tf.layers import BatchNormalization, DampedAdd, UniformNoise
from inres_tf.models import random_state
from inres_tf.models.logits import logits_fn
from inres_tf.training import schedules, step, weight_averaging
from inres_tf.training.objectives import Objective
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.registry import OBJECTIVES, make_objective
from inres_tf.training.rematerialization import rematerialized
from inres_tf.training.schedules import LambdaSchedule


def small(batch_norm=True, **options):
    """Two damped blocks, of which little has to be compiled."""
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
    """A network whose loss is a mean over images and nothing else."""
    return small(batch_norm=False)


class Steps:
    """A network under training, a step at a time, on digits."""

    def __init__(
        self,
        digits,
        model=None,
        strategy="one_device",
        optimizer=None,
        decay=1e-2,
        batch_size=64,
        synchronized=True,
        objective="clean",
        **options,
    ):
        self.strategy = make_strategy(StrategyConfig(strategy=strategy))
        with self.strategy.scope():
            keras.utils.set_random_seed(3)
            self.model = (model or small)()
            optimizer = optimizer or (lambda: keras.optimizers.SGD(0.01, 0.9))
            self.model.compile(optimizer(), auto_scale_loss=False)
            self.model.optimizer.build(self.model.trainable_variables)
            several = self.strategy.num_replicas_in_sync > 1
            step.synchronize_batch_norm(self.model, several and synchronized)
            self.agree = workers.replica_averaging(step.batch_statistics(self.model))
        config = ObjectiveConfig(objective=objective)
        self.step = step.make_step(
            self.model, self.strategy, make_objective(config), decay, **options
        )
        pipeline = TrainingPipeline(digits.train, batch_size, "none", seed=0)
        self.batches = iter(
            self.strategy.distribute_datasets_from_function(
                lambda context: pipeline.batches(0, 0, context)
            )
        )
        self.done = 0

    def run(self, count=1, learn=1.0, told=(0.0, 0.0)):
        """Rows of so many steps."""
        rows = self.step(
            self.batches,
            tf.constant(count),
            tf.constant(self.done),
            tf.constant(learn),
            tf.constant(told),
        ).numpy()
        self.done += count
        return rows


def assert_close(model, other, **tolerance):
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.fixture(scope="module")
def plain(digits):
    """Four steps as they are."""
    steps = Steps(digits)
    before = steps.model.get_weights()
    return steps.run(4), steps.model, before


def test_step_is_momentum_sgd_with_coupled_weight_decay(digits):
    """Two steps on a linear model against the update written out in NumPy."""
    rate, momentum, decay = 0.1, 0.9, 0.05

    def linear():
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))

    steps = Steps(
        digits,
        linear,
        optimizer=lambda: keras.optimizers.SGD(rate, momentum),
        decay=decay,
        batch_size=32,
    )
    kernel, bias = (v.astype(np.float64) for v in steps.model.get_weights())
    velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
    pipeline = TrainingPipeline(digits.train, 32, "none", seed=0)
    for images, labels in pipeline.batches(0).take(2).as_numpy_iterator():
        pixels = images.reshape(32, -1) / 255
        scores = pixels @ kernel + bias
        p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        target = np.eye(10)[labels]
        ((loss, right, *_),) = steps.run()
        assert loss == pytest.approx(-np.log((p * target).sum(-1)).mean(), rel=1e-5)
        assert right == (p.argmax(-1) == labels).sum()
        gradients = (
            pixels.T @ (p - target) / 32 + decay * kernel,
            (p - target).mean(0) + decay * bias,
        )
        velocity = [momentum * v - rate * g for v, g in zip(velocity, gradients)]
        kernel, bias = kernel + velocity[0], bias + velocity[1]
    for found, expected in zip(steps.model.get_weights(), (kernel, bias)):
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_weight_decay_reaches_every_trainable_variable(digits):
    """Where the loss is exactly 0 and has no gradient, every variable shrinks."""
    steps = Steps(digits, optimizer=lambda: keras.optimizers.SGD(1.0), decay=0.25)
    steps.model.get_layer("predictions").kernel.assign(tf.zeros((8, 10)))
    steps.model.get_layer("predictions").bias.assign([1e6] + [0.0] * 9)
    before = [v.numpy() for v in steps.model.trainable_variables]
    images = tf.zeros((4, 8, 8, 1), tf.uint8)
    data = tf.data.Dataset.from_tensors((images, tf.zeros(4, tf.int64)))
    steps.batches = iter(steps.strategy.experimental_distribute_dataset(data))
    assert steps.run()[0, 0] == 0.0
    for old, new in zip(before, steps.model.trainable_variables):
        np.testing.assert_allclose(new, 0.75 * old, rtol=1e-6)


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_steps_at_a_time_do_not_change_them(digits, plain, strategy):
    steps = Steps(digits, strategy=strategy)
    rows = np.concatenate([steps.run(3), steps.run(1)])
    tolerance = 0 if strategy == "one_device" else 1e-3
    np.testing.assert_allclose(rows[:, 0], plain[0][:, 0], rtol=tolerance)
    assert_close(steps.model, plain[1], rtol=tolerance, atol=tolerance)


def test_two_replicas_are_one_device(digits, plain):
    steps = Steps(digits, strategy="mirrored")
    assert steps.strategy.num_replicas_in_sync == 2
    rows = steps.run(4)
    np.testing.assert_allclose(rows[:, 0], plain[0][:, 0], rtol=1e-4)
    moved = np.abs(plain[1].get_weights()[0] - plain[2][0]).max()
    assert moved > 1e-3
    assert_close(steps.model, plain[1], rtol=1e-3, atol=1e-5)


def test_rematerialised_steps_are_the_same(digits, plain):
    steps = Steps(digits, rematerialize=True)
    rows = steps.run(4)
    np.testing.assert_allclose(rows, plain[0], rtol=1e-5)
    assert_close(steps.model, plain[1], rtol=1e-3, atol=1e-5)


def test_rematerialised_blocks_are_computed_again():
    """Each of the three convolutions, once forward and once on the way back."""
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


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_rematerialised_random_layers_draw_once(digits, strategy):
    """The second pass sees the masks of the first, and the states move on once."""

    def build():
        return small(dropout=0.3)

    a, b = (Steps(digits, build, strategy=strategy, rematerialize=r) for r in (0, 1))
    np.testing.assert_allclose(b.run(3), a.run(3), rtol=1e-4)
    assert_close(b.model, a.model, rtol=1e-3, atol=1e-4)
    for x, y in zip(
        random_state.random_states(a.model),
        random_state.random_states(b.model),
        strict=True,
    ):
        np.testing.assert_array_equal(x.numpy(), y.numpy())


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_accumulated_parts_make_the_whole_step(digits, strategy):
    whole = Steps(digits, without_batch_norm)
    parts = Steps(digits, without_batch_norm, strategy, accumulate_steps=4)
    np.testing.assert_allclose(parts.run(3), whole.run(3), rtol=1e-5)
    assert_close(parts.model, whole.model, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_every_step_part_and_replica_draws_something_else(
    digits, strategy, monkeypatch
):
    seen = []

    class Noted(Objective):
        def inputs(self, logits_of, images, labels, draw):
            note = tf.numpy_function(
                lambda value: seen.append(tuple(value)) or value, [draw], tf.int32
            )
            note = tf.ensure_shape(note, (2,))
            return tf.cast(images, tf.float32) + 0 * tf.cast(note[0], tf.float32)

    monkeypatch.setitem(OBJECTIVES, "noise", Noted)
    options = {"objective": "noise", "accumulate_steps": 2, "seed": 5}
    steps = Steps(digits, without_batch_norm, strategy, **options)
    steps.run(3)
    expected = 3 * 2 * steps.strategy.num_replicas_in_sync
    assert len(seen) == len(set(seen)) == expected


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_signals_are_summed_over_replicas(digits, strategy):
    steps = Steps(digits, without_batch_norm, strategy)
    replicas = steps.strategy.num_replicas_in_sync
    assert steps.run(told=(1.0, 0.0))[0, 2:].tolist() == [replicas, 0.0]
    assert steps.run(told=(0.0, 1.0))[0, 2:].tolist() == [0.0, replicas]


def test_planned_rates_are_left_alone(digits):
    """Neither gradient nor decay nor momentum moves k while λ is planned."""
    steps = Steps(digits, plan_rates=True)
    steps.run(2)
    layers.set_damping_rates(steps.model, 0.3)
    (_, first), *_ = layers.damped_layers(steps.model)
    momentum = next(
        v
        for v in steps.model.optimizer.variables
        if v.path.endswith(f"{first.name}_k_momentum")
    )
    momentum.assign(0.0)
    before = layers.damping_rates(steps.model)
    kernel = steps.model.get_layer("stem_conv").kernel.numpy()
    steps.run(2, learn=0.0)
    assert layers.damping_rates(steps.model)[first.name] == before[first.name]
    assert np.abs(steps.model.get_layer("stem_conv").kernel - kernel).max() > 1e-4
    steps.run(1, learn=1.0)
    assert layers.damping_rates(steps.model)[first.name] != before[first.name]


def replicas_of(variable):
    return [v.numpy() for v in variable.value.values]


def test_unsynchronised_statistics_drift_and_are_brought_together(digits):
    steps = Steps(digits, strategy="mirrored", synchronized=False)
    steps.run(3)
    mean = steps.model.get_layer("bn1").moving_mean
    one, two = replicas_of(mean)
    assert np.abs(one - two).max() > 1e-4
    steps.agree()
    for value in replicas_of(mean):
        np.testing.assert_allclose(value, (one + two) / 2, rtol=1e-6)


def test_synchronised_statistics_are_the_same_everywhere(digits):
    steps = Steps(digits, strategy="mirrored")
    steps.run(3)
    one, two = replicas_of(steps.model.get_layer("bn1").moving_mean)
    np.testing.assert_array_equal(one, two)


def test_replicas_draw_different_masks():
    strategy = make_strategy(StrategyConfig(strategy="mirrored"))
    with strategy.scope():
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5)])
    apply = tf.function(
        lambda: strategy.run(lambda: model(tf.ones((1, 64)), training=True))
    )
    one, two = (v.numpy() for v in apply().values)
    np.testing.assert_array_equal(one, two)
    step.spread_seeds(model, strategy)
    one, two = (v.numpy() for v in apply().values)
    assert 10 < (one != two).sum() < 54


def test_average_of_the_weights_is_shown_and_put_back(digits):
    """Decay 0.5 from the first weights on, over three steps."""
    steps = Steps(
        digits,
        optimizer=lambda: keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5),
    )
    kernel = steps.model.get_layer("stem_conv").kernel
    seen = []
    for _ in range(3):
        steps.run()
        seen.append(kernel.numpy())
    with weight_averaging.averaged_weights(steps.model):
        expected = 0.25 * seen[0] + 0.25 * seen[1] + 0.5 * seen[2]
        np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(kernel, seen[2])
    assert np.abs(expected - seen[2]).max() > 1e-3


@pytest.fixture
def precision():
    """Sets the dtype policy of what is built in a test."""
    policy = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_near_float32_in_float32_weights(digits, name, precision):
    full = Steps(digits)
    precision(name)

    def optimizer():
        inner = keras.optimizers.SGD(0.01, 0.9)
        return (
            keras.optimizers.LossScaleOptimizer(inner)
            if "float16" == name[6:]
            else inner
        )

    half = Steps(digits, optimizer=optimizer)
    a, b = full.run(4), half.run(4)
    np.testing.assert_allclose(b[:, 0], a[:, 0], rtol=0.05)
    assert np.abs(b[0, 0] - a[0, 0]) > 0  # it is not float32
    assert all(v.dtype == "float32" for v in half.model.trainable_variables)
    kernel = half.model.get_layer("stem_conv").kernel
    np.testing.assert_allclose(
        kernel, full.model.get_layer("stem_conv").kernel, atol=0.02
    )


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_an_overflow_skips_the_step_on_all_replicas(digits, strategy):
    """Gradients that are not finite on the last replica only."""

    def optimizer():
        inner = keras.optimizers.SGD(0.01, 0.9)
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=1024.0)

    steps = Steps(digits, without_batch_norm, strategy, optimizer)
    scaler, good = steps.model.optimizer, steps.batches
    replicas = steps.strategy.num_replicas_in_sync

    def one_bad(context):
        pixels = np.full((replicas, 4, 8, 8, 1), 7, np.float32)
        pixels[-1] = np.nan
        labels = np.zeros((replicas, 4), np.int64)
        return tf.data.Dataset.from_tensor_slices((pixels, labels))

    steps.batches = iter(steps.strategy.distribute_datasets_from_function(one_bad))
    before = steps.model.get_weights()
    steps.run()
    for old, new in zip(before, steps.model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert scaler.dynamic_scale.numpy() == 512.0
    steps.batches = good
    steps.run()
    assert np.abs(before[0] - steps.model.get_weights()[0]).max() > 0


def test_scaled_loss_changes_nothing_else(digits):
    plain = Steps(digits, without_batch_norm)

    def optimizer():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01, 0.9))

    scaled = Steps(digits, without_batch_norm, optimizer=optimizer)
    np.testing.assert_allclose(scaled.run(3), plain.run(3), rtol=1e-6)
    assert_close(scaled.model, plain.model, rtol=1e-5, atol=1e-7)


def test_learning_rates():
    cosine = schedules.learning_rate("cosine", 0.4, 100, warmup=0.2)
    rates = [float(cosine(i)) for i in (0, 10, 20, 60, 100)]
    np.testing.assert_allclose(rates, [0, 0.2, 0.4, 0.2, 0], atol=1e-6)
    assert float(schedules.learning_rate("cosine", 0.4, 100)(0)) == pytest.approx(0.4)


def test_lambda_schedules():
    def at(text, *steps):
        return [LambdaSchedule(text, 11).at(step) for step in steps]

    assert at("learn", 0, 10) == [None, None]
    assert at("fixed:0.3", 0, 10) == [0.3, 0.3]
    assert at("linear:0:0.2", 0, 5, 10) == pytest.approx([0, 0.1, 0.2])
    assert at("warm:0.5", 0, 5, 6, 10) == [0.0, 0.0, None, None]
    warm = LambdaSchedule("warm:0.5", 11)
    assert [warm.constant_for(step) for step in (0, 5)] == [6, 1] and warm.constant_for(
        6
    ) > 10**6
    assert LambdaSchedule("linear:0:1", 9).constant_for(3) == 1
    for wrong in (
        "linear",
        "fixed",
        "fixed:-1",
        "warm:1.5",
        "learn:1",
        "fixed:nan",
        "",
    ):
        with pytest.raises(UserError, match="--lambda_schedule"):
            LambdaSchedule(wrong)


def test_accumulation_keeps_replicas_together(digits):
    """Synchronised statistics of part after part, in the same order everywhere."""
    steps = Steps(digits, strategy="mirrored", accumulate_steps=4)
    rows = steps.run(8)
    assert rows[-1, 0] < rows[0, 0]
    for variable in steps.model.weights:
        one, two = replicas_of(variable)
        np.testing.assert_array_equal(one, two)
