"""Training runs: from settings to a finished run's folder, whole or resumed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
