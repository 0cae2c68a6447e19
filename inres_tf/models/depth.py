"""Starting a deeper network from the weights of one that is trained."""

import keras
import numpy as np
from keras import ops

from inres_tf.layers import dampings
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.models.damping import copy_weights
from inres_tf.models.graph import graph_calls, node_of, unpack_single, with_last_inputs
from inres_tf.models.residuals import check_functional, scan


def deepen(model: keras.Model, deeper: keras.Model) -> None:
    """Gives a deeper network the weights of a shallower one, and its outputs.

    Layers are matched by name. In each residual block that only `deeper` has, the last
    layer of the branch is set to 0, and so is λ: the block is the identity, and
    learns from there.

    Args:
        model: functional Keras model, such as `zoo.InResNet20(weights="cifar10")`.
        deeper: model of the same kind with further residual blocks, such as
            `zoo.InResNet56()`, which is changed in place.

    Raises:
        ValueError: if a model is subclassed, a layer of `model` is missing in `deeper`
            or has weights of other shapes there, the inputs differ in shape, or the
            outputs are not those of `model`, since a further block cannot be the
            identity. After any error, `deeper` is unchanged.

    Example:
        >>> trained, deeper = zoo.InResNet8(), zoo.InResNet20()
        >>> inres_tf.deepen(trained, deeper)
        >>> rates = inres_tf.layers.damping_rates(deeper)
        >>> rates["stage1_block2_merge"], rates["stage1_block3_merge"]
        (0.0, 0.0)

    Reference:
        Chen et al., Net2Net, ICLR 2016 (arXiv 1511.05641), section 2.3; zeros in place
        of an identity kernel, as the blocks are residual.
    """
    for each in (model, deeper):
        check_functional(each)
    before = [(layer, _weights_of(layer)) for layer in deeper._flatten_layers()]
    try:
        _copy(model, deeper)
        _zero_branches(deeper, {layer.name for layer in model.layers})
        _check_outputs(model, deeper)
    except BaseException:
        for layer, weights in before:
            layer.load_own_variables(weights)
        raise


def _weights_of(layer):
    """A copy of the weights of a layer, without those of its sublayers."""
    weights = {}
    layer.save_own_variables(weights)
    return {name: ops.convert_to_numpy(value) for name, value in weights.items()}


def _copy(model, deeper):
    """Copies the weights of each layer to the layer of the same name."""
    targets = {layer.name: layer for layer in deeper.layers}
    for layer in model.layers:
        target = targets.get(layer.name)
        shapes, found = (
            [tuple(weight.shape) for weight in each.weights] if each is not None else []
            for each in (layer, target)
        )
        if shapes != found:
            raise ValueError(
                f"{deeper.name!r} must have all layers of {model.name!r} with weights, "
                f"but the weights of {layer.name!r} have the shapes {shapes} there, "
                f"and {found or 'do not exist'} in {deeper.name!r}."
            )
        if shapes:
            copy_weights(layer, target)


def _zero_branches(deeper, known):
    """Makes the blocks the identity whose branch ends in a layer not in `known`."""
    shortcuts = scan(deeper)[1]
    for node in graph_calls(deeper):
        merge = node.operation
        damped = isinstance(merge, DampedAdd)
        if not (damped or id(node) in shortcuts):
            continue
        last = node_of(node.input_tensors[1 - shortcuts.get(id(node), 0)])
        while len(last.parent_nodes) == 1 and not _trainable(last):
            (last,) = last.parent_nodes
        if last.operation.name in known:
            continue
        for weight in _trainable(last):
            weight.assign(ops.zeros_like(weight))
        if damped and merge.k is not None:
            merge.k.assign(dampings.scalar_of(merge.damping, 0.0))


def _trainable(node):
    """The trainable weights of the layer that is called."""
    return getattr(node.operation, "trainable_weights", [])


def _check_outputs(model, deeper):
    """Raises ValueError unless both models compute the same."""
    shapes = [[tuple(x.shape) for x in each.inputs] for each in (model, deeper)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{model.name!r} and {deeper.name!r} must take inputs of the same shape. "
            f"Received: {shapes[0]} and {shapes[1]}"
        )
    rng = np.random.default_rng(0)
    inputs = unpack_single(
        [rng.uniform(0, 255, [2, *(side or 32 for side in x[1:])]) for x in shapes[0]]
    )
    expected, found = (
        [ops.convert_to_numpy(x) for x in with_last_inputs(each)(inputs)]
        for each in (model, deeper)
    )
    if [x.shape for x in expected] != [x.shape for x in found] or not all(
        np.allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())
        for a, b in zip(expected, found)
    ):
        raise ValueError(
            f"{deeper.name!r} cannot start with the outputs of {model.name!r}: "
            "each of its further layers must be in the branch of a residual block "
            "whose shortcut is the identity."
        )
