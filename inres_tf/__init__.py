"""Damped residual networks for Keras 3: layers, training, evaluation, serving.

Nothing heavy is imported with this package: each module loads when it is first used.
As soon as Keras is imported, before or after this package, the layers of
`inres_tf.layers` are registered with it, so that `keras.models.load_model` reads any
model of the zoo.
"""

import importlib
import pkgutil

import lazy_loader
import wrapt

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={module.name for module in pkgutil.iter_modules(__path__)},
    submod_attrs={
        "models.damping": ["damp"],
        "models.residuals": ["Addition", "additions"],
    },
)


@wrapt.when_imported("keras")
def _register_layers(keras):
    importlib.import_module("inres_tf.layers")
