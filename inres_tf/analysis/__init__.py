"""Analyses of robust networks: what lies behind an accuracy under attack.

Each is a function of a functional Keras classifier of pixels in [0, 255], images and
labels that gives NumPy arrays, and has a plot in `figures`. Distances are in 1/255 of
the pixel range. Models are analysed in float32 and evaluation mode, compiled once for
any number of images; under the strategy in scope all devices share each batch.
"""

from inres_tf.analysis import figures
from inres_tf.analysis.blocks import Block, Chain, damped_at
from inres_tf.analysis.calibration import (
    Calibration,
    CorruptedCalibration,
    calibration,
    corrupted_calibration,
)
from inres_tf.analysis.gradients import GradientNorms, gradient_norms
from inres_tf.analysis.landscape import Landscape, landscape
from inres_tf.analysis.lipschitz import Lipschitz, lipschitz
from inres_tf.analysis.lyapunov import Lyapunov, growth, lyapunov
from inres_tf.analysis.spectral import largest_singular_value
from inres_tf.analysis.suite import ANALYSES, AnalysisConfig, analyze, table

__all__ = [
    "landscape",
    "Landscape",
    "lyapunov",
    "growth",
    "Lyapunov",
    "lipschitz",
    "Lipschitz",
    "largest_singular_value",
    "gradient_norms",
    "GradientNorms",
    "calibration",
    "corrupted_calibration",
    "Calibration",
    "CorruptedCalibration",
    "Block",
    "Chain",
    "damped_at",
    "figures",
    "ANALYSES",
    "AnalysisConfig",
    "analyze",
    "table",
]
