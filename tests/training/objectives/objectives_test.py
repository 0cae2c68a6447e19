import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf import attacks
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.strategy import make_strategy
from inres_tf.models.logits import logits_fn
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.registry import OBJECTIVES, make_objective

SEED = tf.constant([3, 4])
ATTACKING = ("pgd", "fgsm", "trades")


def make(name, **settings):
    return make_objective(ObjectiveConfig(objective=name, **settings))


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Linear:
    """Logits x·w + b of flattened pixels, called like the result of `logits_fn`."""

    def __init__(self, rng, classes=2, dtype=tf.float32):
        # Small, since the cross-entropy of saturated logits has no gradient.
        self.w = tf.Variable(rng.normal(0, 0.003, (4, classes)).astype(np.float32))
        self.b = rng.normal(0, 0.1, classes).astype(np.float32)
        self.dtype = dtype

    def __call__(self, pixels, training):
        assert isinstance(training, bool)
        flat = tf.reshape(tf.cast(pixels, tf.float32), (-1, 4))
        return tf.cast(flat @ self.w + self.b, self.dtype)

    def numpy(self, pixels, w=None):
        w = self.w.numpy().astype(np.float64) if w is None else w
        return np.asarray(pixels, np.float64).reshape(-1, 4) @ w + self.b

    def direction(self, labels):
        """Sign of the loss's gradient with two classes: sign(w_other - w_label)."""
        difference = np.sign(self.w[:, 1] - self.w[:, 0])
        return (1 - 2 * labels)[:, None, None, None] * difference.reshape(2, 2, 1)


@pytest.fixture
def linear(rng):
    return Linear(rng)


@pytest.fixture
def batch(rng):
    """Images far from the limits of the pixel range, and labels of two classes."""
    return rng.integers(60, 190, (6, 2, 2, 1)).astype(np.uint8), np.arange(6) % 2


# The inputs, whose closed forms are known for a linear model.


def test_clean_inputs_are_the_images(linear, batch):
    assert make("clean").inputs(linear, *batch, SEED) is batch[0]


def test_pgd_reaches_the_worst_case_of_a_linear_model(linear, batch):
    images, labels = batch
    inputs = make("pgd").inputs(linear, images, labels, SEED)
    assert inputs.dtype == tf.float32
    np.testing.assert_allclose(inputs, images + 8 * linear.direction(labels), atol=1e-4)


def test_pgd_starts_uniformly_in_the_ball(linear, batch):
    """Two steps of 1.5 are too short to hide the start; all images are the same."""
    images = np.repeat(batch[0][:1], 2000, 0)
    labels = np.repeat(batch[1][:1], 2000)
    pgd = make("pgd", adversary_steps=2, adversary_step_size=1.5)
    change = pgd.inputs(linear, images, labels, SEED).numpy() - images
    moved = change * linear.direction(labels)  # uniform in [-8, 8], plus 3, at most 8
    assert moved.min() == pytest.approx(-5, abs=0.02)
    assert (moved > 8 - 1e-3).mean() == pytest.approx(3 / 16, abs=0.02)
    quantiles = np.quantile(moved, [0.1, 0.3, 0.5, 0.7])
    np.testing.assert_allclose(quantiles, [-3.4, -0.2, 3.0, 6.2], atol=0.3)


def test_fgsm_takes_one_step_of_five_quarters_of_eps(linear, batch):
    images, labels = batch
    objective = make("fgsm", adversary_eps=4, adversary_steps=7, adversary_step_size=1)
    inputs = objective.inputs(linear, images, labels, SEED)
    start = tf.random.stateless_uniform(images.shape, SEED, -4, 4).numpy()
    expected = np.clip(start + 5 * linear.direction(labels), -4, 4)
    assert (np.abs(expected) < 3.9).any()  # not all reach the surface of the ball
    np.testing.assert_allclose(inputs - images, expected, atol=1e-4)


def test_trades_follows_the_side_of_its_start(linear, batch):
    """The divergence is symmetric in ±w; the noise of the start decides the sign."""
    images, labels = batch
    inputs = make("trades").inputs(linear, images, labels, SEED)
    w = linear.w.numpy()[:, 0] - linear.w.numpy()[:, 1]
    noise = 0.255 * tf.random.stateless_normal(images.shape, SEED).numpy()
    side = np.sign(noise.reshape(-1, 4) @ w)
    assert set(side) == {-1, 1}
    expected = (8 * side[:, None] * np.sign(w)).reshape(images.shape)
    np.testing.assert_allclose(inputs - images, expected, atol=1e-4)


def test_noise_has_the_documented_distribution():
    images = np.full((3000, 12, 12, 1), 128, np.uint8)
    inputs = make("noise", noise_std=20).inputs(None, images, None, SEED).numpy()
    noise = inputs - images
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.var() == pytest.approx(20**2 / 3, rel=0.05)
    stds = noise.std((1, 2, 3))
    levels = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(stds / 20, levels), levels, atol=0.04)
    normal = noise / stds[:, None, None, None]
    assert (np.abs(normal) < 1).mean() == pytest.approx(0.6827, abs=0.01)
    assert (normal**4).mean() == pytest.approx(3, abs=0.1)
    # With a common seed, the k-th numbers of both draws would be correlated.
    sizes = np.abs(normal).reshape(-1)[: len(stds)]
    assert abs(np.corrcoef(stds, sizes)[0, 1]) < 0.06


