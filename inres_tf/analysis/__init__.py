"""Analyses of robust networks beyond their accuracy under attack.

Each analysis is a function of a functional Keras classifier of pixels in [0, 255],
images and labels. It returns NumPy arrays, which a function in `figures` plots.
Distances are in 1/255 of the pixel range. Models are analysed in float32 and inference
mode, and compiled once for any number of images. Within the scope of a `tf.distribute`
strategy, its devices share each batch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
