"""Analyses of robust networks: what lies behind an accuracy under attack.

Each analysis is a function of a functional Keras classifier of pixels in [0, 255],
images and labels. It returns NumPy arrays and has a plot in `figures`. Distances are in
1/255 of the pixel range. Models are analysed in float32 and in inference mode, compiled
once for any number of images. Under the strategy in scope all devices share each batch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
