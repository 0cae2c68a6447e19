"""Attacks on classifiers of pixels.

Every attack takes and returns pixels in [0, 255], with `eps` and `step_size` in the same
units (1/255 of the pixel range), and attacks the true labels in the L-infinity or the
L2 ball. Models are attacked through their logits, in float32 and in inference mode; no
variable changes. Under the strategy in scope all devices share each batch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
