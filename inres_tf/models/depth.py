"""Starting a deeper network from the weights of one that is trained."""

import keras
import numpy as np
from keras import ops

from inres_tf.layers import dampings
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.models.graph import graph_calls, node_of
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
            or has other shapes there, or the outputs are not those of `model`, since
            a further block cannot be the identity. `deeper` is then unchanged.

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
    before = deeper.get_weights()
    try:
        known = _copy_weights(model, deeper)
        _silence_branches(deeper, known)
        _check_outputs(model, deeper)
    except ValueError:
        deeper.set_weights(before)
        raise


def _copy_weights(model, deeper):
    """Copies the weights of `model`; returns the names of its layers."""
    targets = {layer.name: layer for layer in deeper.layers}
    for layer in model.layers:
        target = targets.get(layer.name)
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if target is None and not shapes:
            continue
        found = target and [tuple(weight.shape) for weight in target.weights]
        if shapes != found:
            raise ValueError(
                f"{deeper.name!r} must have all layers of {model.name!r}, but "
                f"{layer.name!r} has weights of shapes {shapes} in one and "
                f"{'does not exist' if target is None else found} in the other."
            )
        target.set_weights(layer.get_weights())
        if isinstance(layer, keras.layers.Normalization):
            target.finalize_state()
    return {layer.name for layer in model.layers}


def _silence_branches(deeper, known):
    """Makes the residual blocks whose addition is not in `known` the identity."""
    shortcuts = scan(deeper)[1]
    for node in graph_calls(deeper):
        merge = node.operation
        damped = isinstance(merge, DampedAdd)
        if merge.name in known or not (damped or id(node) in shortcuts):
            continue
        if damped and merge.k is not None:
            merge.k.assign(dampings.scalar_of(merge.damping, 0.0))
        last = node_of(node.input_tensors[1 - shortcuts.get(id(node), 0)])
        while len(last.parent_nodes) == 1 and not _weights(last):
            (last,) = last.parent_nodes
        for weight in _weights(last):
            weight.assign(ops.zeros_like(weight))


def _weights(node):
    """The trainable weights of the layer that is called."""
    return getattr(node.operation, "trainable_weights", [])


def _check_outputs(model, deeper):
    """Raises ValueError unless both models compute the same."""
    rng = np.random.default_rng(0)
    inputs = [
        rng.uniform(0, 255, [2, *(side or 32 for side in tensor.shape[1:])])
        for tensor in model.inputs
    ]
    inputs = keras.tree.pack_sequence_as(model.input, inputs)
    for old, new in zip(
        keras.tree.flatten(model(inputs)), keras.tree.flatten(deeper(inputs))
    ):
        old, new = ops.convert_to_numpy(old), ops.convert_to_numpy(new)
        if old.shape != new.shape or not np.allclose(old, new, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"{deeper.name!r} cannot start with the outputs of {model.name!r}: "
                "each of its further layers must be in the branch of a residual block "
                "whose shortcut is the identity."
            )
