"""Certificates of saved models, computed again without Keras and without the layers.

Nothing here imports Keras, TensorFlow or the layers: the forward pass, the operator
norms and the composition of Lipschitz constants are written anew in NumPy float64.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
