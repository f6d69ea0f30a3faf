"""Scores with intervals that know that neighbours are not independent."""
