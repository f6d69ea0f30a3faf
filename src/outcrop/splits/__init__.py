"""Splits by ground, not by dice; scikit-learn cross-validators too."""
