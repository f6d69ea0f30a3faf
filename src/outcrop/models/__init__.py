"""Networks (tensors in, tensors out) and classical baselines; no files, no geography."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
