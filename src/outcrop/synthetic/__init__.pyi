"""Synthetic data with known truth: coasts, seismic cubes, damaged patches, and the demos."""

from .coast import make_coast as make_coast
from .cube import make_cube as make_cube
