"""Training objectives: the losses that a training step minimises.

`ObjectiveConfig` holds the settings, `make_objective` creates the objective of that
name, and `Objective` is the interface of all.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