def test_noise_is_clipped_to_the_pixel_range():
    images = np.repeat([[[[0, 128, 255]]]], 500, 0)
    inputs = make("noise", noise_std=60).inputs(None, images, None, SEED).numpy()
    assert inputs.min() == 0 and inputs.max() == 255
    assert (inputs[..., 0] == 0).mean() == pytest.approx(0.5, abs=0.1)
    assert (inputs[..., 2] == 255).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", [*ATTACKING, "noise"])
def test_inputs_depend_on_the_seed(name, linear, batch):
    objective = make(name, adversary_steps=1, adversary_step_size=0.1)
    first, same, other = (
        objective.inputs(linear, *batch, tf.constant(seed)).numpy()
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).mean() > 0.5


@pytest.mark.parametrize("name", ATTACKING)
def test_half_precision_networks_are_attacked_in_float32(name, rng, batch):
    linear = Linear(rng, dtype=tf.bfloat16)
    objective = make(name)
    inputs = objective.inputs(linear, *batch, SEED)
    assert inputs.dtype == tf.float32
    assert np.abs(inputs - batch[0]).max() == pytest.approx(8, abs=1e-3)
    losses, logits = objective.losses(linear, batch[0], inputs, batch[1])
    assert losses.dtype == logits.dtype == tf.float32


@pytest.mark.parametrize("name", ATTACKING)
def test_attacks_stay_in_the_ball_and_leave_the_network_unchanged(
    name, trained, digits
):
    """They also increase the loss or divergence, and thus lower the accuracy."""
    data = digits.train.take(slice(64))
    weights = [v.numpy() for v in trained.variables]
    objective = make(name, adversary_eps=32, adversary_step_size=8)
    logits_of = logits_fn(trained)
    attack = tf.function(lambda *args: objective.inputs(logits_of, *args))
    inputs = attack(data.images, data.labels, SEED).numpy()
    attacks.check(inputs, data.images, 32)
    assert np.abs(inputs - data.images).max() == pytest.approx(32, abs=1e-3)
    clean, adversarial = (
        (trained(pixels).numpy().argmax(-1) == data.labels).mean()
        for pixels in (data.images, inputs)
    )
    assert clean > 0.8 and adversarial < clean - 0.2
    for before, after in zip(weights, trained.variables):
        np.testing.assert_array_equal(before, after)


def test_replicas_together_equal_one_device(trained, digits):
    """Each attacks its part; losses and gradients are those of the whole batch."""
    data = digits.train.take(slice(16))
    objective = make("trades", adversary_steps=2)

    def step(model, logits_of, images, labels, inputs):
        with tf.GradientTape() as tape:
            losses, _ = objective.losses(logits_of, images, inputs, labels)
        return losses, tape.gradient(losses, model.trainable_variables)

    strategy = make_strategy(StrategyConfig(strategy="mirrored"))
    with strategy.scope():
        model = keras.models.clone_model(trained)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True

    single = keras.models.clone_model(trained)
    for network in (model, single):
        network.set_weights(trained.get_weights())
    logits_of = logits_fn(model)

    def replica_step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        images, labels = (
            tf.gather(tf.reshape(x, (2, 8, *x.shape[1:])), replica)
            for x in (data.images, data.labels)
        )
        seed = tf.stack([0, replica])
        inputs = objective.inputs(logits_of, images, labels, seed)
        return inputs, *step(model, logits_of, images, labels, inputs)

    inputs, losses, gradients = tf.function(lambda: strategy.run(replica_step))()
    inputs, losses = (
        tf.concat(strategy.experimental_local_results(v), 0) for v in (inputs, losses)
    )
    expected_inputs = [
        objective.inputs(
            logits_fn(trained),
            data.images[part],
            data.labels[part],
            tf.constant([0, i]),
        )
        for i, part in enumerate((slice(8), slice(8, 16)))
    ]
    # Gradients within rounding of zero may take either sign.
    assert (np.abs(inputs - tf.concat(expected_inputs, 0)) < 1e-3).mean() > 0.99
    expected_losses, expected_gradients = step(
        single, logits_fn(single), data.images, data.labels, inputs
    )
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-3, atol=1e-5)
    for gradient, expected in zip(gradients, expected_gradients):
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, gradient, axis=None)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(total, expected, rtol=0.02, atol=1e-3 * scale + 1e-5)


