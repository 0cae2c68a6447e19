"""What layers add to a step: losses, constraints, estimates of norms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from inres_tf import layers
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.layers import BatchNormalization
from inres_tf.layers.lipschitz import Operator
from inres_tf.solvers import Solver
from inres_tf.training import rematerialization, weight_averaging
from inres_tf.training.objectives import Objective
from inres_tf.training.objectives.registry import OBJECTIVES


class AddsLosses(keras.layers.Layer):
    """Multiplies by w; adds the mean of x², and in training 0.5 times that of w²."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")

    def call(self, x, training=False):
        self.add_loss(tf.reduce_mean(x * x))
        if training:
            self.add_loss(0.5 * tf.reduce_mean(self.w.value**2))
        return x * self.w


def with_losses():
    """A network with losses on both sides of batch statistics."""
    l2 = keras.regularizers.L2(0.3)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 16)(inputs))
    x = keras.layers.Dense(6, kernel_regularizer=l2, use_bias=False)(x)
    x = keras.layers.Add()([x, AddsLosses()(x)])
    x = BatchNormalization(epsilon=0.1, center=False, scale=False)(x)
    x = AddsLosses()(x)
    head = keras.layers.Dense(
        10, activation="softmax", use_bias=False, kernel_regularizer=l2
    )
    return keras.Model(inputs, head(x))


def loss_with_losses(images, labels, kernel, w1, w2, head):
    x = tf.reshape(tf.cast(images, tf.float32) / 16, (len(images), -1)) @ kernel
    losses = [tf.reduce_mean(x**2), 0.5 * tf.reduce_mean(w1**2)]
    x = x + w1 * x
    mean, variance = tf.nn.moments(x, 0)
    x = (x - mean) / tf.sqrt(variance + 0.1)
    losses += [tf.reduce_mean(x**2), 0.5 * tf.reduce_mean(w2**2)]
    losses += [0.3 * tf.reduce_sum(w**2) for w in (kernel, head)]
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, (w2 * x) @ head)
    return tf.reduce_mean(entropy) + sum(losses)


class Attack(Objective):
    """An attack that calls the network and changes nothing."""

    def inputs(self, logits_of, images, labels, seed):
        return tf.cast(images, tf.float32) + 0 * tf.reduce_sum(logits_of(images))


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
@pytest.mark.parametrize("rematerialize", [False, True])
def test_losses_of_a_model_count_once(
    digits, make_trainer, strategy, rematerialize, monkeypatch
):
    """Replicas that wait for each other's batch statistics keep their losses apart."""
    monkeypatch.setitem(OBJECTIVES, "pgd", Attack)
    trainer = make_trainer(
        with_losses,
        strategy,
        lambda: keras.optimizers.SGD(1.0),
        decay=0.0,
        batch_size=32,
        objective="pgd",
        rematerialize=rematerialize,
    )
    before = [tf.constant(v.numpy()) for v in trainer.model.trainable_variables]
    pipeline = TrainingPipeline(digits.train, 32, "none", seed=0)
    images, labels = next(iter(pipeline.batches(0)))
    with tf.GradientTape() as tape:
        tape.watch(before)
        loss = loss_with_losses(images, labels, *before)
    gradients = tape.gradient(loss, before)
    assert trainer.run()[0, 0] == pytest.approx(float(loss), rel=1e-5)
    for variable, old, gradient in zip(
        trainer.model.trainable_variables, before, gradients, strict=True
    ):
        np.testing.assert_allclose(variable, old - gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_a_regulariser_counts_once_for_accumulated_parts(make_trainer, strategy):
    """With L2(c) the first update differs by -2 c W."""

    def build(c):
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        l2 = keras.regularizers.L2(c) if c else None
        return keras.Model(inputs, keras.layers.Dense(10, kernel_regularizer=l2)(x))

    kernels = []
    for c in (0.0, 0.2):
        trainer = make_trainer(
            lambda c=c: build(c),
            strategy,
            lambda: keras.optimizers.SGD(1.0),
            decay=0.0,
            accumulate_steps=4,
        )
        before = trainer.model.layers[-1].kernel.numpy()
        trainer.run()
        kernels.append(trainer.model.layers[-1].kernel.numpy())
    np.testing.assert_allclose(kernels[1] - kernels[0], -0.4 * before, atol=1e-6)


def with_unit_norm():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    unit = keras.constraints.UnitNorm(axis=0)
    return keras.Model(inputs, keras.layers.Dense(10, kernel_constraint=unit)(x))


@pytest.mark.parametrize(
    ("strategy", "scaled"), [("one_device", False), ("mirrored", True)]
)
def test_constraints_are_applied_after_each_update(make_trainer, strategy, scaled):
    def optimizer():
        inner = keras.optimizers.SGD(0.5)
        return keras.optimizers.LossScaleOptimizer(inner) if scaled else inner

    kernels = []
    for constrained in (False, True):
        trainer = make_trainer(with_unit_norm, strategy, optimizer)
        if not constrained:
            trainer.model.layers[-1].kernel.constraint = None
        trainer.run()
        kernels.append(trainer.model.layers[-1].kernel.numpy())
    norms = np.linalg.norm(kernels[0], axis=0)
    assert np.abs(norms - 1).max() > 0.05
    np.testing.assert_allclose(kernels[1], kernels[0] / norms, rtol=1e-5, atol=1e-7)


def test_constraints_hold_for_averaged_weights(make_trainer):
    trainer = make_trainer(
        with_unit_norm,
        optimizer=lambda: keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5),
    )
    trainer.run(2)
    kernel, optimizer = trainer.model.layers[-1].kernel, trainer.model.optimizer
    average = next(
        v.numpy() for v in optimizer.variables if v.path.endswith("kernel_average")
    )
    norms = np.linalg.norm(average, axis=0)
    assert np.abs(norms - 1).max() > 1e-3
    with weight_averaging.averaged_weights(trainer.model):
        np.testing.assert_allclose(kernel, average / norms, rtol=1e-5, atol=1e-7)


