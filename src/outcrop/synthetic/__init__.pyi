"""Synthetic ground of known truth: coasts, seismic cubes, damaged patches, and stories on them."""

from .coast import make_coast as make_coast
from .cube import make_cube as make_cube
