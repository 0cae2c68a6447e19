"""Damped residual networks for Keras 3: layers, training, evaluation, export.

Importing this package registers its layers with Keras, so that
`keras.models.load_model` reads any model of the zoo. The submodules that need
TensorFlow (`attacks`, `data`, `training`, ...) are imported when first used.
"""

import importlib

from inres_tf import layers
from inres_tf.residuals import additions, damp

__version__ = "0.1.0"

_LAZY = (
    "attacks",
    "checkpoints",
    "convert",
    "corrupted_sets",
    "corruptions",
    "data",
    "evaluation",
    "export",
    "histories",
    "logits",
    "loop",
    "monitoring",
    "objectives",
    "pipeline",
    "plots",
    "recipes",
    "rematerialization",
    "report",
    "reproduce",
    "runs",
    "schedules",
    "sharding",
    "step",
    "strategies",
    "tables",
    "training",
)

__all__ = ["additions", "damp", "layers", "__version__", *_LAZY]


def __getattr__(name: str):
    if name in _LAZY:
        return importlib.import_module(f"inres_tf.{name}")
    raise AttributeError(f"module 'inres_tf' has no attribute {name!r}")
