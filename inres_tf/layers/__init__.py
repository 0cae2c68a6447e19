"""Keras layers of damped residual networks; pure Keras 3, for any backend."""

from inres_tf.layers._damping_rates import (
    BLOCKS,
    damped_layers,
    damping_rates,
    dead_blocks,
    set_damping_rates,
)
from inres_tf.layers._tighten import tighten
from inres_tf.layers.batch_normalization import BatchNormalization
from inres_tf.layers.convex_potential import (
    ConvexPotentialConv2D,
    ConvexPotentialDense,
)
from inres_tf.layers.damped_add import DampedAdd
from inres_tf.layers.grouped_conv2d import GroupedConv2D
from inres_tf.layers.initializers import PartialIdentity, PatchWhitening
from inres_tf.layers.isometries import ResizeChannels, SpaceToDepth
from inres_tf.layers.lipschitz import LipschitzConv2D, LipschitzDense, MaxMin
from inres_tf.layers.neural_ode import ConvDynamics, NeuralODE
from inres_tf.layers.orthogonal import ShiftedOrthogonal
from inres_tf.layers.uniform_noise import UniformNoise

__all__ = [
    "BLOCKS",
    "BatchNormalization",
    "ConvDynamics",
    "ConvexPotentialConv2D",
    "ConvexPotentialDense",
    "DampedAdd",
    "GroupedConv2D",
    "LipschitzConv2D",
    "LipschitzDense",
    "MaxMin",
    "NeuralODE",
    "PartialIdentity",
    "PatchWhitening",
    "ResizeChannels",
    "ShiftedOrthogonal",
    "SpaceToDepth",
    "UniformNoise",
    "damped_layers",
    "damping_rates",
    "dead_blocks",
    "set_damping_rates",
    "tighten",
]