# The losses, compared with NumPy.


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["clean", "pgd", "fgsm", "noise"])
def test_loss_is_the_cross_entropy_of_the_inputs(name, smoothing, rng, batch):
    linear = Linear(rng, classes=3)
    images, labels = batch
    inputs = images + rng.uniform(-8, 8, images.shape).astype(np.float32)
    objective = make(name, label_smoothing=smoothing)
    losses, logits = objective.losses(linear, images, inputs, labels)
    target = (1 - smoothing) * np.eye(3)[labels] + smoothing / 3
    expected = -(target * np.log(softmax(linear.numpy(inputs)))).sum(-1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(logits, linear.numpy(inputs), rtol=1e-4)


def trades_in_numpy(linear, images, inputs, labels, beta, smoothing, w=None):
    p, q = (softmax(linear.numpy(pixels, w)) for pixels in (images, inputs))
    target = (1 - smoothing) * np.eye(p.shape[-1])[labels] + smoothing / p.shape[-1]
    return -(target * np.log(p)).sum(-1) + beta * (p * np.log(p / q)).sum(-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_trades_loss_and_gradient_follow_the_formula(smoothing, rng, batch):
    linear = Linear(rng, classes=3)
    images, labels = batch
    inputs = images + rng.uniform(-40, 40, images.shape).astype(np.float32)
    objective = make("trades", trades_beta=3, label_smoothing=smoothing)
    with tf.GradientTape() as tape:
        losses, logits = objective.losses(linear, images, inputs, labels)
        total = tf.reduce_sum(losses)
    arguments = (linear, images, inputs, labels, 3, smoothing)
    np.testing.assert_allclose(losses, trades_in_numpy(*arguments), rtol=1e-4)
    np.testing.assert_allclose(logits, linear.numpy(images), rtol=1e-4)
    # The gradient flows through both arguments of the divergence.
    w, step = linear.w.numpy().astype(np.float64), 1e-6
    expected = np.empty_like(w)
    for i in np.ndindex(w.shape):
        delta = np.zeros_like(w)
        delta[i] = step
        above, below = (
            trades_in_numpy(*arguments, w=moved).sum()
            for moved in (w + delta, w - delta)
        )
        expected[i] = (above - below) / (2 * step)
    np.testing.assert_allclose(tape.gradient(total, linear.w), expected, rtol=1e-3)


def test_trades_equals_clean_if_the_inputs_are_the_images(digits):
    """Also in training mode, where both share the statistics of their batch."""
    data = digits.train.take(slice(32))
    model = zoo.InResNet8(input_shape=digits.shape)
    arguments = (logits_fn(model), data.images, data.images, data.labels)
    clean, trades = (make(name).losses(*arguments)[0] for name in ("clean", "trades"))
    np.testing.assert_allclose(trades, clean, rtol=1e-6)


def test_trades_calls_the_network_once(linear, batch):
    """With two calls, replicas that synchronise batch statistics may fail."""
    images, labels = batch
    calls = []

    def logits_of(pixels, training):
        calls.append((pixels.numpy(), training))
        return linear(pixels, training)

    make("trades").losses(logits_of, images, images + np.float32(1), labels)
    [(pixels, training)] = calls
    assert training
    np.testing.assert_array_equal(pixels, np.concatenate([images, images + 1.0]))


# Training.

STEPS = 60
EPS = 32.0


def train(name, digits, **settings):
    """Trains a network: (network, losses of the same images before and after)."""
    keras.utils.set_random_seed(0)
    model = zoo.InResNet8(input_shape=digits.shape)
    optimizer = keras.optimizers.SGD(0.05, 0.9)
    objective, logits_of = make(name, **settings), logits_fn(model)

    @tf.function
    def step(images, labels, seed, update):
        inputs = objective.inputs(logits_of, images, labels, seed)
        with tf.GradientTape() as tape:
            losses, _ = objective.losses(logits_of, images, inputs, labels)
            loss = tf.reduce_mean(losses)
        if update:
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
        return loss

    optimizer.build(model.trainable_variables)
    update, evaluate = tf.constant(True), tf.constant(False)
    rng = np.random.default_rng(0)
    fixed = digits.train.take(slice(128))
    losses = [float(step(fixed.images, fixed.labels, SEED, evaluate))]
    for i in range(STEPS):
        batch = digits.train.take(rng.integers(0, len(digits.train), 64))
        step(batch.images, batch.labels, tf.constant([5, i]), update)
    losses.append(float(step(fixed.images, fixed.labels, SEED, evaluate)))
    return model, losses


@pytest.fixture(scope="module")
def trainings(digits):
    settings = {"adversary_eps": EPS, "adversary_steps": 4, "adversary_step_size": 8.0}
    return {name: train(name, digits, **settings) for name in OBJECTIVES}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_lowers_its_own_loss(name, trainings):
    _, (before, after) = trainings[name]
    assert after < 0.5 * before


def test_adversarial_training_increases_robust_accuracy(trainings, digits):
    test = digits.test

    def accuracy(name):
        model = trainings[name][0]
        adversarial = attacks.pgd(
            model, test.images, test.labels, EPS, steps=10, step_size=6
        )
        return (model(adversarial).numpy().argmax(-1) == test.labels).mean()

    clean = accuracy("clean")
    for name in ATTACKING:
        assert accuracy(name) > clean + 0.2
