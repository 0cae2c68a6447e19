"""Corruptions of CIFAR-10-C: generated on the fly or read from ready-made sets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
