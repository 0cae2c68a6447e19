"""Damped residual networks for Keras 3: layers, training, evaluation, serving.

Nothing heavy is imported with this package: each module loads when it is first used.
As soon as Keras is imported, before or after this package, the layers of
`inres_tf.layers` are registered with it, so that `keras.models.load_model` reads any
model of the zoo.
"""

import importlib
import pkgutil
import sys

import lazy_loader
import wrapt

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={module.name for module in pkgutil.iter_modules(__path__)},
    submod_attrs={
        "models.damping": ["damp"],
        "models.depth": ["deepen"],
        "models.residuals": ["Addition", "additions"],
    },
)


@wrapt.when_imported("keras")
def _register_layers(keras):
    importlib.import_module("inres_tf.layers")


def _check_program():
    """Explains why `python -m train.NAME` runs a train.py of the user's.

    Python finds that file in the working folder first, and runs it as the package
    `train`. Only if it imports this package is there a place to say so.
    """
    other = sys.modules.get("train")
    if sys.argv[:1] == ["-m"] and other and not hasattr(other, "__path__"):
        sys.exit(
            f"{other.__file__} hides the package train of inres-tf: run the command "
            "inres-NAME instead of python -m train.NAME, or start it in another folder"
        )


_check_program()
