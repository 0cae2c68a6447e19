"""Reading `.keras` files: the order of the layers, and files that are refused."""

import json
import zipfile

import keras
import numpy as np
import pytest

from inres_tf.errors import UserError
from inres_tf.layers import ConvDynamics, MaxMin, NeuralODE
from inres_tf.verifier import archive

layers = keras.layers


def rewrite(path, **members):
    """Replaces members of a zip file; None removes one."""
    with zipfile.ZipFile(path) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    for name, content in members.items():
        contents[name.replace("__", ".")] = content
    with zipfile.ZipFile(path, "w") as new:
        for name, content in contents.items():
            if content is not None:
                new.writestr(name, content)


@pytest.fixture
def saved_chain(tmp_path):
    """A functional model of three layers, and the path of its file."""
    inputs = keras.Input((2,))
    x = MaxMin()(layers.Dense(2, name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(4, name="second")(x))
    path = tmp_path / "chain.keras"
    model.save(path)
    return model, path


def test_layers_have_their_own_weights(saved_chain):
    model, path = saved_chain
    shape, found = archive.read(path)
    assert shape == (2,)
    assert [layer.kind for layer in found] == ["Dense", "inres_tf>MaxMin", "Dense"]
    for layer in (found[0], found[2]):
        kernel, bias = model.get_layer(layer.name).get_weights()
        assert layer.weights(2)[0].tolist() == kernel.tolist()
        assert layer.weights(2)[1].tolist() == bias.tolist()


def test_layers_are_in_the_order_of_the_chain(saved_chain):
    """The file may have another."""
    _, path = saved_chain
    _, expected = archive.read(path)
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))
    config["config"]["layers"][1:3] = config["config"]["layers"][2:0:-1]
    rewrite(path, config__json=json.dumps(config))
    _, found = archive.read(path)
    assert [layer.name for layer in found] == [layer.name for layer in expected]
    assert found[0].weights(2)[0].tolist() == expected[0].weights(2)[0].tolist()


def test_weights_of_layers_in_layers(tmp_path):
    inputs = keras.Input((4, 4, 2))
    layer = NeuralODE(ConvDynamics("time", filters=3), damping="in")
    path = tmp_path / "model.keras"
    keras.Model(inputs, layer(inputs)).save(path)
    (found,) = archive.read(path)[1]
    assert found.weights(1)[0] == layer.k.numpy()
    second = found.weights(3, "dynamics/operators/conv_operator_1")
    assert [w.shape for w in second] == [(3, 3, 3, 2), (1, 4, 4, 3), ()]
    with pytest.raises(UserError, match="must have 3 weights in dynamics; got 2"):
        found.weights(3, "dynamics")


def test_a_class_of_another_package_is_not_taken_for_one_of_keras(tmp_path):
    @keras.saving.register_keras_serializable(package="other")
    class Flatten(keras.layers.Flatten):
        pass

    model = keras.Sequential([keras.Input((2, 2)), Flatten()])
    model.save(tmp_path / "model.keras")
    (found,) = archive.read(tmp_path / "model.keras")[1]
    assert found.kind == "other>Flatten"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(bad, saved_chain):
    model, path = saved_chain
    model.layers[1].bias.assign([bad, 0.0])
    model.save(path)
    with pytest.raises(UserError, match="must have finite weights"):
        archive.read(path)[1][0].weights(2)


def truncated(path):
    path.write_bytes(path.read_bytes()[:2000])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def renamed_weights(path):
    with zipfile.ZipFile(path) as file:
        config = file.read("config.json").replace(b'"second"', b'"other"')
    rewrite(path, config__json=config)


DAMAGES = {
    "not a zip file": lambda path: path.write_text("weights"),
    "truncated": truncated,
    "flipped bit": flipped,
    "no weights": lambda path: rewrite(path, model__weights__h5=None),
    "weights that are no HDF5": lambda path: rewrite(path, model__weights__h5=b"x"),
    "another zip file": lambda path: rewrite(path, config__json=None),
    "no JSON": lambda path: rewrite(path, config__json=b"{"),
    "other JSON": lambda path: rewrite(path, config__json=b"[]"),
    "weights of another model": renamed_weights,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(damage, saved_chain):
    _, path = saved_chain
    DAMAGES[damage](path)
    with pytest.raises(UserError, match="chain.keras is damaged or not a Keras model"):
        archive.read(path)


@pytest.mark.filterwarnings("ignore")  # Keras advises against the format
def test_the_older_format_of_keras_is_named(saved_chain, tmp_path):
    model, _ = saved_chain
    model.save(tmp_path / "old.h5")
    with pytest.raises(UserError, match="older HDF5 format; load the model in Keras"):
        archive.read(tmp_path / "old.h5")


def residual(x):
    return layers.Add(name="sum")([x, layers.Dense(2)(x)])


def shared(x):
    layer = layers.Dense(2, name="shared")
    return layer(layer(x))


def two_outputs(x):
    return [x, layers.Dense(2, name="extra")(x)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (residual, "layer 'sum' .Add. takes the outputs of 2 layers"),
        (shared, "layer 'shared' .Dense. takes the outputs of 2 layers"),
        (two_outputs, "must have one output, its last layer 'extra'"),
    ],
)
def test_models_that_are_no_chains(build, message, tmp_path):
    inputs = keras.Input((2,))
    path = tmp_path / "model.keras"
    keras.Model(inputs, build(layers.Dense(2, name="dense")(inputs))).save(path)
    with pytest.raises(UserError, match=message):
        archive.read(path)


def test_branches(tmp_path):
    inputs = keras.Input((2,))
    left, right = (layers.Dense(2, name=name)(inputs) for name in ("left", "right"))
    path = tmp_path / "model.keras"
    keras.Model(inputs, [left, right]).save(path)
    with pytest.raises(UserError, match="branches into left, right"):
        archive.read(path)


def test_images_of_no_fixed_shape(tmp_path):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((None, 4, 1)), layers.Conv2D(2, 3)]).save(path)
    with pytest.raises(UserError, match=r"no fixed shape: \[None, 4, 1\]"):
        archive.read(path)


def test_finds_the_file_of_a_run(tmp_path):
    with pytest.raises(UserError, match="no checkpoint; .* a .keras file, a run"):
        archive.find(tmp_path)
    for step in (9, 10):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "model.keras").touch()
    assert archive.find(tmp_path) == folder / "model.keras"
    assert archive.find(folder) == folder / "model.keras"
    (tmp_path / "model.keras").touch()
    assert archive.find(tmp_path) == tmp_path / "model.keras"
    assert archive.find(tmp_path / "model.keras") == tmp_path / "model.keras"
