"""Synthetic data with known truth: coasts, seismic cubes, damaged patches, and the demos."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
