import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from inres_tf.models.logits import check_classifier, logits_fn

L = keras.layers


def classifier(*top, width=5):
    inputs = keras.Input((6,))
    x = L.Dense(width, activation="relu")(inputs)
    for layer in top:
        x = layer(x)
    return keras.Model(inputs, x)


class OwnSoftmax(L.Layer):
    def call(self, x):
        return keras.ops.softmax(x)


@pytest.mark.parametrize(
    "top",
    [
        [L.Dense(3, activation="softmax")],
        [L.Dense(3), L.Softmax()],
        [L.Dense(3), L.Activation("softmax")],
        [keras.Sequential([L.Dense(3), L.Softmax()])],
        [L.Dense(3), keras.ops.softmax],
        [L.Dense(3, activation=keras.ops.softmax)],
        [L.Dense(3, activation=tf.nn.softmax)],
        [L.Dense(3, activation=L.Softmax())],
        [L.Dense(3), L.Lambda(tf.nn.softmax)],
        [L.Dense(3), OwnSoftmax()],
        [L.Dense(3, activation="softmax"), L.Dropout(0.5)],
        [L.Dense(3, activation="softmax"), L.Activation("linear", dtype="float32")],
        [L.Dense(3, activation="softmax"), lambda x: keras.ops.cast(x, "float32")],
        [L.Dense(3), L.Reshape((3, 1)), L.Softmax(axis=1), L.Flatten()],
        [L.Reshape((1, 1, 5)), L.Conv2D(3, 1, activation="softmax"), L.Reshape((3,))],
        [
            L.Reshape((1, 1, 5)),
            L.Conv2D(3, 1, activation="softmax"),
            L.GlobalAveragePooling2D(),
        ],
        [L.Dense(3), L.Reshape((1, 3)), keras.ops.softmax, lambda x: x[:, 0]],
        [keras.Sequential([L.Dense(3), L.Softmax(), L.Dropout(0.1)]), L.Flatten()],
    ],
)
def test_softmax_is_removed(top, rng):
    model = classifier(*top)
    x = rng.normal(size=(7, 6)).astype(np.float32)
    logits = np.asarray(logits_fn(model)(tf.constant(x)))
    assert (logits < 0).any() and not np.allclose(logits.sum(-1), 1)
    np.testing.assert_allclose(tf.nn.softmax(logits), model(x), rtol=1e-5, atol=1e-7)


def test_the_logarithm_of_a_softmax_is_removed(rng):
    model = classifier(L.Dense(3, activation="log_softmax"))
    x = rng.normal(size=(7, 6)).astype(np.float32)
    logits = logits_fn(model)(tf.constant(x))
    np.testing.assert_allclose(tf.nn.log_softmax(logits), model(x), rtol=1e-5)


def test_what_follows_a_softmax_is_kept_in_training():
    model = classifier(L.Dense(400, activation="softmax"), L.Dropout(0.5))
    logits = np.asarray(logits_fn(model)(tf.ones((1, 6)), training=True))
    assert 0.3 < (logits == 0).mean() < 0.7


def test_linear_outputs_are_the_logits(rng):
    x = rng.normal(size=(7, 6)).astype(np.float32)
    for top in (
        [L.Dense(3)],
        [L.Dense(3), L.Activation("linear")],
        [L.Dense(3), L.Dropout(0.1)],
        [L.Dense(6), L.Reshape((2, 3)), lambda x: x[:, 0]],
        [L.Reshape((5, 1, 1)), L.Conv2D(3, 1), L.GlobalAveragePooling2D()],
    ):
        model = classifier(*top)
        np.testing.assert_array_equal(logits_fn(model)(tf.constant(x)), model(x))


def test_shares_the_variables_of_the_model(rng):
    model = zoo.InResNet8(input_shape=(8, 8, 1))
    x = rng.integers(0, 256, (3, 8, 8, 1)).astype(np.float32)
    logits = logits_fn(model)
    before = np.asarray(logits(x))
    head = model.get_layer("predictions")
    head.bias.assign_add(np.arange(10.0))
    np.testing.assert_allclose(
        logits(x) - before, np.tile(np.arange(10.0), (3, 1)), atol=1e-5
    )
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(logits(x, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g is not None and np.isfinite(g).all() for g in gradients)


def test_logits_have_gradients_where_the_softmax_saturates():
    model = keras.Sequential([keras.Input((1,)), L.Dense(2, activation="softmax")])
    model.layers[0].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    x = tf.constant([[200.0]])

    def input_gradient(function, from_logits):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = keras.losses.sparse_categorical_crossentropy(
                tf.constant([1]), tf.identity(function(x)), from_logits=from_logits
            )
        return float(tape.gradient(loss, x)[0, 0])

    assert input_gradient(model, False) == 0.0
    assert input_gradient(logits_fn(model), True) == pytest.approx(2.0)


def test_models_that_are_not_image_classifiers():
    def model(shape, *layers):
        return keras.Sequential([keras.Input(shape), *layers])

    check_classifier(model((8, 8, 1), L.Flatten(), L.Dense(2)))
    for invalid, message in (
        (model((64,), L.Dense(10)), r"not an image.*Received: \[\(None, 64\)\]"),
        (model((8, 8, 1), L.Flatten(), L.Dense(1)), "at least two classes"),
        (model((8, 8, 1), L.Conv2D(3, 1)), r"Received: \(None, 8, 8, 3\)"),
        (keras.Sequential([L.Dense(2)]), "not a functional or built"),
    ):
        with pytest.raises(ValueError, match=message):
            check_classifier(invalid)


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed(), "not a functional"),
        (lambda x: x, "not a functional"),
        (classifier(L.Dense(3, activation="sigmoid")), "activation 'sigmoid'"),
        (classifier(L.Dense(3, "sigmoid"), L.Dropout(0.1)), "activation 'sigmoid'"),
        (classifier(L.Dense(3, lambda x: tf.nn.softmax(x / 2))), "'<lambda>'"),
        (
            classifier(L.Dense(3, "softmax"), lambda x: keras.ops.clip(x, 1e-7, 1)),
            "Clip",
        ),
        (classifier(L.Dense(6), L.Reshape((2, 3)), L.Softmax(), L.Flatten()), "Softm"),
        (
            classifier(
                L.Reshape((5, 1, 1)),
                L.Conv2D(3, 1, activation="softmax"),
                L.GlobalAveragePooling2D(),
            ),
            "Conv2D .* with activation 'softmax'",
        ),
        (
            classifier(L.Dense(4, "softmax"), lambda x: x[:, :3]),
            "it changes the probabilities of Dense",
        ),
        (keras.Model(i := keras.Input((2,)), [i, i]), "2 outputs"),
    ],
)
def test_models_without_logits(model, message):
    with pytest.raises(ValueError, match=f"cannot be found.*{message}"):
        logits_fn(model)
