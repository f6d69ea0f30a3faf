"""Synthetic ground of known truth: coasts, seismic cubes, damaged patches, and stories on them."""
