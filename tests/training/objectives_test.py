import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf import attacks
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.strategy import make_strategy
from inres_tf.errors import UserError
from inres_tf.models.logits import logits_fn
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.registry import OBJECTIVES, make_objective
from inres_tf.training.run import final_metrics

SEED = tf.constant([3, 4])
ATTACKING = ("pgd", "fgsm", "trades")


def make(name, **settings):
    return make_objective(ObjectiveConfig(objective=name, **settings))


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Linear:
    """Logits x·w + b of flattened pixels, as `logits_fn` gives them."""

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
        """Of each pixel, up the loss of two classes: sign(w_other - w_y)."""
        difference = np.sign(self.w[:, 1] - self.w[:, 0])
        return (1 - 2 * labels)[:, None, None, None] * difference.reshape(2, 2, 1)


@pytest.fixture
def linear(rng):
    return Linear(rng)


@pytest.fixture
def batch(rng):
    """Images far from the ends of the pixel range, and labels of two classes."""
    return rng.integers(60, 190, (6, 2, 2, 1)).astype(np.uint8), np.arange(6) % 2


# What is trained on: closed forms on a linear model.


def test_clean_images_are_left_alone(linear, batch):
    assert make("clean").inputs(linear, *batch, SEED) is batch[0]


def test_pgd_reaches_the_worst_case_of_a_linear_model(linear, batch):
    images, labels = batch
    found = make("pgd").inputs(linear, images, labels, SEED)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, images + 8 * linear.direction(labels), atol=1e-4)


def test_pgd_takes_its_steps_from_a_uniform_start(linear, batch):
    """Two steps of 1.5 lead past nothing, so the start shows; one image for all."""
    images = np.repeat(batch[0][:1], 2000, 0)
    labels = np.repeat(batch[1][:1], 2000)
    pgd = make("pgd", adversary_steps=2, adversary_step_size=1.5)
    found = pgd.inputs(linear, images, labels, SEED).numpy() - images
    moved = found * linear.direction(labels)  # uniform in [-8, 8], then + 3, at most 8
    assert moved.min() == pytest.approx(-5, abs=0.02)
    assert (moved > 8 - 1e-3).mean() == pytest.approx(3 / 16, abs=0.02)
    quantiles = np.quantile(moved, [0.1, 0.3, 0.5, 0.7])
    np.testing.assert_allclose(quantiles, [-3.4, -0.2, 3.0, 6.2], atol=0.3)


def test_fgsm_is_one_step_of_five_quarters_from_the_start(linear, batch):
    images, labels = batch
    objective = make("fgsm", adversary_eps=4, adversary_steps=7, adversary_step_size=1)
    found = objective.inputs(linear, images, labels, SEED)
    start = tf.random.stateless_uniform(images.shape, SEED, -4, 4).numpy()
    expected = np.clip(start + 5 * linear.direction(labels), -4, 4)
    assert (np.abs(expected) < 3.9).any()  # not all reach the surface of the ball
    np.testing.assert_allclose(found - images, expected, atol=1e-4)


def test_trades_leaves_the_images_the_way_it_started(linear, batch):
    """The divergence grows along ±w alike; the start's noise chooses the sign."""
    images, labels = batch
    found = make("trades").inputs(linear, images, labels, SEED)
    w = linear.w.numpy()[:, 0] - linear.w.numpy()[:, 1]
    noise = 0.255 * tf.random.stateless_normal(images.shape, SEED).numpy()
    side = np.sign(noise.reshape(-1, 4) @ w)
    assert set(side) == {-1, 1}
    expected = (8 * side[:, None] * np.sign(w)).reshape(images.shape)
    np.testing.assert_allclose(found - images, expected, atol=1e-4)


def test_noise_has_the_distribution_it_says():
    images = np.full((3000, 12, 12, 1), 128, np.uint8)
    found = make("noise", noise_std=20).inputs(None, images, None, SEED).numpy()
    noise = found - images
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.var() == pytest.approx(20**2 / 3, rel=0.05)
    stds = noise.std((1, 2, 3))
    levels = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(stds / 20, levels), levels, atol=0.04)
    normal = noise / stds[:, None, None, None]
    assert (np.abs(normal) < 1).mean() == pytest.approx(0.6827, abs=0.01)
    assert (normal**4).mean() == pytest.approx(3, abs=0.1)
    # Drawn from the same seed, the generator's k-th numbers would hang together.
    drawn = np.abs(normal).reshape(-1)[: len(stds)]
    assert abs(np.corrcoef(stds, drawn)[0, 1]) < 0.06