def with_norms():
    """A chain of every kind of layer that estimates a norm."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = layers.LipschitzConv2D(4, penalty=0.1, name="penalised")(x)
    x = layers.ConvexPotentialConv2D(5, name="block")(x)
    flow = layers.ConvDynamics("potential", limit=1.0, name="dynamics")
    x = layers.NeuralODE(flow, Solver("euler", 2), damping="in", name="flow")(x)
    x = layers.LipschitzDense(12, name="limited")(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(10, name="predictions")(x))


@pytest.fixture(scope="module")
def norms(make_trainer):
    """Three steps of a network that estimates norms: (rows, model)."""
    trainer = make_trainer(with_norms)
    return trainer.run(3), trainer.model


def operators(model):
    return [x for x in model._flatten_layers() if isinstance(x, Operator)]


def test_a_chain_is_recomputed_block_by_block(monkeypatch):
    pieces = []
    monkeypatch.setattr(
        rematerialization,
        "_recomputed",
        lambda piece: pieces.append(piece.layers[-1].name),
    )
    rematerialization.rematerialized(with_norms())
    assert pieces == ["block", "flow", "predictions"]


def test_steps_estimate_norms(norms):
    _, model = norms
    assert len(operators(model)) == 4
    for operator in operators(model):
        assert 0.5 < float(operator.sigma) / operator.norm_bound() < 1 + 1e-6
        assert float(operator.sigma) != 1


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("mirrored", {}), ("one_device", {"rematerialize": True})],
)
def test_norms_do_not_depend_on_how_a_step_runs(make_trainer, norms, strategy, options):
    trainer = make_trainer(with_norms, strategy, **options)
    np.testing.assert_allclose(trainer.run(3)[:, 0], norms[0][:, 0], rtol=1e-4)
    weights = (model.get_weights() for model in (trainer.model, norms[1]))
    for weight, expected in zip(*weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-5)


def test_replicas_estimate_the_same_norms_and_are_tightened_together(make_trainer):
    trainer = make_trainer(with_norms, "mirrored")
    trainer.run(2)
    for operator in operators(trainer.model):
        for variable in (operator.sigma, operator.vector):
            first, second = (value.numpy() for value in variable.value.values)
            np.testing.assert_array_equal(first, second)
    layers.tighten(trainer.model)
    for operator in operators(trainer.model):
        for value in operator.sigma.value.values:
            assert float(value) == pytest.approx(operator.norm_bound(), rel=1e-6)
    assert trainer.model.get_layer("block").lipschitz_bound() < 0.8001


def test_every_part_of_a_step_improves_the_norms(make_trainer):
    """Ten power iterations on weights that stay as they are."""
    trainer = make_trainer(
        with_norms,
        optimizer=lambda: keras.optimizers.SGD(0.0),
        accumulate_steps=2,
    )
    trainer.run(5)
    other = make_trainer(with_norms, optimizer=lambda: keras.optimizers.SGD(0.0))
    other.run(10)
    for a, b in zip(operators(trainer.model), operators(other.model), strict=True):
        np.testing.assert_allclose(a.sigma, b.sigma, rtol=1e-5)


def test_norms_are_float32_in_half_precision(make_trainer, norms, set_policy):
    set_policy("mixed_bfloat16")
    trainer = make_trainer(with_norms)
    np.testing.assert_allclose(trainer.run(3)[:, 0], norms[0][:, 0], rtol=0.02)
    for half, full in zip(operators(trainer.model), operators(norms[1]), strict=True):
        assert half.sigma.dtype == half.vector.dtype == half.kernel.dtype == "float32"
        np.testing.assert_allclose(half.sigma, full.sigma, rtol=2e-3)
