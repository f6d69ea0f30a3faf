"""Synthetic ground of known truth: coasts, seismic cubes, damaged patches, and stories on them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