def test_noise_is_clipped_to_the_pixel_range():
    images = np.repeat([[[[0, 128, 255]]]], 500, 0)
    found = make("noise", noise_std=60).inputs(None, images, None, SEED).numpy()
    assert found.min() == 0 and found.max() == 255
    assert (found[..., 0] == 0).mean() == pytest.approx(0.5, abs=0.1)
    assert (found[..., 2] == 255).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", [*ATTACKING, "noise"])
def test_the_seed_decides(name, linear, batch):
    objective = make(name, adversary_steps=1, adversary_step_size=0.1)
    first, again, other = (
        objective.inputs(linear, *batch, tf.constant(seed)).numpy()
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


@pytest.mark.parametrize("name", ATTACKING)
def test_low_precision_networks_are_attacked(name, rng, batch):
    linear = Linear(rng, dtype=tf.bfloat16)
    objective = make(name)
    found = objective.inputs(linear, *batch, SEED)
    assert found.dtype == tf.float32
    assert np.abs(found - batch[0]).max() == pytest.approx(8, abs=1e-3)
    losses, logits = objective.losses(linear, batch[0], found, batch[1])
    assert losses.dtype == logits.dtype == tf.float32


@pytest.mark.parametrize("name", ATTACKING)
def test_attacks_keep_to_the_ball_and_change_nothing(name, trained, digits):
    """And raise the loss they attack: of the labels, or of the divergence."""
    data = digits.train.take(slice(64))
    weights = [v.numpy() for v in trained.variables]
    objective = make(name, adversary_eps=32, adversary_step_size=8)
    logits_of = logits_fn(trained)
    inputs = tf.function(lambda *args: objective.inputs(logits_of, *args))
    found = inputs(data.images, data.labels, SEED).numpy()
    attacks.check(found, data.images, 32)
    assert np.abs(found - data.images).max() == pytest.approx(32, abs=1e-3)
    right = [trained(x).numpy().argmax(-1) == data.labels for x in (data.images, found)]
    assert right[0].mean() > 0.8 and right[1].mean() < right[0].mean() - 0.2
    for before, after in zip(weights, trained.variables):
        np.testing.assert_array_equal(before, after)


def test_replicas_do_together_what_one_device_does(trained, digits):
    """Each attacks its images; losses and gradients are those of the whole batch."""
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

    one = keras.models.clone_model(trained)
    for network in (model, one):
        network.set_weights(trained.get_weights())
    logits_of = logits_fn(model)

    def replica_step():
        which = tf.distribute.get_replica_context().replica_id_in_sync_group
        images, labels = (
            tf.gather(tf.reshape(x, (2, 8, *x.shape[1:])), which)
            for x in (data.images, data.labels)
        )
        seed = tf.stack([0, which])
        inputs = objective.inputs(logits_of, images, labels, seed)
        return inputs, *step(model, logits_of, images, labels, inputs)

    inputs, losses, gradients = tf.function(lambda: strategy.run(replica_step))()
    inputs, losses = (
        tf.concat(strategy.experimental_local_results(v), 0) for v in (inputs, losses)
    )
    alone = [
        objective.inputs(
            logits_fn(trained),
            data.images[part],
            data.labels[part],
            tf.constant([0, i]),
        )
        for i, part in enumerate((slice(8), slice(8, 16)))
    ]
    # Gradients within rounding of zero may take either sign.
    assert (np.abs(inputs - tf.concat(alone, 0)) < 1e-3).mean() > 0.99
    expected, of_weights = step(one, logits_fn(one), data.images, data.labels, inputs)
    np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=1e-5)
    for found, gradient in zip(gradients, of_weights):
        found = strategy.reduce(tf.distribute.ReduceOp.SUM, found, axis=None)
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(found, gradient, rtol=0.02, atol=1e-3 * scale + 1e-5)


