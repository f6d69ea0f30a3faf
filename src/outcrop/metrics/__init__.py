"""Scores with intervals for spatially dependent patches, calibration, area of applicability."""
