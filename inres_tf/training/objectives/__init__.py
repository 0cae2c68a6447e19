"""Training objectives by name: what a training step minimises.

`ObjectiveConfig` holds their settings, `make_objective` builds the one it names, and
`Objective`
is their interface.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