# What is minimised, against NumPy.


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
def test_trades_is_its_formula(smoothing, rng, batch):
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
    # Its gradient flows through both arguments of the divergence.
    w, step = linear.w.numpy().astype(np.float64), 1e-6
    expected = np.empty_like(w)
    for i in np.ndindex(w.shape):
        by = np.zeros_like(w)
        by[i] = step
        above, below = (
            trades_in_numpy(*arguments, w=at).sum() for at in (w + by, w - by)
        )
        expected[i] = (above - below) / (2 * step)
    np.testing.assert_allclose(tape.gradient(total, linear.w), expected, rtol=1e-3)


def test_trades_is_clean_where_the_inputs_are_the_images(digits):
    """In training mode too, where both share the statistics of their batch."""
    data = digits.train.take(slice(32))
    model = zoo.InResNet8(input_shape=digits.shape)
    arguments = (logits_fn(model), data.images, data.images, data.labels)
    clean, trades = (make(name).losses(*arguments)[0] for name in ("clean", "trades"))
    np.testing.assert_allclose(trades, clean, rtol=1e-6)


def test_trades_passes_the_network_once(linear, batch):
    """In two passes, replicas that synchronise batch statistics may fail."""
    images, labels = batch
    passes = []

    def logits_of(pixels, training):
        passes.append((pixels.numpy(), training))
        return linear(pixels, training)

    make("trades").losses(logits_of, images, images + np.float32(1), labels)
    [(pixels, training)] = passes
    assert training
    np.testing.assert_array_equal(pixels, np.concatenate([images, images + 1.0]))


# Training.


def train(name, digits, **settings):
    """A network, and its objective's loss on the same images before and after."""
    keras.utils.set_random_seed(0)
    model = zoo.InResNet8(input_shape=digits.shape)
    optimizer = keras.optimizers.SGD(0.05, 0.9)
    objective, logits_of = make(name, **settings), logits_fn(model)

    @tf.function
    def step(images, labels, seed, learn):
        inputs = objective.inputs(logits_of, images, labels, seed)
        with tf.GradientTape() as tape:
            losses, _ = objective.losses(logits_of, images, inputs, labels)
            loss = tf.reduce_mean(losses)
        if learn:
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
        return loss

    optimizer.build(model.trainable_variables)
    learn, look = tf.constant(True), tf.constant(False)
    order = np.random.default_rng(0)
    first = digits.train.take(slice(128))
    losses = [float(step(first.images, first.labels, SEED, look))]
    for i in range(STEPS):
        part = digits.train.take(order.integers(0, len(digits.train), 64))
        step(part.images, part.labels, tf.constant([5, i]), learn)
    losses.append(float(step(first.images, first.labels, SEED, look)))
    return model, losses


STEPS = 60
EPS = 32.0


@pytest.fixture(scope="module")
def trainings(digits):
    settings = {"adversary_eps": EPS, "adversary_steps": 4, "adversary_step_size": 8.0}
    return {name: train(name, digits, **settings) for name in OBJECTIVES}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_lowers_its_own_loss(name, trainings):
    _, (before, after) = trainings[name]
    assert after < 0.5 * before


def test_adversarial_training_makes_robust(trainings, digits):
    test = digits.test

    def accuracy(name):
        model = trainings[name][0]
        found = attacks.pgd(model, test.images, test.labels, EPS, steps=10, step_size=6)
        return (model(found).numpy().argmax(-1) == test.labels).mean()

    clean = accuracy("clean")
    for name in ATTACKING:
        assert accuracy(name) > clean + 0.2


# The check for catastrophic overfitting.


def test_pgd_accuracy_is_known_for_a_linear_model(rng):
    """Right under every perturbation: a margin above eps times the L1 norm."""
    w = np.array([[1.0, -1.0], [-2.0, 0.5], [0.3, 0.1], [-0.2, 0.4]]) / 100
    images = rng.integers(60, 190, (200, 2, 2, 1)).astype(np.uint8)
    difference = w[:, 1] - w[:, 0]
    scores = images.reshape(-1, 4) @ difference
    middle = np.median(scores)
    scores, labels = scores - middle, (scores > middle).astype(int)
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.layers[-1].set_weights([w, np.array([0, -middle])])
    expected = (np.abs(scores) > 8 * np.abs(difference).sum()).mean()
    assert 0.2 < expected < 0.8
    found = make("fgsm").metrics(model, images, labels)
    assert found == {"pgd_accuracy": pytest.approx(expected, abs=1e-9)}
    assert make("pgd").metrics(model, images, labels) == {}


