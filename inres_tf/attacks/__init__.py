"""Adversarial attacks on image classifiers.

All attacks are untargeted: they search an L-infinity or L2 ball around each image for
one that is misclassified. They take and return pixels in [0, 255], and take `eps` and
`step_size` in the same units, 1/255 of the pixel range. Models are attacked through
their logits, in float32 and in inference mode; their variables do not change. All
devices of the strategy in scope share each batch, but under the `cleverhans_` attacks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