class Run:
    """A network whose weights, batch statistics included, say the epoch they are of."""

    def __init__(self, history=()):
        self.model = keras.Sequential(
            [keras.Input((3,)), keras.layers.BatchNormalization()]
        )
        self.model.compile(keras.optimizers.SGD(use_ema=True))
        self.model.optimizer.build(self.model.trainable_variables)
        self.epoch, self.history = len(history), list(history)
        self._set(self.epoch)
        [self.callback] = make("fgsm").callbacks(self.history)
        self.callback.set_model(self.model)
        self.model.stop_training = False
        self.callback.on_train_begin()

    def _set(self, value):
        averages = self.model.optimizer._model_variables_moving_average
        for variable in (*self.model.weights, *averages):
            variable.assign(np.full(variable.shape, value))

    def end_epoch(self, accuracy):
        self._set(self.epoch + 1)
        self.history.append({"epoch": self.epoch + 1, "pgd_accuracy": accuracy})
        self.callback.on_epoch_end(self.epoch, {"pgd_accuracy": accuracy})
        self.epoch += 1

    @property
    def weights_of(self):
        averages = self.model.optimizer._model_variables_moving_average
        variables = (*self.model.weights, *averages)
        [value] = {float(v) for variable in variables for v in variable.numpy()}
        return value


def rows(*accuracies):
    return [{"epoch": i + 1, "pgd_accuracy": a} for i, a in enumerate(accuracies)]


def test_a_fall_stops_and_brings_the_weights_back(capsys):
    run = Run()
    for accuracy in (0.3, 0.5, 0.35):
        run.end_epoch(accuracy)
        assert not run.model.stop_training and run.weights_of == run.epoch
    assert capsys.readouterr().err == ""
    run.end_epoch(0.02)
    assert run.model.stop_training and run.weights_of == 3
    reverted = [row["epoch"] for row in run.history if row.get("reverted")]
    assert reverted == [4]
    assert final_metrics(run.history)["epoch"] == 3
    assert capsys.readouterr().err == (
        "Catastrophic overfitting: the PGD accuracy fell from 50.0% to 2.0% in epoch "
        "4; training stops with the weights of epoch 3.\n"
    )


def test_a_fall_is_measured_from_the_best():
    run = Run()
    for accuracy in (0.5, 0.31, 0.3):  # by exactly 0.2 at last
        run.end_epoch(accuracy)
    assert not run.model.stop_training
    run.end_epoch(0.29)
    assert run.model.stop_training and run.weights_of == 3


def test_a_resumed_run_knows_the_best_and_the_weights():
    run = Run(rows(0.5, 0.4))
    assert not run.model.stop_training
    run.end_epoch(0.25)
    assert run.model.stop_training and run.weights_of == 2


def test_a_run_that_had_stopped_stays_so(capsys):
    """Its checkpoint holds the weights that came back; they are left alone."""
    run = Run(rows(0.5, 0.4, 0.1))
    assert run.model.stop_training and run.weights_of == 3
    assert "with the weights of epoch 2" in capsys.readouterr().err


def test_only_fgsm_has_the_check():
    for name in OBJECTIVES:
        assert len(make(name).callbacks([])) == (name == "fgsm")


# Settings.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"objective": "mixup"},
            "--objective must be one of clean, pgd, fgsm, trades, noise; got 'mixup'",
        ),
        ({"adversary_eps": 0}, r"--adversary_eps must be in \(0, 255\]; got 0"),
        ({"adversary_eps": float("nan")}, "--adversary_eps .* got nan"),
        ({"adversary_steps": 0}, "--adversary_steps must be from 1 to 1000000; got 0"),
        (
            {"adversary_step_size": 256},
            r"--adversary_step_size must be in \(0, 255\]; got 256",
        ),
        ({"trades_beta": -1}, "--trades_beta must be at least 0; got -1"),
        ({"trades_beta": float("inf")}, "--trades_beta .* got inf"),
        ({"noise_std": 0}, r"--noise_std must be in \(0, 255\]; got 0"),
        ({"label_smoothing": 1}, r"--label_smoothing must be in \[0, 1\); got 1"),
    ],
)
def test_wrong_settings(change, message):
    with pytest.raises(UserError, match=message):
        ObjectiveConfig(**change)
